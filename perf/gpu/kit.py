"""The command of the kit; each subcommand imports only what it needs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

COMMANDS = {
    "pack": "pack the bundle that a bare machine runs plans from: pack bundle.zip",
    "rehearse": "run all plans from a bundle at toy size, in an environment of the oldest versions",
    "run": "run a plan from this checkout: run PLAN --out FOLDER",
    "split": "take a file or folder apart, to bring it back: split SOURCE FOLDER",
    "join": "put it together again: join FOLDER TARGET",
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
    if name == "pack":
        from gpu import bundle

        return bundle.main
    if name == "run":
        from gpu import run

        return run.main
    if name == "rehearse":
        from gpu import rehearse

        return rehearse.main
    from gpu import parts

    return {"split": parts.main_split, "join": parts.main_join}[name]
