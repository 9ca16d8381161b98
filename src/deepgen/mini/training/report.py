"""How well a mini generates held-out compositions and fresh samples of its training kinds.

``python -m deepgen.mini.training.report SHEET.png`` prints a JSON object and writes a contact
sheet. Needs the extra ``[mini]``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from deepgen.mini.reader.objects import (
    SHIPPED,
    CropClassifier,
    find_objects,
    foreground,
    mask_iou,
    read_background,
)
from deepgen.mini.reader.scenes import SceneReader, load_scene_reader
from deepgen.mini.reader.training import measure_classifier
from deepgen.mini.training.samples import WEIGHTS, TrainingSample, training_sample
from deepgen.mini.world.drawing import draw
from deepgen.mini.world.scene import BACKGROUNDS, Background, Scene
from deepgen.mini.world.sheet import contact_sheet
from deepgen.mini.world.version0 import (
    TextSample,
    held_out_background_edit,
    held_out_drawing,
    held_out_pairs,
)
from deepgen.pipeline.pipeline import DeepGenPipeline

Shown = tuple[TextSample | TrainingSample, Image.Image]
"""What was asked for, and the generated image."""

SEEDS = 5
FRESH = 40
"""Samples of each kind."""

SHOWN = 2
"""How many of them the sheet shows."""

SHEET_COLUMNS = 10


def report(
    pipe: DeepGenPipeline, reader: CropClassifier, *, seeds: int = SEEDS
) -> tuple[dict[str, Any], list[Shown]]:
    """Generate and edit every held-out pair with every seed, and classify the results.

    Returns:
        Fractions of correct images, and the images of the first seed.
    """
    pairs = held_out_pairs()
    shown: list[Shown] = []
    hits = {"object": 0, "background": 0, "edit background": 0, "edit kept": 0, "edit": 0}
    for seed in range(seeds):
        for pair in pairs:
            wanted = held_out_drawing(pair)
            image = pipe(wanted.text, seed=seed).images[0]
            hits["object"] += _labels(image, reader) == [pair[0]]
            hits["background"] += read_background(image, BACKGROUNDS)[0] == pair[1]
            edit = held_out_background_edit(pair)
            source = draw(edit.source) if edit.source is not None else image
            edited = pipe(edit.text, image=source, seed=seed).images[0]
            kept, recoloured = _read_edit(source, edited, pair, reader)
            hits["edit kept"] += kept
            hits["edit background"] += recoloured
            hits["edit"] += kept and recoloured
            if seed == 0:
                shown += [(wanted, image), (edit, edited)]
    total = len(pairs) * seeds
    return {name: count / total for name, count in hits.items()} | {"images": total}, shown


def fresh_samples(
    pipe: DeepGenPipeline, reader: SceneReader, *, each: int = FRESH
) -> tuple[dict[str, dict[str, float]], list[Shown]]:
    """Samples of every training kind, distributed as in training but not among its samples.

    Returns:
        For each kind the count, and the fraction whose objects from left to right, words and
        background are all correct; and the first English ones of each kind, with their images.
    """
    fractions: dict[str, dict[str, float]] = {}
    shown: list[Shown] = []
    for references, kind in ((count, kind) for count, own in enumerate(WEIGHTS) for kind in own):
        samples = [
            training_sample(number, references, kind=kind, split="report") for number in range(each)
        ]
        images = [
            pipe(
                wanted.text,
                image=[draw(source) for source in wanted.sources] or None,
                seed=number,
            ).images[0]
            for number, wanted in enumerate(samples)
        ]
        both: list[Shown] = list(zip(samples, images, strict=True))
        right = sum(_shows(image, wanted.target, reader) for wanted, image in both)
        fractions[kind] = {"count": each, "right": round(right / each, 3)}
        shown += [found for found in both if found[0].language == "en"][:SHOWN]
    return fractions, shown


def _shows(image: Image.Image, wanted: Scene, reader: SceneReader) -> bool:
    seen = reader.read(image)
    names = [thing.name for thing in sorted(wanted.things, key=lambda thing: thing.center[1])]
    return (
        [thing.label for thing in seen.things] == names
        and [word.text for word in seen.words] == [word.text for word in wanted.words]
        and seen.background == wanted.background
    )


def _read_edit(
    source: Image.Image,
    edited: Image.Image,
    pair: tuple[str, Background],
    reader: CropClassifier,
) -> tuple[bool, bool]:
    """Whether an edit kept the object (class, mask IoU >= 0.8), and has the new background."""
    overlap = mask_iou(foreground(source), foreground(edited))
    kept = _labels(edited, reader) == [pair[0]] and overlap >= 0.8
    return kept, read_background(edited, BACKGROUNDS)[0] == pair[1]


def _labels(image: Image.Image, reader: CropClassifier) -> list[str]:
    return [found.label for found in find_objects(image, reader)]


def sheet(shown: Sequence[Shown]) -> Image.Image:
    """All images with their prompts; edits beside their source images."""
    cells = [([*map(draw, _sources(wanted)), image], wanted.text) for wanted, image in shown]
    return contact_sheet(cells, columns=SHEET_COLUMNS)


def _sources(wanted: TextSample | TrainingSample) -> tuple[Scene, ...]:
    if isinstance(wanted, TrainingSample):
        return wanted.sources
    return () if wanted.source is None else (wanted.source,)


def main() -> None:
    """Measure a model, print the figures, write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sheet", type=Path)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--reader", type=Path, default=SHIPPED)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    arguments = parser.parse_args()
    pipe = DeepGenPipeline.from_pretrained(arguments.model)
    pipe.set_progress_bar_config(disable=True)
    reader = load_scene_reader(BACKGROUNDS, arguments.reader)
    figures, held_out = report(pipe, reader.classifier, seeds=arguments.seeds)
    fractions, fresh = fresh_samples(pipe, reader)
    sheet([*held_out, *fresh]).save(arguments.sheet, optimize=True)
    result = {
        "held out": figures,
        "fresh": fractions,
        "reader": measure_classifier(reader.classifier),
    }
    sys.stdout.write(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
