"""The command ``deepgen``: parse, run one command, and report an error in one line.

Exit codes: 0 done; 2 the user's input cannot be used; 1 an internal error; 3 images of a benchmark
are not scored, or none could be; 75 a training that a signal stopped, to be started again; 130
interrupted, 143 terminated, 141 standard output was closed, as other programs.
"""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Sequence
from typing import TextIO

from deepgen.cli.collecting import collector_paused
from deepgen.cli.commands import GROUPS, Command, find, group_overview, overview
from deepgen.cli.console import OutputClosedError, print_line, print_result, waiting
from deepgen.cli.signals import (
    INTERRUPTED,
    RESUMES,
    STOPPED,
    TERMINATED,
    TerminatedError,
    is_training,
    raise_at_signals,
)
from deepgen.errors import DeepGenError, StoppedError, shortened
from deepgen.library_logs import quiet_libraries

DONE = 0
FAILED = 1
UNUSABLE_INPUT = 2
CLOSED_PIPE = 128 + 13


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    try:
        with collector_paused(), waiting(arguments[0] if arguments else ""):
            try:
                command = _parse(arguments)
            except SystemExit as end:
                # Help was printed.
                return end.code if isinstance(end.code, int) else FAILED
        with raise_at_signals(arguments):
            return DONE if command is None else _run(command)
    except KeyboardInterrupt:
        return _report("interrupted", INTERRUPTED, debug=debug)
    except TerminatedError:
        if is_training(arguments):
            print_line(RESUMES)
            return STOPPED
        return _report("terminated", TERMINATED, debug=debug)
    except OutputClosedError:
        # As `yes | head`: whoever read has enough. What is still buffered goes nowhere.
        out = sys.__stdout__
        if out is not None and sys.stdout is out:
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        return CLOSED_PIPE
    except StoppedError as stop:
        print_line(str(stop))
        return STOPPED
    except (DeepGenError, ValueError) as error:
        return _report(str(error), UNUSABLE_INPUT, debug=debug)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return _report("a path is too long for any file", UNUSABLE_INPUT, debug=debug)
        return _failed(error, debug=debug)
    except Exception as error:
        return _failed(error, debug=debug)


def _run(command: Command) -> int:
    """Run a command with warnings as lines; its exit code."""
    quiet_libraries()
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        # These are for programmers who use the libraries, not for users of the command.
        for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
        return command.run() or DONE


def _parse(arguments: Sequence[str]) -> Command | None:
    """The command of a command line; None where a help or the version was printed instead.

    Raises:
        UsageError: The command line cannot be used.
        SystemExit: The help of one command was printed.
    """
    arguments = list(arguments)
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    if not arguments:
        from deepgen.cli.demo import Alone

        return Alone()
    first = arguments[0]
    if first in ("-h", "--help"):
        print_result(overview())
        return None
    if first in ("-V", "--version"):
        from importlib.metadata import version

        print_result(f"deepgen {version('deepgen-image')}")
        return None
    if first in GROUPS and arguments[1:2] in (["-h"], ["--help"]):
        print_result(group_overview(first))
        return None
    name, entry, rest = find(arguments)
    return entry.parse(name, rest)


def _failed(error: Exception, *, debug: bool) -> int:
    """Report an internal error."""
    hint = "" if debug else "; --debug shows where"
    return _report(f"{type(error).__name__}: {error}{hint}", FAILED, debug=debug)


def _report(message: str, code: int, *, debug: bool) -> int:
    """Print the line, after the traceback with ``--debug``."""
    if debug:
        import traceback

        traceback.print_exc()
    print_line(f"error: {shortened(message)}")
    return code


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    print_line(f"warning: {message}")


if __name__ == "__main__":
    sys.exit(main())
