"""``python -m deepgen`` is ``deepgen``. Importing takes a moment, which may be interrupted."""

import sys


def run() -> int:
    """Run the command line of this process and return its exit code."""
    try:
        from deepgen.cli.main import main

        return main()
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted\n")
        return 130


if __name__ == "__main__":
    sys.exit(run())
