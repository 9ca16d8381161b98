"""A model that makes noise from its inputs, and a process that generates a whole run with it.

As a program: folder, rank, number of processes, order of the items, seconds an image takes.
"""

from __future__ import annotations

import hashlib
import random
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from deepgen.eval.benchmark import Benchmark, GenerationRule, Item
from deepgen.eval.benchmarks.dpg.benchmark import DPG
from deepgen.eval.run.folder import RunFolder, RunManifest, hash_items
from deepgen.eval.run.generation import GenerateImage, Progress, Shard, generate
from deepgen.eval.run.planned import PlannedRun

IMAGES_PER_PROMPT = 4
RULE = GenerationRule(
    images_per_item=IMAGES_PER_PROMPT,
    height=32,
    width=32,
    steps=2,
    guidance_scale=4.0,
    resize_sources=False,
)
# Has grids, and text sidecar files by ourselves.
BENCHMARK: Benchmark = replace(
    DPG, sidecar_files=lambda item: {DPG.image_path(item, 0).with_suffix(".txt"): item.prompt}
)


def make_items(count: int) -> list[Item]:
    return [
        Item(id=f"p{n}", number=n, prompt=f"prompt {n}", category="ab"[n % 2]) for n in range(count)
    ]


def make_manifest(items: Sequence[Item], **changes: object) -> RunManifest:
    manifest = RunManifest(
        benchmark="dpg",
        model="noise",
        weights_sha256="0" * 64,
        prompts_sha256=hash_items(items),
        limit=None,
        base_seed=7,
        rule=RULE,
        settings={"device": "cpu"},
        versions={"deepgen": "1"},
    )
    return replace(manifest, **changes)  # type: ignore[arg-type]


def noise_of(seconds: float = 0.0) -> GenerateImage:
    def draw(
        prompt: str, images: Sequence[Image.Image], seed: int, rule: GenerationRule
    ) -> Image.Image:
        time.sleep(seconds)
        shown = [image.tobytes() for image in images]
        told = repr((prompt, seed, rule.steps, rule.guidance_scale, shown)).encode()
        size = (rule.width or 16, rule.height or 16)
        pixels = hashlib.shake_128(told).digest(3 * size[0] * size[1])
        return Image.frombytes("RGB", size, pixels)

    return draw


def planned(
    folder: Path,
    items: Sequence[Item],
    *,
    benchmark: Benchmark = BENCHMARK,
    manifest: RunManifest | None = None,
    sources: Path | None = None,
) -> PlannedRun:
    ordered = sorted(items, key=lambda item: item.number)
    return PlannedRun(
        benchmark=benchmark,
        items=tuple(items),
        manifest=manifest or make_manifest(ordered),
        folder=RunFolder(folder),
        sources=sources or folder,
    )


def run(
    folder: Path, items: Sequence[Item], shard: Shard | None = None, seconds: float = 0.0
) -> Progress:
    return generate(planned(folder, items), noise_of(seconds), shard=shard)


def files_of(folder: Path) -> Mapping[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


if __name__ == "__main__":
    _, path, rank, count, order, pause, number = sys.argv
    shuffled = random.Random(int(order)).sample(make_items(int(number)), k=int(number))
    run(Path(path), shuffled, Shard(rank=int(rank), count=int(count)), float(pause))
