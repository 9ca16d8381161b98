"""UniGenBench: ten dimensions of short and long prompts in English and Chinese, judged by a VLM.

Source: CodeGoat24/UniGenBench at 49d0bce, CC BY 4.0; 600 prompts in each of four variants, each
prompt with a list of test points (arXiv 2510.18701).
Protocol: four images a prompt, one judgement of 0 or 1 per image and test point. ``macro``, the
main number of the leaderboard, is the unweighted mean of ten dimensions; ``micro`` pools all
points.
Judge: Gemini 2.5 Pro, or the authors' evaluators on Qwen2.5-VL-72B and Qwen3-VL-32B.
Values: ``scores``, one 0 or 1 per test point.
Known differences: row 509 of the long English file lacks a comma, where the official loader stops;
it is repaired here. A missing image stops the official scorer, an unreadable reply leaves its
denominators.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
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
from deepgen.eval.benchmarks.unigenbench.judge_prompts import CHINESE, ENGLISH
from deepgen.eval.prompt_files import (
    parse_json,
    read_csv,
    require_fields,
    require_file,
    require_unique,
)
from deepgen.eval.values import whole_numbers

ENGLISH_DIMENSIONS = (
    "Style",
    "World Knowledge",
    "Attribute",
    "Action",
    "Relationship",
    "Compound",
    "Grammar",
    "Logical Reasoning",
    "Entity Layout",
    "Text Generation",
)
CHINESE_DIMENSIONS = (
    "风格",
    "世界知识",
    "属性",
    "动作",
    "关系",
    "复合考点",
    "语法",
    "逻辑推理",
    "实体布局",
    "文本生成",
)

_ENGLISH_KEYS = ("Primary Categories", "Testpoints", "Testpoint Description")
_CHINESE_KEYS = ("一级垂类", "考点", "考点对应描述")

_MALFORMED = ("test_prompts_en_long.csv", "509")
_LOST_COMMA = re.compile(r'(?<=[^\\,:\[{]")\s+(?=")')


def load(file: PromptFile, language: str, dimensions: Sequence[str], folder: Path) -> ItemList:
    """One item a row."""
    path = require_file(folder, file.path, str(file.repo_path))
    category_key, points_key, descriptions_key = (
        _ENGLISH_KEYS if language == "en" else _CHINESE_KEYS
    )
    items, notes = [], []
    for number, (place, row) in enumerate(read_csv(path)):
        columns = require_fields(row, place, index=str, **{f"prompt_{language}": str})
        text = require_fields(row, place, **{f"sub_dims_{language}": str})[f"sub_dims_{language}"]
        if (path.name, row["index"]) == _MALFORMED and len(_LOST_COMMA.findall(text)) == 1:
            text = _LOST_COMMA.sub(", ", text)
            row_name = f"{path.name}, row {number + 1}"
            notes.append(f"{row_name}: put back the comma that its list of test points lacks")
        listed = parse_json(text, place)
        kinds = {category_key: str, points_key: list, descriptions_key: list}
        found = require_fields(listed, place, **kinds)
        points, descriptions = found[points_key], found[descriptions_key]
        if len(points) != len(descriptions):
            raise BenchmarkError(
                f"{place}: {len(points)} test points but {len(descriptions)} descriptions"
            )
        items.append(
            Item(
                id=row["index"],
                number=number,
                prompt=columns[f"prompt_{language}"],
                category=found[category_key],
                fields={
                    "testpoints": points,
                    "descriptions": descriptions,
                    "dimensions": [_dimension(each, dimensions, place) for each in points],
                },
            )
        )
    return ItemList(items=require_unique(items, path), notes=tuple(notes))


def _dimension(point: Json, dimensions: Sequence[str], place: str) -> str:
    """The text before the first dash: "Attribute - Color" belongs to "Attribute"."""
    name = str(point).split("-")[0].strip()
    if name not in dimensions:
        raise BenchmarkError(f"{place}: the test point {point!r} is of no known dimension")
    return name


def image_path(item: Item, image_index: int) -> PurePosixPath:
    """``17_3.png``."""
    return PurePosixPath(f"{item.id}_{image_index}.png")


def other_path(item: Item, image_index: int) -> PurePosixPath:
    """``17.3.png``, as DeepGen's published code draws them while it trains."""
    return PurePosixPath(f"{item.id}.{image_index}.png")


def score_terms(item: Item, images: Sequence[Values]) -> Iterator[ScoreTerm]:
    """Each test point met counts in its dimension."""
    dimensions = item.fields["dimensions"]
    for values in images:
        scores = whole_numbers(item, values, "scores", len(dimensions), 0, 1)
        for dimension, met in zip(dimensions, scores, strict=True):
            yield ScoreTerm("macro", dimension, 100 * met)
            yield ScoreTerm("micro", dimension, 100 * met)


def lowest_values(item: Item) -> Values:
    """No test point met."""
    return {"scores": [0] * len(item.fields["dimensions"])}


def _variant(name: str, stem: str, sha256: str | None) -> Benchmark:
    language = stem[:2]
    dimensions = ENGLISH_DIMENSIONS if language == "en" else CHINESE_DIMENSIONS
    path = f"test_prompts_{stem}.csv"
    file = PromptFile(path=path, repo_path=f"data/{path}", sha256=sha256)
    title = {"en": "English", "zh": "Chinese"}[language]
    return Benchmark(
        name=f"unigenbench/{name}",
        title=f"UniGenBench ({title}, {'long' if stem.endswith('long') else 'short'})",
        task="text-to-image",
        source=Source(
            repository="CodeGoat24/UniGenBench",
            commit="49d0bce",
            licence="CC BY 4.0",
            files=(file,),
        ),
        folder="unigenbench",
        scorer="judge",
        judge="gemini-2.5-pro, or UniGenBench-EvalModel (72B, 32B)",
        expected_items=600,
        generation=generation_presets(4),
        load=partial(load, file, language, dimensions),
        image_path=image_path,
        other_path=other_path,
        metrics=(
            Metric(name="macro", weights=equal_weights(dimensions), bounds=(0, 100)),
            Metric(name="micro", bounds=(0, 100)),
        ),
        score_terms=score_terms,
        lowest_values=lowest_values,
        official_refusal=frozenset({"missing"}),
        judge_prompts=ENGLISH if language == "en" else CHINESE,
    )


UNIGENBENCH: Mapping[str, Benchmark] = {
    name: _variant(name, stem, sha256)
    for name, stem, sha256 in (
        ("en", "en", "f82e8ce854985ef963378eaaf8ce12f2e3a57dd6f53e1aea84a61fbeadfe4459"),
        ("en-long", "en_long", "5d2c3d642cc4923504b662ad15b425c2d161a137884701881e00c2691a697253"),
        ("zh", "zh", "7ff2d2131e68e6182f43a28ecf03d070f7735788f3c5420db3f83141492e8cb3"),
        ("zh-long", "zh_long", None),
    )
}

BENCHMARKS = tuple(UNIGENBENCH.values())
