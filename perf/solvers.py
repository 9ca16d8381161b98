"""Quality over steps and seconds of the solvers and the caches, on the embedded model.

``python perf/solvers.py [solvers|guidance_intervals|caches ...]`` generates held-out compositions
with every setting, and compares each with the image of 100 Euler steps from the same noise: PSNR,
and whether the classifier of the mini reads the object and the background that were asked for. The
record is ``perf/results/solvers.json``; tables that are not named keep their place in it. Guidance
intervals are compared in the same way at guidance 2. Seconds of the caches are those of the
process, which other processes of a busy machine do not add to.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import RESULTS, alternate, environment, write

from deepgen.mini.reader.objects import find_objects, read_background
from deepgen.mini.reader.scenes import load_scene_reader
from deepgen.mini.world.scene import BACKGROUNDS
from deepgen.mini.world.version0 import held_out_drawing, held_out_pairs
from deepgen.pipeline.pipeline import DeepGenPipeline

PROMPTS = 24
STEPS = (4, 6, 8, 12, 20)
REFERENCE_STEPS = 100
GUIDANCE = 2.0
INTERVALS = ((0.0, 1.0), (0.0, 0.9), (0.3, 1.0), (0.3, 0.9))
SECONDS_REPEATS = 5

CACHES: tuple[dict[str, Any], ...] = (
    *({"solver": "euler", "num_inference_steps": steps} for steps in (20, 16, 12, 10, 8, 6)),
    *({"solver": "ab2", "num_inference_steps": steps} for steps in (12, 10, 8, 6)),
    *(
        {"cache": "first-block", "cache_threshold": threshold}
        for threshold in (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)
    ),
    *({"cache": "taylor", "cache_interval": interval} for interval in (2, 3, 4)),
    {"cache": "taylor", "cache_interval": 2, "solver": "ab2"},
    {"cache": "first-block", "cache_threshold": 0.1, "solver": "ab2", "num_inference_steps": 12},
)
"""Caches are at the model's 20 steps unless said."""

Setting = dict[str, Any]
"""Arguments of a call."""


def name_of(setting: Setting) -> str:
    """As it stands in the table."""
    return ", ".join(f"{name} {value}" for name, value in setting.items())


def generated(pipe: DeepGenPipeline, pairs: Sequence[Any], **options: Any) -> list[Any]:
    """One image a pair."""
    return [
        pipe(held_out_drawing(pair).text, seed=index, **options).images[0]
        for index, pair in enumerate(pairs)
    ]


def psnr(image: Any, reference: Any) -> float:
    """In dB."""
    difference = np.asarray(image, dtype=np.float64) - np.asarray(reference, dtype=np.float64)
    return float(10 * np.log10(255**2 / max(float((difference**2).mean()), 1e-9)))


class Comparison:
    """The model, the prompts, and what reads the images."""

    def __init__(self) -> None:
        self.pipe = DeepGenPipeline.from_pretrained("mini")
        self.pipe.set_progress_bar_config(disable=True)
        self.classifier = load_scene_reader(BACKGROUNDS).classifier
        self.pairs = held_out_pairs()[:PROMPTS]
        self.prompt = held_out_drawing(self.pairs[0]).text

    def reference(self, **setting: Any) -> list[Any]:
        """One image a pair, by so many Euler steps or the model's own."""
        return generated(self.pipe, self.pairs, **setting)

    def row(self, setting: Setting, reference: list[Any]) -> dict[str, Any]:
        """How near images are to others, and how many show what was asked for."""
        images = generated(self.pipe, self.pairs, **setting)
        right = [
            [each.label for each in find_objects(image, self.classifier)] == [pair[0]]
            and read_background(image, BACKGROUNDS)[0] == pair[1]
            for image, pair in zip(images, self.pairs, strict=True)
        ]
        near = [psnr(image, true) for image, true in zip(images, reference, strict=True)]
        return {
            "psnr_db": round(statistics.median(near), 2),
            "correct": round(sum(right) / len(right), 3),
        }


def solvers(compared: Comparison) -> dict[str, Any]:
    """Both solvers at several numbers of steps."""
    reference = compared.reference(num_inference_steps=REFERENCE_STEPS)
    settings = (
        {"solver": solver, "num_inference_steps": steps}
        for steps in STEPS
        for solver in ("euler", "ab2")
    )
    return {name_of(each): compared.row(each, reference) for each in settings}


def guidance_intervals(compared: Comparison) -> dict[str, Any]:
    """Noise levels with guidance, against guidance at all of them."""
    guided: Setting = {"guidance_scale": GUIDANCE}
    reference = compared.reference(**guided)
    settings: list[Setting] = [{**guided, "guidance_interval": each} for each in INTERVALS]
    table = {name_of(each): compared.row(each, reference) for each in settings}
    seconds = alternate(
        {
            name_of(each): partial(compared.pipe, compared.prompt, seed=0, **each)
            for each in settings
        },
        SECONDS_REPEATS,
    )
    whole = statistics.median(seconds[name_of(settings[0])])
    for name, row in table.items():
        row["of_the_seconds"] = round(statistics.median(seconds[name]) / whole, 3)
    return table


def caches(compared: Comparison) -> dict[str, Any]:
    """Settings that save time, by the seconds that an image takes."""
    reference = compared.reference(num_inference_steps=REFERENCE_STEPS)
    seconds: dict[str, list[float]] = {name_of(each): [] for each in CACHES}
    for _ in range(SECONDS_REPEATS):
        for each in CACHES:
            start = time.process_time()
            compared.pipe(compared.prompt, seed=0, **each)
            seconds[name_of(each)].append(time.process_time() - start)
    rows = {
        name_of(each): {
            "seconds": round(statistics.median(seconds[name_of(each)]), 3),
            **compared.row(each, reference),
        }
        for each in CACHES
    }
    ordered = dict(sorted(rows.items(), key=lambda item: item[1]["seconds"]))
    return {"environment": environment(), "rows": ordered}


TABLES: dict[str, Callable[[Comparison], dict[str, Any]]] = {
    "solvers": solvers,
    "guidance_intervals": guidance_intervals,
    "caches": caches,
}


def main() -> None:
    """Generate, compare, and write the record."""
    torch.set_num_threads(1)
    names = sys.argv[1:] or list(TABLES)
    compared = Comparison()
    found = {name: TABLES[name](compared) for name in names}
    path = RESULTS / "solvers.json"
    before = json.loads(path.read_text()) if path.is_file() else {}
    # The caches have an environment of their own.
    around = environment() if set(names) - {"caches"} else before.get("environment")
    write("solvers", {**before, "environment": around, "prompts": PROMPTS, **found})


if __name__ == "__main__":
    main()
