"""UniREditBench: edits of the real world and of games, judged by a VLM that sees a reference.

Source: Maplebb/UniREditBench at a7015c5; data maplebb/UniREditBench on the hub, Apache-2.0; 2,700
edits, 150 for each of 18 names (arXiv 2511.01295).
Protocol: one image an edit; consistency C, reasoning R and quality Q from 1 to 5,
``score = .3 C + .5 R + .2 Q`` and percent = 25 (score - 1); overall the mean over edits. Tables
show two halves, real world and games, whose mean is the overall.
Judge: gpt-4.1-2025-04-14.
Values: ``consistency``, ``reasoning``, ``quality``.
Known differences: none in the arithmetic; the official code leaves failed edits out.
Not verified: no copy of ``data.json`` was at hand, its fields are those its loader reads; and which
names make up the eight dimensions of the published table (``DIMENSIONS``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from deepgen.errors import BenchmarkError
from deepgen.eval.benchmark import (
    Benchmark,
    Item,
    ItemList,
    Metric,
    PromptFile,
    ScoreTerm,
    Source,
    Values,
    equal_weights,
    generation_presets,
)
from deepgen.eval.benchmarks.uniredit.judge_prompts import JUDGE_PROMPTS
from deepgen.eval.prompt_files import read_json_list, require_fields, require_file, require_unique
from deepgen.eval.values import whole_number

# Sizes follow from published rows (real world 2, 2, 3, 2 names; games 1, 3, 2, 3). That the names
# fill them in the order of the authors' list is a guess.
DIMENSIONS = {
    "attribute": ("viewpoint transformation", "pose adjustment"),
    "structure": ("temporal evolution", "material modification"),
    "physical": (
        "structural integrity change",
        "motion state change",
        "mechanical reaction",
    ),
    "property": ("medium interaction", "spatial arrangement"),
    "spatial": ("3DReconstruction",),
    "strategic": ("Pacman", "Jewel2", "Space Invader"),
    "long-horizon": ("Maze", "Sokoban"),
    "logic": ("Tic-tac-toe", "Sudoku", "Word Search"),
}
REAL_WORLD = tuple(
    name for each in ("attribute", "structure", "physical", "property") for name in DIMENSIONS[each]
)
_DIMENSION = {name: dimension for dimension, names in DIMENSIONS.items() for name in names}
_FILE = "data.json"

JUDGED = ("consistency", "reasoning", "quality")


def load(folder: Path) -> ItemList:
    """One item an entry; ``idx`` alone repeats, so the id is name and ``idx``."""
    path = require_file(folder, _FILE)
    items = []
    for number, (place, found) in enumerate(read_json_list(path)):
        row = require_fields(
            found,
            place,
            original_image_path=str,
            reference_image_path=str,
            instruction=str,
            name=str,
            idx=(str, int),
        )
        if row["name"] not in _DIMENSION:
            raise BenchmarkError(f"{place}: the name {row['name']!r} is none of the eighteen")
        instruction, rules = row["instruction"].strip(), row.get("rules")
        items.append(
            Item(
                id=f"{row['name']}/{row['idx']}",
                number=number,
                # A space before the drawing model and a line break before the judge, officially.
                prompt=f"{rules} {instruction}" if rules else instruction,
                category=row["name"],
                sources=(PurePosixPath(row["original_image_path"]),),
                fields={
                    "reference_image": row["reference_image_path"],
                    "reference_effect": row.get("reference_effect"),
                    "judge_instruction": f"{rules}\n{instruction}" if rules else instruction,
                },
            )
        )
    return ItemList(items=require_unique(items, path))


def score_terms(item: Item, images: Sequence[Values]) -> Iterator[ScoreTerm]:
    """Percent and accuracy of one edit, under its name, dimension and half."""
    half = "real world" if item.category in REAL_WORLD else "games"
    for values in images:
        consistency, reasoning, quality = (
            whole_number(item, values, name, 1, 5) for name in JUDGED
        )
        percent = 25 * (0.3 * consistency + 0.5 * reasoning + 0.2 * quality - 1)
        yield ScoreTerm("percent", item.category, percent)
        yield ScoreTerm("dimensions", _DIMENSION[item.category], percent)
        yield ScoreTerm("halves", half, percent)
        accurate = consistency == reasoning == quality == 5
        yield ScoreTerm("accuracy", item.category, 100 * accurate)


UNIREDIT = Benchmark(
    name="uniredit",
    title="UniREditBench",
    task="editing",
    source=Source(
        repository="Maplebb/UniREditBench",
        commit="a7015c5",
        licence="Apache-2.0",
        files=(
            PromptFile(
                path=_FILE,
                repo_path=None,
                by_hand="huggingface.co/datasets/maplebb/UniREditBench",
            ),
        ),
    ),
    folder="unireditbench",
    scorer="judge",
    judge="gpt-4.1-2025-04-14",
    expected_items=2700,
    generation=generation_presets(1, editing=True),
    load=load,
    metrics=(
        Metric(name="percent", bounds=(0, 100)),
        Metric(name="halves", weights=equal_weights(("real world", "games")), bounds=(0, 100)),
        Metric(name="dimensions", bounds=(0, 100)),
        Metric(name="accuracy", bounds=(0, 100)),
    ),
    score_terms=score_terms,
    lowest_values=lambda item: dict.fromkeys(JUDGED, 1),
    judge_prompts=JUDGE_PROMPTS,
)

BENCHMARKS = (UNIREDIT,)
