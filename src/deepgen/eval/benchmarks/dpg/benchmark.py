"""DPG-Bench: long dense prompts, a graph of yes-or-no questions per prompt, judged by a VQA model.

Source: TencentQQGYLab/ELLA at 3c228f1, folder dpg_bench, Apache-2.0; 1,065 prompts
(arXiv 2403.05135). The questions, ``dpg_bench.csv``, are needed for scoring only.
Protocol: four images a prompt. An answer counts only if all questions it depends on hold; an
image's score is the mean over its questions, the result 100 times the mean over prompts.
Judge: mPLUG-large VQA (ModelScope), of whose answers exactly "yes" counts.
Values: ``answers``, from question number to true or false.
Known differences, all kept under ``dpg/official``: the official code skips the first row of the
questions, drops a prompt on any exception, follows dependencies in the order of rows, and takes the
category scores from the raw answers of the last image alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePosixPath

from deepgen.errors import BenchmarkError
from deepgen.eval.benchmark import (
    Benchmark,
    Item,
    ItemList,
    Json,
    Metric,
    PromptFile,
    ScoreTerm,
    Source,
    Values,
    generation_presets,
)
from deepgen.eval.benchmarks.dpg.judge_prompts import JUDGE_PROMPTS
from deepgen.eval.prompt_files import (
    find_file,
    read_csv,
    read_json_lines,
    read_text,
    require_fields,
    require_file,
    require_unique,
)

PROMPTS = "prompts"
PROMPT_LINES = "prompts_dpgbench.jsonl"
QUESTIONS = "dpg_bench.csv"
EXPECTED = 1065

ORIGINS = (
    "partiprompts",
    "COCOval",
    "countbench",
    "diffusiondb",
    "drawtext",
    "localized",
    "midjourney",
    "posescript",
    "stanford",
    "vrd",
    "whoops",
)


def load(folder: Path, *, official: bool = False) -> ItemList:
    """The prompts by id, and their questions where those are there.

    Args:
        official: Lose the first row of the questions, as the official code does.
    """
    prompts = _read_prompts(folder)
    questions_path = find_file(folder, QUESTIONS, f"dpg_bench/{QUESTIONS}")
    questions = _read_questions(questions_path, official=official) if questions_path else {}
    if questions_path and (unasked := prompts.keys() - questions.keys()) and not official:
        raise BenchmarkError(
            f"{questions_path} has no question on {min(unasked)}; fetch the file again"
        )
    items = [
        Item(
            id=identifier,
            number=number,
            prompt=prompts[identifier],
            category=next((each for each in ORIGINS if identifier.startswith(each)), "plain"),
            fields={"questions": questions.get(identifier, [])},
        )
        for number, identifier in enumerate(sorted(prompts))
    ]
    absent = () if questions_path else (QUESTIONS,)
    return ItemList(items=require_unique(items, folder), absent=absent)


def _read_prompts(folder: Path) -> dict[str, str]:
    """From one file a prompt, as published, or from all in one file of lines."""
    if lines := find_file(folder, PROMPT_LINES):
        rows = [
            require_fields(row, place, key=str, prompt=str) for place, row in read_json_lines(lines)
        ]
        return {row["key"]: row["prompt"] for row in rows}
    files = [
        path
        for place in (PROMPTS, f"dpg_bench/{PROMPTS}")
        for path in sorted((folder / place).glob("*.txt"))
    ]
    if len(files) < EXPECTED:
        require_file(folder, f"{PROMPTS} with {EXPECTED} prompts (it has {len(files)})")
    return {path.stem: read_text(path) for path in files}


def _read_questions(path: Path, *, official: bool) -> dict[str, list[Mapping[str, Json]]]:
    questions: dict[str, list[Mapping[str, Json]]] = {}
    columns = dict.fromkeys(
        ("item_id", "proposition_id", "dependency", "tuple", "question_natural_language"), str
    )
    for index, (place, found) in enumerate(read_csv(path)):
        row = require_fields(found, place, **columns)
        if official and index == 0:
            continue
        parents = [each.strip() for each in row["dependency"].split(",")]
        level2 = row["tuple"].split("(")[0].strip()
        question = {
            "id": row["proposition_id"].strip(),
            "parents": [parent for parent in parents if parent not in ("", "0")],
            "question": row["question_natural_language"],
            "level 1": level2.split("-")[0].strip(),
            "level 2": level2,
        }
        questions.setdefault(row["item_id"], []).append(question)
    if not official:
        for identifier, asked in questions.items():
            question_order(identifier, asked)
    return questions


def question_order(identifier: str, questions: Sequence[Mapping[str, Json]]) -> list[str]:
    """Question numbers, parents before children.

    Raises:
        BenchmarkError: A parent does not exist, or questions depend on each other in a circle.
    """
    graph = {each["id"]: each["parents"] for each in questions}
    for number, parents in graph.items():
        if unknown := set(parents) - graph.keys():
            raise BenchmarkError(
                f"{QUESTIONS}, item {identifier}: question {number} depends on question "
                f"{min(unknown)}, which is not there"
            )
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError as cause:
        circle = ", ".join(cause.args[1])
        raise BenchmarkError(
            f"{QUESTIONS}, item {identifier}: questions {circle} depend on each other in a circle"
        ) from cause


def hold_dependencies(
    questions: Sequence[Mapping[str, Json]], answers: Mapping[str, Json], order: Sequence[str]
) -> dict[str, bool]:
    """Answers after every one whose parent does not hold was made a no.

    Raises:
        KeyError: A parent has no answer.
    """
    parents = {each["id"]: each["parents"] for each in questions}
    held = {number: bool(answer) for number, answer in answers.items()}
    for number in order:
        held[number] = all(held[parent] for parent in parents[number]) and held[number]
    return held


def image_path(item: Item, image_index: int) -> PurePosixPath:
    """``tiles/whoops7_3.png``: the official scorer takes every file beside the grids for a grid."""
    return PurePosixPath("tiles", f"{item.id}_{image_index}.png")


def grid_path(item: Item) -> PurePosixPath:
    """``whoops7.png``: top left, top right, bottom left, bottom right."""
    return PurePosixPath(f"{item.id}.png")


def score_terms(item: Item, images: Sequence[Values]) -> Iterator[ScoreTerm]:
    """All images, all questions, dependencies in topological order."""
    questions = _questions(item)
    order = question_order(item.id, questions)
    scores = []
    for values in images:
        answers = _answers(item, questions, values)
        held = hold_dependencies(questions, answers, order)
        scores.append(100 * sum(held.values()) / len(held))
        for question in questions:
            for level in ("level 1", "level 2"):
                raw, kept = 100 * bool(answers[question["id"]]), 100 * held[question["id"]]
                yield ScoreTerm(level, question[level], raw)
                yield ScoreTerm(f"{level}, dependencies held", question[level], kept)
    yield ScoreTerm("score", item.category, sum(scores) / len(scores))


def score_terms_official(item: Item, images: Sequence[Values]) -> Iterator[ScoreTerm]:
    """As the official code does it, with what it loses on the way."""
    questions = _questions(item)
    order = [question["id"] for question in questions]
    scores = []
    for values in images:
        answers = _answers(item, questions, values)
        try:
            held = hold_dependencies(questions, answers, order)
        except KeyError:
            # The parent was the row that got lost: the official code drops the whole prompt.
            return
        scores.append(100 * sum(held.values()) / len(held))
    last = _answers(item, questions, images[-1])
    for question in questions:
        for level in ("level 1", "level 2"):
            yield ScoreTerm(level, question[level], 100 * bool(last[question["id"]]))
    yield ScoreTerm("score", item.category, sum(scores) / len(scores))


def _questions(item: Item) -> Sequence[Mapping[str, Json]]:
    questions: Sequence[Mapping[str, Json]] = item.fields["questions"]
    if not questions:
        raise BenchmarkError(
            f"item {item.id} has no questions: {QUESTIONS} is needed for scoring; fetch it with "
            "deepgen eval fetch dpg, or put it next to the prompts"
        )
    return questions


def _answers(
    item: Item, questions: Sequence[Mapping[str, Json]], values: Values
) -> Mapping[str, Json]:
    asked = [question["id"] for question in questions]
    answers = values.get("answers", {})
    if unanswered := set(asked) - answers.keys():
        raise BenchmarkError(f"item {item.id}: question {min(unanswered)} has no answer")
    return {number: answers[number] for number in asked}


def lowest_values(item: Item) -> Values:
    """Every answer is no."""
    return {"answers": {question["id"]: False for question in item.fields["questions"]}}


_LEVELS = ("level 1", "level 2")

DPG = Benchmark(
    name="dpg",
    title="DPG-Bench",
    task="text-to-image",
    source=Source(
        repository="TencentQQGYLab/ELLA",
        commit="3c228f1",
        licence="Apache-2.0",
        files=(
            PromptFile(
                path=PROMPT_LINES,
                repo_path="dpg_bench/prompts/",
                sha256="09bcdb4137516ac4fa8b0fc0f8f7ace68adc9a936aedf64ea6676f303c5c217a",
            ),
            PromptFile(path=QUESTIONS, repo_path=f"dpg_bench/{QUESTIONS}"),
        ),
    ),
    folder="dpg_bench",
    scorer="vqa",
    judge="mPLUG-large VQA (ModelScope)",
    expected_items=EXPECTED,
    generation=generation_presets(4, guidance_scale=7.5),
    load=load,
    image_path=image_path,
    metrics=(
        Metric(name="score", bounds=(0, 100)),
        *(Metric(name=level, bounds=(0, 100)) for level in _LEVELS),
        *(Metric(name=f"{level}, dependencies held", bounds=(0, 100)) for level in _LEVELS),
    ),
    score_terms=score_terms,
    lowest_values=lowest_values,
    grid_path=grid_path,
    judge_prompts=JUDGE_PROMPTS,
)

DPG_OFFICIAL = replace(
    DPG,
    name="dpg/official",
    title="DPG-Bench (as the official code counts)",
    load=partial(load, official=True),
    metrics=(
        Metric(name="score", bounds=(0, 100)),
        *(Metric(name=level, bounds=(0, 100)) for level in _LEVELS),
    ),
    score_terms=score_terms_official,
)

BENCHMARKS = (DPG, DPG_OFFICIAL)
