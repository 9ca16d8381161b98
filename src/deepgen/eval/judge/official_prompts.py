"""A benchmark's judge prompts: where its authors publish them, and our paraphrases.

A reworded judge prompt is another benchmark, so the official text is read from the authors' files
when a run is scored (``deepgen.scoring.templates``); a benchmark's ``judge_prompts.py`` has only
its location.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from deepgen.scoring.templates import PinnedFile, TemplateSource


@dataclass(frozen=True, kw_only=True, slots=True)
class OfficialText:
    """One official prompt."""

    symbols: tuple[str, ...]
    """Where it stands in the file (``TemplateSource.symbol``); joined by line breaks if several."""
    style: Literal["plain", "format", "marks"] = "plain"
    """How the official code fills it: f-strings or not at all, ``str.format``, or by replacing
    marks, which are then the keys of ``placeholders``."""
    placeholders: Mapping[str, str] = field(default_factory=dict)
    """From the authors' names of placeholders to ours, where they differ."""

    def sources(self, file: PinnedFile) -> list[TemplateSource]:
        """Its pieces in a file."""
        marks = tuple(self.placeholders) if self.style == "marks" else ()
        style: Literal["plain", "format"] = "format" if self.style == "format" else "plain"
        return [
            TemplateSource(file=file, symbol=symbol, style=style, marks=marks)
            for symbol in self.symbols
        ]


@dataclass(frozen=True, kw_only=True, slots=True)
class OfficialPrompts:
    """All prompts of one benchmark, in one file of its repository."""

    file: PinnedFile
    texts: Mapping[str, OfficialText]
    """By the names that the benchmark's scorer uses."""
    terms: str = ""
    """Symbol of a dictionary of definitions that the prompts quote, if there is one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptSources:
    """The judge prompts of a benchmark."""

    paraphrased: Mapping[str, str]
    """Ours, with placeholders in braces and the same forms of reply as the official ones. Their
    scores are not comparable with published ones."""
    official: OfficialPrompts | None = None
    """None where their location in the authors' files is not known."""


def unverified_file(repository: str, commit: str, path: str) -> PinnedFile:
    """A file that nobody has verified yet; its hash is trusted on first use."""
    return PinnedFile(repository=repository, commit=commit, path=path, sha256=None)
