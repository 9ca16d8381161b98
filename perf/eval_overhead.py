"""Overhead of the evaluation harness over calling the model; on CPU, with the mini.

``python perf/eval_overhead.py --threads 1``: 200 prompts of MiniBench, in shards that are generated
alternately by a bare loop over the pipeline (images to edit already open, nothing saved) and by the
runner of ``eval generate`` (reads sources; writes PNG files, hashes and records; final check); the
result is in ``perf/results/eval_overhead.json``. The target is 5 %.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from measure import environment, write
from PIL import Image

from deepgen.checkpoint.finding import find_model
from deepgen.eval.benchmark import image_seed
from deepgen.eval.fetch import locate
from deepgen.eval.registry import find_benchmark
from deepgen.eval.run.folder import RunFolder, RunManifest, hash_items
from deepgen.eval.run.generation import Shard, generate, prepare_sources, select_items
from deepgen.eval.run.model import image_generator, resolve_rule
from deepgen.eval.run.planned import PlannedRun

TARGET = 0.05
SHARDS = 10


def main() -> None:
    """Generate every shard twice, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompts", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    benchmark, model = find_benchmark("minibench"), find_model("mini")
    rule = resolve_rule(benchmark, "default", model.defaults)
    prompts = locate(benchmark, None)
    items = select_items(benchmark.load(prompts).items, arguments.prompts)
    sources = prepare_sources(benchmark, prompts, items, rule)
    generate_image = image_generator(model.path, "cpu")
    manifest = RunManifest(
        benchmark=benchmark.name,
        model="mini",
        weights_sha256="",
        prompts_sha256=hash_items(items),
        limit=arguments.prompts,
        base_seed=0,
        rule=rule,
        settings={},
        versions={},
    )
    opened = {
        each.id: [Image.open(sources / path).convert("RGB") for path in each.sources]
        for each in items
    }
    # Once before any time is taken: the first call loads the weights.
    generate_image("a cup", [], 0, replace(rule, steps=1))
    bare = harness = 0.0
    with tempfile.TemporaryDirectory() as folder:
        run = PlannedRun(
            benchmark=benchmark,
            items=items,
            manifest=manifest,
            folder=RunFolder(Path(folder) / "run"),
            sources=sources,
        )
        for rank in range(SHARDS):
            start = time.perf_counter()
            for item in items[rank::SHARDS]:
                generate_image(item.prompt, opened[item.id], image_seed(0, item, 0), rule)
            middle = time.perf_counter()
            generate(run, generate_image, shard=Shard(rank=rank, count=SHARDS))
            bare += middle - start
            harness += time.perf_counter() - middle
    write(
        "eval_overhead",
        {
            "environment": environment(),
            "target": TARGET,
            "prompts": len(items),
            "bare_seconds": round(bare, 2),
            "harness_seconds": round(harness, 2),
            "overhead": round(harness / bare - 1, 4),
        },
    )


if __name__ == "__main__":
    main()
