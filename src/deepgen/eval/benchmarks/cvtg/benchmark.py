"""CVTG-2K: several texts in one image, read back by OCR.

Source: NJU-PCALab/TextCrafter at 023a313; data dnkdnk/CVTG-2K on the hub, Apache-2.0; 2,000 prompts
with 16,206 words (arXiv 2503.23461). The files are fetched from zlab-princeton/i1 at b58a62f.
Protocol: one image a prompt. Over all target words, pooled: word accuracy, the fraction found among
the recognised words, and NED, one minus the normalised edit distance to the closest of them; over
images: CLIPScore = 2.5 max(cosine, 0) with OpenAI CLIP ViT-L/14.
Scorer: PaddleOCR 2.10, English; another engine gives other numbers, so it is named with the result.
Values: what ``score_words`` counts, and ``clip_score`` where CLIP was run.
Known differences: the official code passes over missing images and counts a failing OCR call as
all words wrong. It finds the closest word by difflib's ratio (``ned``); ``ned, closest`` takes the
true minimum of the edit distance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from deepgen.errors import BenchmarkError
from deepgen.eval.benchmark import (
    Benchmark,
    ImageRecord,
    Item,
    ItemList,
    Metric,
    Number,
    PromptFile,
    ScoreTerm,
    Source,
    Values,
    generation_presets,
)
from deepgen.eval.prompt_files import (
    find_file,
    read_json,
    require_fields,
    require_file,
    require_unique,
)
from deepgen.eval.values import measured
from deepgen.scoring.ocr import target_words

_FILES = {
    "CVTG/2": (200, "e8aa98a4f5d609f8699131328876760fbbf33db8320770188fc3979f3fa345c8"),
    "CVTG/3": (301, "36fca11a221236643ed9595d5302884db01e832309a61b230fab3eefdeff1be0"),
    "CVTG/4": (300, "24fb02addf2caae050d2e67e29af98fe10d1e086093cf43d3592bcdac8557c2c"),
    "CVTG/5": (201, "24d5a3afc060477cdcf5b678018d81c78e18dc0054aafacf8b02a69ae24118b2"),
    "CVTG-Style/2": (200, "61324577c690c4383597fffe53614d87088be108a3e577288d8e8baf71381489"),
    "CVTG-Style/3": (299, "26a92b4a53e5dc497317fb3a219121790b7a7c9da10b87b8dd3633fcadff0f97"),
    "CVTG-Style/4": (302, "1d1fe6c367191fd8a3939687f70b3e8bda83c0539344977506e09e2732e4e3ff"),
    "CVTG-Style/5": (197, "da102c0239726d1fcdf3f4cfccacd34e71d4c0a588e5a893f4bc94b03fff353a"),
}
"""How many prompts each file has, as numbers count from the complete list; and its SHA-256."""


def load(folder: Path) -> ItemList:
    """The prompts of the files that are there; indices start at 0 in each."""
    if not any(find_file(folder, f"{name}.json") for name in _FILES):
        require_file(folder, "CVTG/2.json")
    items, absent, start = [], [], 0
    for name, (size, _) in _FILES.items():
        path = find_file(folder, f"{name}.json")
        if path is None:
            absent.append(f"{name}.json")
            start += size
            continue
        rows = require_fields(read_json(path), str(path), data_list=list)["data_list"]
        for position, found in enumerate(rows):
            place = f"{path}, entry {position}"
            row = require_fields(
                found, place, index=int, prompt=str, carrier_list=list, sentence_list=list
            )
            items.append(
                Item(
                    id=f"{name}/{row['index']}",
                    number=start + position,
                    prompt=row["prompt"],
                    category=name,
                    fields={"words": target_words(row["prompt"])},
                )
            )
        start += size
    return ItemList(items=require_unique(items, folder), absent=tuple(absent))


def score_terms(item: Item, images: Sequence[Values]) -> Iterator[ScoreTerm]:
    """Words pooled over all images; CLIPScore over images."""
    for values in images:
        words = measured(item, values, "words")
        if words != len(item.fields["words"]):
            raise BenchmarkError(
                f"item {item.id} has {len(item.fields['words'])} words, its record {words}"
            )
        yield ScoreTerm("word accuracy", item.category, measured(item, values, "found"), words)
        yield ScoreTerm("ned", item.category, measured(item, values, "ned"), words)
        yield ScoreTerm("ned, closest", item.category, measured(item, values, "ned_closest"), words)
        yield ScoreTerm("extra words", item.category, measured(item, values, "extra"))
        if "clip_score" in values:
            yield ScoreTerm("clip score", item.category, measured(item, values, "clip_score"))


def lowest_values(item: Item) -> Values:
    """No word was written."""
    return _no_words(item) | {"clip_score": 0.0}


def official_failure(item: Item, record: ImageRecord) -> Values | None:
    """A failing OCR call is all words wrong; a missing image is passed over."""
    return None if record.status == "missing" else _no_words(item)


def _no_words(item: Item) -> dict[str, Number]:
    counts = dict.fromkeys(("found", "ned", "ned_closest", "extra"), 0)
    return {"words": len(item.fields["words"]), **counts}


CVTG = Benchmark(
    name="cvtg",
    title="CVTG-2K",
    task="text-to-image",
    source=Source(
        repository="NJU-PCALab/TextCrafter",
        commit="023a313",
        licence="Apache-2.0",
        files=tuple(
            PromptFile(
                path=f"{name}.json",
                repo_path=f"benchmark_eval/cvtg-2k/prompts/{name}.json",
                sha256=sha256,
            )
            for name, (_, sha256) in _FILES.items()
        ),
        prompts_from=("zlab-princeton/i1", "b58a62f"),
    ),
    folder="cvtg_2k",
    scorer="ocr",
    judge="PaddleOCR 2.10, OpenAI CLIP ViT-L/14",
    expected_items=2000,
    generation=generation_presets(1),
    load=load,
    metrics=(
        Metric(name="word accuracy", bounds=(0, 1), digits=4),
        Metric(name="ned", bounds=(0, 1), digits=4),
        Metric(name="clip score", digits=4),
        Metric(name="ned, closest", bounds=(0, 1), digits=4),
        Metric(name="extra words"),
    ),
    score_terms=score_terms,
    lowest_values=lowest_values,
    official_failure=official_failure,
)

BENCHMARKS = (CVTG,)
