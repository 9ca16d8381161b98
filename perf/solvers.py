"""Quality over steps of the solvers, on the embedded model.

``python perf/solvers.py`` generates held-out compositions with every solver and number of steps,
and compares each with the image of 100 Euler steps from the same noise: PSNR, and whether the
classifier of the mini reads the object and the background that were asked for. The record is
``perf/results/solvers.json``. Guidance intervals are compared in the same way at guidance 2.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import alternate, environment, write

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


def main() -> None:
    """Generate, compare, and write the record."""
    torch.set_num_threads(1)
    pipe = DeepGenPipeline.from_pretrained("mini")
    pipe.set_progress_bar_config(disable=True)
    classifier = load_scene_reader(BACKGROUNDS).classifier
    pairs = held_out_pairs()[:PROMPTS]

    def row(setting: Setting, reference: list[Any]) -> dict[str, Any]:
        images = generated(pipe, pairs, **setting)
        right = [
            [each.label for each in find_objects(image, classifier)] == [pair[0]]
            and read_background(image, BACKGROUNDS)[0] == pair[1]
            for image, pair in zip(images, pairs, strict=True)
        ]
        near = [psnr(image, true) for image, true in zip(images, reference, strict=True)]
        return {
            "psnr_db": round(statistics.median(near), 2),
            "correct": round(sum(right) / len(right), 3),
        }

    tables: dict[str, Any] = {}
    reference = generated(pipe, pairs, num_inference_steps=REFERENCE_STEPS)
    tables["solvers"] = {
        name_of(setting): row(setting, reference)
        for steps in STEPS
        for setting in (
            {"solver": "euler", "num_inference_steps": steps},
            {"solver": "ab2", "num_inference_steps": steps},
        )
    }
    guided: Setting = {"guidance_scale": GUIDANCE}
    reference = generated(pipe, pairs, **guided)
    settings: list[Setting] = [{**guided, "guidance_interval": each} for each in INTERVALS]
    tables["guidance_intervals"] = {name_of(each): row(each, reference) for each in settings}
    prompt = held_out_drawing(pairs[0]).text
    seconds = alternate(
        {name_of(each): partial(pipe, prompt, seed=0, **each) for each in settings},
        SECONDS_REPEATS,
    )
    whole = statistics.median(seconds[name_of(settings[0])])
    for each in settings:
        ratio = statistics.median(seconds[name_of(each)]) / whole
        tables["guidance_intervals"][name_of(each)]["of_the_seconds"] = round(ratio, 3)
    write("solvers", {"environment": environment(), "prompts": PROMPTS, **tables})


if __name__ == "__main__":
    main()
