"""Runs as a report reads them, with images on the disc and records made up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from deepgen.eval.benchmark import Benchmark, ImageRecord, Item
from deepgen.eval.benchmarks.geneval.benchmark import GENEVAL, TAGS
from deepgen.eval.run.folder import ImageEntry, RunFolder, hash_items
from deepgen.eval.run.scorer_identity import RunScorer
from deepgen.eval.run.stored import StoredRun
from tests.eval.generating import IMAGES_PER_PROMPT, RULE, make_manifest

OFFICIAL_DETECTOR = {"detector": "mmdet2 (weights 743b7d99)"}

Judge = Callable[[Item, int], ImageRecord | None]


def geneval_items(*prompts: str, per_tag: int = 2) -> tuple[Item, ...]:
    """Prompts of every tag, the first of them as given."""
    count = per_tag * len(TAGS)
    return tuple(
        Item(
            id=f"{number:05d}",
            number=number,
            prompt=prompts[number] if number < len(prompts) else f"a photo of {number} cups",
            category=TAGS[number // per_tag],
        )
        for number in range(count)
    )


def half_right(item: Item, image_index: int) -> ImageRecord:
    """One to three images of four are correct, half of all."""
    right = image_index < 1 + item.number % 3
    reason = "" if right else "expected cup>=1, found 0"
    return ImageRecord(
        item=item.id, image_index=image_index, values={"correct": right}, reason=reason
    )


def make_run(
    folder: Path,
    items: Sequence[Item],
    judge: Judge = half_right,
    *,
    benchmark: Benchmark = GENEVAL,
    images_per_prompt: int = IMAGES_PER_PROMPT,
    limit: int | None = None,
    model: str = "noise",
    image: Callable[[Item, int], Image.Image] | None = None,
    scorer: Mapping[str, str] = OFFICIAL_DETECTOR,
) -> StoredRun:
    """A run whose images are all drawn."""
    manifest = make_manifest(
        items,
        benchmark=benchmark.name,
        model=model,
        prompts_sha256=hash_items(items),
        limit=limit,
        rule=replace(RULE, images_per_item=images_per_prompt),
        settings={"preset": "paper", "device": "cpu"},
    )
    lines, records = {}, {}
    for item in items:
        for image_index in range(images_per_prompt):
            path = folder / "images" / benchmark.image_path(item, image_index)
            path.parent.mkdir(parents=True, exist_ok=True)
            colour = (40 * item.number % 256, 60 * image_index, 120)
            drawn = image(item, image_index) if image else Image.new("RGB", (32, 32), colour)
            drawn.save(path)
            lines[item.id, image_index] = ImageEntry(
                item=item.id,
                image_index=image_index,
                seed=None,
                height=drawn.height,
                width=drawn.width,
                steps=None,
                guidance_scale=None,
                path=str(benchmark.image_path(item, image_index)),
                sha256="",
            )
            record = judge(item, image_index)
            if record is not None:
                records[item.id, image_index] = record
    return StoredRun(
        benchmark=benchmark,
        manifest=manifest,
        items=tuple(items),
        folder=RunFolder(folder),
        images=lines,
        records=records,
        sources=folder / "prompts",
        scorer=RunScorer(identity=scorer),
    )
