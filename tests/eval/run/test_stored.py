from __future__ import annotations

import time
from pathlib import Path

from deepgen.eval.benchmark import ImageRecord, Item
from deepgen.eval.benchmarks.geneval.benchmark import GENEVAL
from deepgen.eval.run.folder import RunFolder
from deepgen.eval.run.stored import StoredRun
from tests.eval.generating import make_manifest

PROMPTS, IMAGES_PER_PROMPT = 3_000, 4


def test_the_records_of_12_000_images_are_found_at_once(tmp_path: Path) -> None:
    items = [Item(id=f"{n}", number=n, prompt="", category="colors") for n in range(PROMPTS)]
    images = [(item.id, image_index) for item in items for image_index in range(IMAGES_PER_PROMPT)]
    run = StoredRun(
        benchmark=GENEVAL,
        manifest=make_manifest(items),
        items=tuple(items),
        folder=RunFolder(tmp_path),
        images={},
        sources=tmp_path,
        records={
            (item, image_index): ImageRecord(item=item, image_index=image_index)
            for item, image_index in images
        },
    )
    start = time.perf_counter()
    found = [run.records[image] for image in images]
    assert [(each.item, each.image_index) for each in found] == images
    # One record after another took 16 seconds.
    assert time.perf_counter() - start < 1
