"""Parsing one command, with help and messages in the user's words instead of the parser's."""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any, TypeVar

import tyro

from deepgen.cli.console import print_result
from deepgen.cli.helptext import HelpText, Option, read_help, readable
from deepgen.cli.options import quoted
from deepgen.errors import UsageError

Command = TypeVar("Command")

WIDE = "129"
"""Columns that the parser is told of: the most that it does not set its groups side by side in."""

EXPECTED = {
    "INT": "a whole number",
    "PIXELS": "a whole number of pixels",
    "FLOAT": "a number",
    "SECONDS": "a number of seconds",
}
"""What a value should have been, by how the help calls it."""

LISTED = 10
"""Choices that a message lists; the help has longer lists."""

OTHER_NAMES: Mapping[str, Sequence[str]] = {
    "--size": ("--width", "--height"),
    "--resolution": ("--width", "--height"),
    "--n": ("--num-images",),
    "--count": ("--num-images",),
    "--cfg": ("--guidance",),
    "--cfg-scale": ("--guidance",),
}
"""Options as other programs call them, and ours."""


def parse(
    command: type[Command],
    arguments: Sequence[str],
    *,
    name: str,
    examples: Sequence[str],
    default: Command | None = None,
    keep_prefixes: bool = False,
    in_name: Sequence[str] = (),
) -> Command:
    """One command from its arguments.

    Args:
        command: A dataclass whose fields are options and arguments. Its ``HELP_LISTS``, if any,
            are lists that its help ends with.
        name: Words of the command, without the program's.
        default: Values where the arguments give none, instead of the fields' own.
        keep_prefixes: Nested settings keep the name of their group in front.
        in_name: Arguments that ``name`` ends with, which the help therefore leaves out.

    Raises:
        UsageError: What was found, what was expected.
        SystemExit: Help was asked for, and printed.
    """
    markers: list[Any] = [tyro.conf.FlagCreatePairsOff]
    if not keep_prefixes:
        markers.append(tyro.conf.OmitArgPrefixes)
    options: dict[str, Any] = {} if default is None else {"default": default}

    def run(given: Sequence[str]) -> Command:
        found: Command = tyro.cli(
            command, prog=f"deepgen {name}", args=list(given), config=tuple(markers), **options
        )
        return found

    out, err = StringIO(), StringIO()
    try:
        with _wide(), redirect_stdout(out), redirect_stderr(err):
            return run(arguments)
    except SystemExit as end:
        if not end.code:
            # The parser leaves out the arguments that were given before --help.
            lists = getattr(command, "HELP_LISTS", None)
            print_result(help_of(lambda asked: run([*in_name, *asked])).render(examples, lists))
            raise
    raise UsageError(_explain(err.getvalue(), arguments, name, lambda: help_of(run)))


def help_of(run: Callable[[Sequence[str]], object]) -> HelpText:
    """What the parser says about a command when asked for help."""
    out = StringIO()
    try:
        with _wide(), redirect_stdout(out):
            run(["--help"])
    except SystemExit:
        pass
    return read_help(out.getvalue())


@contextmanager
def _wide() -> Iterator[None]:
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = WIDE
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def closest(word: str, known: Sequence[str]) -> str | None:
    """The known word that was probably meant."""
    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=0.6)), None)


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """The rest of a message about an unknown word; empty if nothing is like it."""
    found = closest(word, known)
    return f"; did you mean {found}?" if found else ""


