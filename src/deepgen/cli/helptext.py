"""The help of a command, set in plain columns from what the parser knows of its options."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

SHORTEST_LINE, LONGEST_LINE = 60, 100
COLUMN = 26
"""Where descriptions start."""

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
CASED = {"lora": "LoRA", "vlm": "VLM", "dit": "DiT"}
FRAME = str.maketrans("│", " ")
RULE = re.compile(r"^[\s╭╰╯╮─-]*$")
TITLE = re.compile(r"^(?:╭─ (?P<framed>.*?) ─*╮| (?P<plain>[A-Za-z].*))$")
NOTHING = re.compile(r"\s*\(default: (?:None)?\)")
REQUIRED = re.compile(r"\s*\(required\)")
SWITCH_DEFAULT = re.compile(r"\s*\(default: (?:True|False)\)")


@dataclass(slots=True)
class Option:
    """One line of help: how an option or argument is written, and what it means."""

    invocation: str
    text: str

    @property
    def names(self) -> list[str]:
        """Its flags; none for a positional argument."""
        return [each.split(" ")[0] for each in self.invocation.split(", ") if each[0] == "-"]

    @property
    def value(self) -> str:
        """How its value is called; empty for a switch."""
        last = self.invocation.split(", ")[-1]
        return last.partition(" ")[2] if last.startswith("-") else last


@dataclass(slots=True)
class Group:
    """Options under one heading."""

    title: str
    text: str = ""
    options: list[Option] = field(default_factory=list)

    def heading(self) -> str:
        """Its title and text, or the text alone where that begins with the title."""
        if self.text.lower().startswith(self.title.lower()):
            return f"{self.text.rstrip('.')}:"
        return f"{self.title}: {self.text}" if self.text else f"{self.title}:"


@dataclass(slots=True)
class HelpText:
    """Everything that the parser says about a command."""

    usage: str
    text: str
    groups: list[Group]

    def options(self) -> Iterator[Option]:
        """All of them, in order."""
        for group in self.groups:
            yield from group.options

    def render(
        self, examples: Sequence[str], lists: Mapping[str, Mapping[str, str]] | None = None
    ) -> str:
        """The help as it is printed.

        Args:
            lists: What options or arguments may be, under headings of their own.
        """
        width = min(LONGEST_LINE, max(SHORTEST_LINE, shutil.get_terminal_size().columns))
        parts = [self.usage, *textwrap.wrap(self.text, width), ""]
        for group in self.groups:
            if not group.options:
                continue
            parts += textwrap.wrap(group.heading(), width)
            for option in group.options:
                parts += _lines(option, width)
            parts.append("")
        for title, choices in (lists or {}).items():
            parts.append(f"{title}:")
            for name, text in choices.items():
                parts += _lines(Option(name, text), width)
            parts.append("")
        parts += ["Examples:", *(f"  {each}" for each in examples)]
        return "\n".join(parts)


def read_help(text: str) -> HelpText:
    """Understand the parser's own help, which must be wide enough to break no line."""
    lines = [line.translate(FRAME).rstrip() for line in COLOURS.sub("", text).splitlines()]
    starts = [index for index, line in enumerate(lines) if TITLE.match(line)]
    head = lines[: starts[0]] if starts else lines
    usage = next((line for line in head if line.startswith("usage:")), "")
    about = " ".join(line for line in head if line and line != usage)
    groups = [
        _group(lines[start:end]) for start, end in zip(starts, [*starts[1:], None], strict=True)
    ]
    usage = re.sub(r"\[(?:[A-Z -]* )?OPTIONS\]", "[OPTIONS]", usage.replace(" [-h]", ""))
    usage = readable(usage)
    return HelpText(usage=usage.replace("usage:", "Usage:"), text=about, groups=groups)


def _group(lines: Sequence[str]) -> Group:
    found = TITLE.match(lines[0])
    assert found is not None
    title = (found["framed"] or found["plain"]).removesuffix(" options")
    body = list(lines[1:])
    while body and RULE.match(body[0]):
        del body[0]
    rules = [index for index, line in enumerate(body) if line and RULE.match(line)]
    text = ""
    if rules and rules[0] < len(body) - 1 and any(map(str.strip, body[rules[0] + 1 :])):
        text = " ".join(line.strip() for line in body[: rules[0]])
        body = body[rules[0] + 1 :]
    if title == "positional arguments":
        title = "arguments"
    group = Group(title=CASED.get(title, title.capitalize()), text=text)
    for line in body:
        if not line or RULE.match(line):
            continue
        if re.match(r"^  \S", line):
            invocation, _, help_ = line.strip().partition("  ")
            group.options.append(Option(readable(invocation), help_.strip()))
        elif group.options:
            option = group.options[-1]
            option.text = f"{option.text} {line.strip()}".strip()
    for option in group.options:
        option.text = _cleaned(option)
    # Help about help comes last.
    group.options.sort(key=lambda option: "--help" in option.names)
    return group


def readable(invocation: str) -> str:
    """An invocation without the parser's notation for sets, lists and types."""
    invocation = re.sub(r"^(-\w) \S+, --", r"\1, --", invocation)
    invocation = re.sub(r"\[(\S+) \[\1 \.\.\.\]\]", r"\1 ...", invocation)
    invocation = re.sub(r"\[(\S+ \S+) \[\1 \.\.\.\]\]", r"\1 ...", invocation)
    invocation = re.sub(r"\bSTR\b", "TEXT", invocation.replace("{None}|", ""))
    return re.sub(r"\{([^{} ]*)\}", lambda found: found[1].replace(",", "|"), invocation)


def _cleaned(option: Option) -> str:
    """A description without defaults that say nothing."""
    text = NOTHING.sub("", option.text).replace("``", "")
    if not option.names:
        # The usage has all arguments.
        text = REQUIRED.sub("", text)
    if option.names and not option.value:
        text = SWITCH_DEFAULT.sub("", text)
        if option.names[-1].startswith("--no-"):
            text = f"Do not {text[:1].lower()}{text[1:]}"
    if option.names == ["-h", "--help"]:
        return "Show this help."
    return text


def _lines(option: Option, width: int) -> list[str]:
    start = f"  {option.invocation}"
    lines = textwrap.wrap(option.text, width - COLUMN, break_on_hyphens=False) or [""]
    if len(start) + 2 > COLUMN:
        return [start, *(" " * COLUMN + line for line in lines)]
    return [start.ljust(COLUMN) + lines[0], *(" " * COLUMN + line for line in lines[1:])]
