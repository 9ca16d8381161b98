"""Words that the project has replaced by the field's terms stay replaced."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

REPLACED = re.compile(
    r"pictures?\b|\b(goes|went) on\b|\bown words\b|\bown_words|drawing_microbatches|fill_up|"
    r"entire_state|telling_what_needs_less|\bknobs?\b|quicken|VisitDraws|\bopening\.py|"
    r"train_reader|\bPatience\b|\blessons?\b|\bheadlines?\b|\bun?divided\b|\bcompanions?\b|"
    r"\bsubstitutions?\b|\btapp(ed|ing)\b|tapped_states|\blent\b|[a-z]_share\b|\bcontribute\(|"
    r"\bcopy: int|\b(go|going) on\b|\btaken up again\b|\bheed|\boutline_folder|\binputs_of\b|"
    r"keep_settings|claim_run|\bis no [a-z]+;",
    re.IGNORECASE,
)

MEANT = {
    # Sentences that models were trained on, and keys that seed random numbers.
    "src/deepgen/mini/world": ("picture",),
    "src/deepgen/mini/training": ("picture", "pictures", "lessons"),
}


def test_replaced_words_do_not_return() -> None:
    paths = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
    for folder in ("src", "perf", "tests"):
        for suffix in ("py", "html", "css", "yaml", "md"):
            paths += (ROOT / folder).rglob(f"*.{suffix}")
    found = []
    for path in paths:
        name = path.relative_to(ROOT).as_posix()
        meant = [word for start, words in MEANT.items() if name.startswith(start) for word in words]
        text = path.read_text(encoding="utf-8")
        for each in REPLACED.finditer(text):
            if each.group().lower().rstrip("s") not in (word.rstrip("s") for word in meant):
                found.append(f"{name}:{text.count(chr(10), 0, each.start()) + 1}: {each.group()}")
    assert [line for line in found if not line.startswith("tests/test_vocabulary.py")] == []
