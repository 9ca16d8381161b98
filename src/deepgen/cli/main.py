"""The command ``deepgen``: parse, run one command, and report an error in one line.

Exit codes: 0 done; 2 the user's input cannot be used; 1 an internal error; 75 stopped by a signal
after saving, to be started again; 130 interrupted.
"""

from __future__ import annotations

import errno
import sys
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr
from io import StringIO
from typing import Annotated, TextIO

import tyro

from deepgen.cli.console import print_line
from deepgen.cli.data import Data
from deepgen.cli.edit import Edit
from deepgen.cli.eval import Eval
from deepgen.cli.generate import Generate
from deepgen.cli.info import Info
from deepgen.cli.train import Train, parse_train
from deepgen.cli.train_mini import TrainMini, parse_train_mini
from deepgen.errors import DeepGenError, StoppedError

Command = (
    Annotated[Generate, tyro.conf.subcommand("generate")]
    | Annotated[Edit, tyro.conf.subcommand("edit")]
    | Annotated[Info, tyro.conf.subcommand("info")]
    | Annotated[Data, tyro.conf.subcommand("data")]
    | Annotated[Eval, tyro.conf.subcommand("eval")]
    | Annotated[Train, tyro.conf.subcommand("train")]
)

DONE = 0
FAILED = 1
UNUSABLE_INPUT = 2
STOPPED = 75
"""EX_TEMPFAIL; batch systems start such a job again."""

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        command = _parse(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else FAILED
    except KeyboardInterrupt:
        return _report("interrupted", INTERRUPTED, debug=False)
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        # These are for programmers who use the libraries, not for users of the command.
        for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
        try:
            command.run()
        except KeyboardInterrupt:
            return _report("interrupted", INTERRUPTED, debug=command.debug)
        except StoppedError as stop:
            print_line(str(stop))
            return STOPPED
        except (DeepGenError, ValueError) as error:
            return _report(str(error), UNUSABLE_INPUT, debug=command.debug)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return _report(
                    "a path is too long for any file", UNUSABLE_INPUT, debug=command.debug
                )
            return _failed(error, debug=command.debug)
        except Exception as error:
            return _failed(error, debug=command.debug)
    return DONE


def _parse(arguments: Sequence[str]) -> Generate | Edit | Info | Data | Eval | Train | TrainMini:
    """Parse a command line.

    Raises:
        SystemExit: Help was printed (0), or an error in the command line (2).
    """
    parser_error = StringIO()
    try:
        with redirect_stderr(parser_error):
            if arguments[:1] == ["train"]:
                # "train mini" trains all stages, with different settings.
                is_mini = "mini" in arguments[1:2]
                return (parse_train_mini if is_mini else parse_train)(arguments[1:])
            return tyro.cli(
                Command,
                prog="deepgen",
                description="Text-to-image generation and image editing.",
                args=list(arguments),
                config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes),
            )
    except ValueError as error:
        raise SystemExit(_report(str(error), UNUSABLE_INPUT, debug=False)) from None
    except SystemExit as end:
        if end.code:
            _report(_message(parser_error.getvalue()), UNUSABLE_INPUT, debug=False)
        raise


def _message(box: str) -> str:
    """The parser's message, without the frame around it."""
    words: list[str] = []
    for line in box.splitlines():
        inner = line.strip(" │")
        if inner.startswith("───") and words:
            break
        if inner and not line.startswith(("╭", "╰")):
            words.append(inner)
    found = " ".join(words).rstrip(".") or "the command line cannot be used"
    return f"{found}; see deepgen --help, and --help after the command"


def _failed(error: Exception, *, debug: bool) -> int:
    """Report an internal error."""
    hint = "" if debug else "; --debug shows where"
    return _report(f"{type(error).__name__}: {error}{hint}", FAILED, debug=debug)


def _report(message: str, code: int, *, debug: bool) -> int:
    """Print the line, after the traceback with ``--debug``."""
    if debug:
        import traceback

        traceback.print_exc()
    print_line(f"error: {message}")
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
