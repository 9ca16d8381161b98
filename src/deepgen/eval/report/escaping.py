"""Texts of users, prompt files and servers, in the formats of reports; ``page.py`` escapes HTML."""

from __future__ import annotations

import re

# Whatever begins or ends an element of Markdown in the middle of a line. Underscores within words
# begin nothing, and names of models are full of them.
_MARKDOWN = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}

# C0 and C1 controls, and what reverses the direction of the text after it.
_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

FORMULAS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What begins a formula where a table is opened in a spreadsheet, the wide forms included."""


def markdown(text: object) -> str:
    """A text in a line or a cell of Markdown: shown as it is, without markup and line breaks."""
    line = _INVISIBLE.sub("\ufffd", " ".join(str(text).split()))
    whole = "".join(_ENTITIES.get(each, each) for each in line)
    return _MARKDOWN.sub(lambda found: f"\\{found[0]}", whole)


def csv_cell(text: str) -> str:
    """A text in a cell of a table: spreadsheets compute nothing from it."""
    return f"'{text}" if text.lstrip().startswith(FORMULAS) or text[:1] in ("\t", "\r") else text
