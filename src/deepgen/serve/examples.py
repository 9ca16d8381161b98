"""Prompts that show what a model can do, for the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deepgen.reading import read_json

GALLERY = "gallery.json"
"""In a model's folder: prompts, with ``zh`` where there is a Chinese one, and edits among them."""


def examples(folder: Path) -> dict[str, list[dict[str, str]]]:
    """What to try, ``generate`` and ``edit``; texts by language, empty where a model names none."""
    found: dict[str, list[dict[str, str]]] = {"generate": [], "edit": []}
    try:
        entries: Any = read_json(folder / GALLERY)
        for each in entries:
            kind = "edit" if "edits" in each else "generate"
            texts = {"en": each["prompt"], "zh": each.get("zh", each["prompt"])}
            found[kind].append({language: str(text) for language, text in texts.items()})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        # A model need not have any.
        return {"generate": [], "edit": []}
    return found
