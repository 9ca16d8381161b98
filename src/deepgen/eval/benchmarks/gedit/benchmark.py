"""GEdit-Bench: real users' edits in eleven groups, judged by a VLM on two questions.

Source: stepfun-ai/Step1X-Edit at 570eba6; data stepfun-ai/GEdit-Bench on the hub, MIT; 606 English
and 606 Chinese rows (arXiv 2504.17761). The English instructions are also published without their
images, as ``gedit_edit.json`` in PKU-YuanGroup/UniWorld-V1.
Protocol: one image a row. SC is the lower of edit success and restraint, PQ the lower of
naturalness and absence of artifacts, each 0 to 10; an image scores sqrt(SC * PQ), and the overall
is the unweighted mean over groups, for all rows and for those no closed model refused.
Judge: gpt-4.1, or Qwen2.5-VL-72B-Instruct-AWQ.
Values: ``semantics`` and ``quality``, two whole numbers each.
Known differences: the official code puts random numbers for unreadable replies and passes over
missing images; here both fail. Two subject-remove keys repeat, and name one image each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from math import sqrt
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
    equal_weights,
    generation_presets,
)
from deepgen.eval.benchmarks.gedit.judge_prompts import JUDGE_PROMPTS
from deepgen.eval.prompt_files import (
    find_file,
    read_json_entries,
    read_json_lines,
    require_fields,
    require_file,
)
from deepgen.eval.values import whole_numbers

GROUPS = (
    "background_change",
    "color_alter",
    "material_alter",
    "motion_change",
    "ps_human",
    "style_change",
    "subject-add",
    "subject-remove",
    "subject-replace",
    "text_change",
    "tone_transfer",
)

ROWS = "gedit.jsonl"
"""Fields of the data set, one row a line, with ``input_image`` the path of the exported image."""
ENGLISH = "gedit_edit.json"


def load(language: str, folder: Path) -> ItemList:
    """The rows of one language, from the exported data set or the list of English instructions."""
    if rows := find_file(folder, ROWS):
        return _from_rows(rows, language)
    if language != "en":
        require_file(folder, ROWS)
    path = require_file(folder, ENGLISH)
    items = []
    for number, (place, key, found) in enumerate(read_json_entries(path)):
        row = require_fields(found, place, prompt=str, id=str, edit_type=str)
        _require_group(row["edit_type"], place)
        items.append(
            Item(
                id=key,
                number=number,
                prompt=row["prompt"],
                category=row["edit_type"],
                sources=(PurePosixPath(row["id"]),),
                fields={"language": language, "intersection": None},
            )
        )
    notes = ("the file does not say which rows belong to the intersection subset",)
    return ItemList(items=tuple(items), notes=notes)


def _from_rows(path: Path, language: str) -> ItemList:
    items: dict[str, Item] = {}
    repeated = 0
    kinds = {"task_type": str, "key": str, "instruction": str, "input_image": str}
    for place, found in read_json_lines(path):
        row = require_fields(
            found, place, **kinds, instruction_language=str, Intersection_exist=bool
        )
        _require_group(row["task_type"], place)
        if row["instruction_language"] != language:
            continue
        if row["key"] in items:
            repeated += 1
            continue
        items[row["key"]] = Item(
            id=row["key"],
            number=len(items),
            prompt=row["instruction"],
            category=row["task_type"],
            sources=(PurePosixPath(row["input_image"]),),
            fields={"language": language, "intersection": row["Intersection_exist"]},
        )
    notes = (f"{repeated} rows repeat a key and were left out",) if repeated else ()
    return ItemList(items=tuple(items.values()), notes=notes)


def _require_group(group: Json, place: str) -> None:
    if group not in GROUPS:
        raise BenchmarkError(f"{place}: the group {group!r} is none of {', '.join(GROUPS)}")


def image_path(item: Item, image_index: int) -> PurePosixPath:
    """``fullset/<group>/<language>/<key>.png``."""
    return PurePosixPath("fullset", item.category, item.fields["language"], f"{item.id}.png")


def sidecar_files(item: Item) -> Mapping[PurePosixPath, str | PurePosixPath]:
    """The source image, which the official scorer wants beside the result."""
    beside = image_path(item, 0).with_name(f"{item.id}_SRCIMG.png")
    return {beside: item.sources[0]}


def score_terms(item: Item, images: Sequence[Values]) -> Iterator[ScoreTerm]:
    """``O = sqrt(SC * PQ)`` per image; SC and PQ also by themselves."""
    for values in images:
        semantics = min(whole_numbers(item, values, "semantics", 2, 0, 10))
        quality = min(whole_numbers(item, values, "quality", 2, 0, 10))
        overall = sqrt(semantics * quality)
        yield ScoreTerm("overall", item.category, overall)
        yield ScoreTerm("semantics", item.category, semantics)
        yield ScoreTerm("quality", item.category, quality)
        if item.fields.get("intersection"):
            yield ScoreTerm("overall, intersection", item.category, overall)


def _variant(language: str, title: str, files: tuple[PromptFile, ...]) -> Benchmark:
    return Benchmark(
        name=f"gedit/{language}",
        title=f"GEdit-Bench ({title})",
        task="editing",
        source=Source(
            repository="stepfun-ai/Step1X-Edit",
            commit="570eba6",
            licence="MIT",
            files=files,
            prompts_from=("PKU-YuanGroup/UniWorld-V1", "8403e86"),
        ),
        folder="gedit_bench",
        scorer="judge",
        judge="gpt-4.1, or Qwen2.5-VL-72B-Instruct-AWQ",
        # 606 rows, two of which repeat a key.
        expected_items=604,
        generation=generation_presets(1, editing=True),
        load=partial(load, language),
        image_path=image_path,
        metrics=tuple(
            Metric(name=name, weights=equal_weights(GROUPS), bounds=(0, 10))
            for name in ("overall", "semantics", "quality", "overall, intersection")
        ),
        score_terms=score_terms,
        lowest_values=lambda item: {"semantics": [0, 0], "quality": [0, 0]},
        sidecar_files=sidecar_files,
        judge_prompts=JUDGE_PROMPTS,
    )


GEDIT_ENGLISH = _variant(
    "en",
    "English",
    (
        PromptFile(
            path=ENGLISH,
            repo_path=f"univa/eval/gedit/{ENGLISH}",
            sha256="9d34f6fc8741b840c9ebd28b699b17823536b8adc65dbfb153059208a6d5bf24",
        ),
    ),
)
GEDIT_CHINESE = _variant(
    "cn",
    "Chinese",
    (
        PromptFile(
            path=ROWS,
            repo_path=None,
            by_hand="huggingface.co/datasets/stepfun-ai/GEdit-Bench, exported",
        ),
    ),
)

BENCHMARKS = (GEDIT_ENGLISH, GEDIT_CHINESE)
