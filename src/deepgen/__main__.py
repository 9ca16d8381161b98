"""``python -m deepgen`` is ``deepgen``. Importing takes a moment, in which signals may come."""

import sys

from deepgen.cli.signals import exit_at_signals


def run() -> int:
    """Run the command line of this process and return its exit code."""
    arguments = sys.argv[1:]
    exit_at_signals(arguments)
    from deepgen.cli.main import main

    code = main(arguments)
    exit_at_signals(arguments, code)
    return code


if __name__ == "__main__":
    sys.exit(run())
