"""Words that the project has replaced by the field's terms stay replaced."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

REPLACED = re.compile(
    r"pictures?\b|\b(goes|went) on\b|\bown words\b|own_words|drawing_microbatches|fill_up|"
    r"entire_state|telling_what_needs_less|\bknobs?\b|quicken|VisitDraws|\bopening\.py|"
    r"train_reader|\bPatience\b|\blessons?\b",
    re.IGNORECASE,
)

MEANT = {
    # Sentences that models were trained on, and keys that seed random numbers.
    "src/deepgen/mini/world": ("picture",),
    "src/deepgen/mini/training": ("picture", "lessons"),
}


def test_replaced_words_do_not_return() -> None:
    paths = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
    for folder in ("src", "perf", "tests"):
        paths += (ROOT / folder).rglob("*.py")
    found = []
    for path in paths:
        name = path.relative_to(ROOT).as_posix()
        meant = [word for start, words in MEANT.items() if name.startswith(start) for word in words]
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            words = {each.group().lower() for each in REPLACED.finditer(line)}
            if words.difference(meant, [f"{word}s" for word in meant]):
                found.append(f"{name}:{number}: {line.strip()}")
    assert [line for line in found if not line.startswith("tests/test_vocabulary.py")] == []
