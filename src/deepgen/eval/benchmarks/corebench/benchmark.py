"""T2I-CoReBench: composition and reasoning, a checklist of questions per image.

Source: KlingAIResearch/T2I-CoReBench at ebf7b7a, Apache-2.0; twelve dimensions of 90 prompts
(arXiv 2509.03516). ``corebench/reasoning`` is the eight reasoning dimensions of the DeepGen paper.
Protocol: four images a prompt, one yes-or-no question a call; an image's score is its fraction of
yes, a dimension the mean over images times 100, the overall an unweighted mean of dimensions.
Judge: Gemini 2.5 Flash (the authors' table); Qwen3-VL-32B-Thinking (the DeepGen paper).
Values: ``answers``, per question 1, 0, or null where the reply was unreadable.
Known differences: the official code leaves unreadable questions out however many they are; here an
image with more than a tenth of them fails (``status_of``). The official sampler crops black
borders away. The public RL list of the reference contains all 1,080 prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from deepgen.errors import BenchmarkError
from deepgen.eval.benchmark import (
    Benchmark,
    ImageRecord,
    Item,
    ItemList,
    Json,
    Metric,
    PromptFile,
    ScoreTerm,
    Source,
    Status,
    Values,
    equal_weights,
    generation_presets,
)
from deepgen.eval.benchmarks.corebench.judge_prompts import JUDGE_PROMPTS
from deepgen.eval.prompt_files import (
    find_file,
    read_json_entries,
    require_fields,
    require_file,
    require_unique,
)

COMPOSITION = ("C-MI", "C-MA", "C-MR", "C-TR")
REASONING = ("R-LR", "R-BR", "R-HR", "R-PR", "R-GR", "R-AR", "R-CR", "R-RR")
DIMENSIONS = (*COMPOSITION, *REASONING)
PROMPTS_PER_DIMENSION = 90

MOST_UNREADABLE = 0.1
"""Fraction of an image's questions; beyond it the image's score would rest on too few of them."""

_HASHES = {
    "C-TR": "5cd3bf63a3b592903d7cb880ca6ec457dfe8cdfad0d2c69db51472cba8362a29",
    "R-LR": "219895df3fd37f141a971633a7af17c9aca1b54ef4c0b9967292156c7203e3b9",
    "R-HR": "012c0d10d350a5edfe39fcaa6c4cc6fc5ab2adb70479e61f8162badf5670a15e",
    "R-AR": "c356fe77620c47e9f540c5755e2b08efa3c992c32bd99c47b1851485e98e53b5",
    "R-RR": "5f94745af411bb64b81a12a04dd9248d26380700876111b661d5535eccaa8dcd",
}


def load(dimensions: Sequence[str], folder: Path) -> ItemList:
    """The prompts of the dimensions whose files are there."""
    present = {
        name: path
        for name in dimensions
        if (path := find_file(folder, f"{name}.json", f"data/{name}.json"))
    }
    if not present:
        require_file(folder, f"{dimensions[0]}.json")
    items = []
    for name, path in present.items():
        for index, (place, identifier, found) in enumerate(read_json_entries(path)):
            row = require_fields(found, place, Prompt=str, Checklist=list)
            for question in row["Checklist"]:
                require_fields(question, place, question=str)
            items.append(
                Item(
                    id=identifier,
                    # Counted from the complete list, so that a seed depends on no missing file.
                    number=DIMENSIONS.index(name) * PROMPTS_PER_DIMENSION + index,
                    prompt=row["Prompt"],
                    category=name,
                    fields={"questions": [each["question"] for each in row["Checklist"]]},
                )
            )
    absent = tuple(f"{name}.json" for name in dimensions if name not in present)
    return ItemList(items=require_unique(items, folder), absent=absent)


def image_path(item: Item, image_index: int) -> PurePosixPath:
    """``R-LR/R-LR-017-3.png``."""
    return PurePosixPath(item.category, f"{item.id}-{image_index}.png")


def status_of(answers: Sequence[int | None]) -> Status:
    """Whether enough of an image's questions were answered for a score."""
    unread = sum(answer is None for answer in answers)
    return "unreadable" if unread > MOST_UNREADABLE * len(answers) else "scored"


def score_terms(item: Item, images: Sequence[Values]) -> Iterator[ScoreTerm]:
    """Fraction of yes among an image's readable answers."""
    group = "composition" if item.category in COMPOSITION else "reasoning"
    for values in images:
        answers = _answers(item, values.get("answers"))
        readable = [answer for answer in answers if answer is not None]
        if not readable:
            continue
        score = 100 * sum(readable) / len(readable)
        yield ScoreTerm("overall", item.category, score)
        yield ScoreTerm(group, item.category, score)


def _answers(item: Item, found: Json) -> Sequence[int | None]:
    expected = len(item.fields["questions"])
    if not isinstance(found, list | tuple) or len(found) != expected:
        raise BenchmarkError(
            f"item {item.id}: expected {expected} answers, one a question, found {found!r}"
        )
    if any(answer not in (0, 1, None) for answer in found):
        raise BenchmarkError(f"item {item.id}: an answer is 1, 0 or null, found {found!r}")
    return found


def lowest_values(item: Item) -> Values:
    """Every answer is no."""
    return {"answers": [0] * len(item.fields["questions"])}


def official_failure(item: Item, record: ImageRecord) -> Values | None:
    """Whatever answers were readable count, however few."""
    return record.values if "answers" in record.values else None


def _variant(
    name: str, title: str, dimensions: tuple[str, ...], metrics: Mapping[str, tuple[str, ...]]
) -> Benchmark:
    return Benchmark(
        name=name,
        title=title,
        task="text-to-image",
        source=Source(
            repository="KlingAIResearch/T2I-CoReBench",
            commit="ebf7b7a",
            licence="Apache-2.0",
            files=tuple(
                PromptFile(
                    path=f"{each}.json", repo_path=f"data/{each}.json", sha256=_HASHES.get(each)
                )
                for each in dimensions
            ),
        ),
        folder="t2i_corebench",
        scorer="judge",
        judge="gemini-2.5-flash, or Qwen3-VL-32B-Thinking",
        expected_items=PROMPTS_PER_DIMENSION * len(dimensions),
        generation=generation_presets(4),
        load=partial(load, dimensions),
        image_path=image_path,
        metrics=tuple(
            Metric(name=each, weights=equal_weights(members), bounds=(0, 100), digits=1)
            for each, members in metrics.items()
        ),
        score_terms=score_terms,
        lowest_values=lowest_values,
        official_failure=official_failure,
        judge_prompts=JUDGE_PROMPTS,
    )


COREBENCH = _variant(
    "corebench",
    "T2I-CoReBench",
    DIMENSIONS,
    {"overall": DIMENSIONS, "composition": COMPOSITION, "reasoning": REASONING},
)
COREBENCH_REASONING = _variant(
    "corebench/reasoning", "T2I-CoReBench (reasoning)", REASONING, {"reasoning": REASONING}
)

BENCHMARKS = (COREBENCH, COREBENCH_REASONING)