def _explain(
    message: str, arguments: Sequence[str], name: str, read: Callable[[], HelpText]
) -> str:
    """The parser's message in one sentence."""
    lines = [line.strip(" │") for line in message.splitlines()]
    # A title, the message, and hints of the parser's own, between rules.
    pieces = re.split(r"[-─]{5,}", " ".join(line for line in lines if line))
    text = next((each.strip() for each in pieces[1:] if each.strip(" ╮╯╭╰")), "").lstrip("╮ ")
    more = f"see deepgen {name} --help"
    if found := re.search(r"Unrecognized options: (.*)", text):
        return _unrecognized(found[1].split(", "), arguments, name, read())
    if found := re.search(
        r"invalid choice '(.*)' for argument '(\S*)'. Expected one of \((.*?)\)", text
    ):
        # None is how an option is that was not given.
        choices = [
            own for each in found[3].split(",") if (own := each.strip(" '")) not in ("", "None")
        ]
        choices = _as_in_help(choices, found[2], read())
        where = f"{found[2]}: " if found[2].startswith("-") else ""
        hint = did_you_mean(found[1], choices)
        allowed = _listed(choices) if len(choices) <= LISTED else f"one of {len(choices)} names"
        return f"{where}found {found[1]!r}, expected {allowed}{hint or f'; {more}'}"
    if found := re.search(r"Missing value for argument '(\S*)'", text):
        if not found[1].startswith("-"):
            flags = [each for option in read().options() for each in option.names]
            unknown = [each for each in arguments if each.startswith("-") and each not in flags]
            if unknown and unknown[0].partition("=")[0] not in flags:
                return _no_option(unknown[0], flags, name)
        option = found[1] if found[1].startswith("-") else found[1].upper()
        return f"{option} needs a value; {more}"
    if found := re.search(r"Error parsing (\S+?): (.*)", text):
        return f"{_bad_value(found[1], found[2], read())}; {more}"
    if "Missing from" in text:
        known = {each.invocation: each for each in read().options()}
        missing = next((each for line in lines if (each := known.get(readable(line)))), None)
        if missing is not None:
            about = missing.text.removesuffix(" (required)").rstrip(".")
            return f"{missing.invocation} is missing: {about[:1].lower()}{about[1:]}; {more}"
    return f"{text.rstrip('. ') or 'the command line cannot be used'}; {more}"


def _bad_value(option: str, reason: str, known: HelpText) -> str:
    """A value of the wrong type."""
    about = next((each for each in known.options() if option in each.names), Option(option, ""))
    expected = EXPECTED.get(about.value, about.value or "another value")
    value = re.search(r"from (\[.*?\])\.|: ('[^']*')$", reason)
    if value is None:
        return f"{option}: {reason.rstrip('.')}"
    shown = (value[1] or value[2]).strip("[]")
    return f"{option}: found {shown}, expected {expected}"


def _unrecognized(
    words: Sequence[str], arguments: Sequence[str], name: str, known: HelpText
) -> str:
    """Unknown options, or words too many."""
    flags = sorted({flag for each in known.options() for flag in each.names})
    first = next((each for each in words if each.startswith("-")), None)
    if first is not None:
        return _no_option(first, flags, name)
    start = next(
        (i for i in range(1, len(arguments)) if list(arguments[i : i + len(words)]) == list(words)),
        None,
    )
    takes_text = any(each.invocation in ("PROMPT", "INSTRUCTION") for each in known.options())
    if takes_text and start is not None and not arguments[start - 1].startswith("-"):
        sentence = quoted(" ".join(arguments[start - 1 : start + len(words)]))
        return f"a text of several words needs quotes: deepgen {name} {sentence}"
    extra = " ".join(map(shlex.quote, words))
    return f"found {extra}, which deepgen {name} has no use for; see deepgen {name} --help"


def _no_option(word: str, flags: Sequence[str], name: str) -> str:
    option = word.partition("=")[0]
    others = [each for each in OTHER_NAMES.get(option, ()) if each in flags]
    hint = f"; use {' and '.join(others)}" if others else did_you_mean(option, flags)
    hint = hint or f"; see deepgen {name} --help"
    return f"there is no option {option}{hint}"


def _as_in_help(choices: Sequence[str], option: str, known: HelpText) -> list[str]:
    """Choices in the order of the help; the parser's messages have them in none."""
    about = next((each for each in known.options() if option in each.names), None)
    order = re.split(r"[{},|]", about.value) if about else []
    return sorted(choices, key=lambda each: order.index(each) if each in order else len(order))


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
