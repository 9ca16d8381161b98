"""A tokenizer's files, judged before its library reads them, which ends the process on some.

The library applies the rules of ``tokenizer.json`` to every prompt. Thirty of them that each double
a text make gigabytes of one letter, and memory that cannot be had ends the process.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from deepgen import reading
from deepgen.checkpoint.files import VOCABULARY_NAMES, ModelFolder
from deepgen.errors import CheckpointError, reason_of

MAX_BYTES = 32 << 20
"""Of one file; those of the largest vocabularies in use have 17 MB."""

MAX_GROWTH = 64
"""Times as long as a text may become by replacements; usual are a space by one other character."""

MAX_RULES = 64
"""Of a tokenizer; Qwen2.5's has four."""

RULES = ("normalizer", "pre_tokenizer", "post_processor", "decoder")


def check_tokenizer(folder: ModelFolder) -> None:
    """Refuse a tokenizer whose files are too large, or that makes too much of a text.

    Raises:
        CheckpointError: It is, or a file cannot be read.
    """
    for name in VOCABULARY_NAMES:
        path = folder.path / "tokenizer" / name
        if path.is_file() and path.stat().st_size > MAX_BYTES:
            raise CheckpointError(f"tokenizer/{name} has more than {MAX_BYTES:,} bytes, the limit")
    path = folder.path / "tokenizer" / "tokenizer.json"
    if not path.is_file():
        return
    try:
        values = reading.read_json(path, limit=MAX_BYTES)
    except (OSError, ValueError) as cause:
        raise CheckpointError(f"tokenizer/ cannot be read: {reason_of(cause)}") from cause
    if not isinstance(values, dict):
        raise CheckpointError("tokenizer/tokenizer.json must hold a JSON object")
    rules = [rule for name in RULES for rule in _rules(values.get(name))]
    growth = 1
    for rule in rules:
        growth *= _growth(rule)
    if len(rules) > MAX_RULES or growth > MAX_GROWTH:
        raise CheckpointError(
            f"tokenizer/tokenizer.json has {len(rules)} rules that can make a text {growth:.3g} "
            f"times as long; at most {MAX_RULES} and {MAX_GROWTH} are applied"
        )


def _rules(values: Any) -> Iterator[dict[str, Any]]:
    """All objects with a type within one entry, in any order."""
    remaining = [values]
    while remaining:
        each = remaining.pop()
        if isinstance(each, dict):
            remaining.extend(each.values())
            if isinstance(each.get("type"), str):
                yield each
        elif isinstance(each, list):
            remaining.extend(each)


def _growth(rule: dict[str, Any]) -> int:
    """By how much a replacement can lengthen a text; a pattern may match every character."""
    if rule["type"] != "Replace":
        return 1
    content, pattern = rule.get("content"), rule.get("pattern")
    replaced = pattern.get("String") if isinstance(pattern, dict) else None
    length = len(replaced) if isinstance(replaced, str) and replaced else 1
    return max(1, -(-len(content) // length)) if isinstance(content, str) else 1
