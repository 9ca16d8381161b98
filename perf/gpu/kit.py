"""The command of the kit; each subcommand imports only what it needs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

COMMANDS = {
    "run": "run a plan: run PLAN --out FOLDER",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] not in COMMANDS:
        lines = (f"  {name:10}{text}" for name, text in COMMANDS.items())
        print("commands (each has --help):", *lines, sep="\n", file=sys.stderr)
        return 2
    return _command(arguments[0])(arguments[1:])


def _command(name: str) -> Callable[[Sequence[str]], int]:
    from gpu import run

    return {"run": run.main}[name]
