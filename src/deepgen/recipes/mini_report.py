"""How well a mini draws: what it never saw, what it was trained for, and a sheet to look at.

``python -m deepgen.recipes.mini_report SHEET.png`` prints a JSON object and writes a contact sheet.
Needs the extra ``[mini]``.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from deepgen.mini.drawing import draw
from deepgen.mini.scene import BACKGROUNDS, Background
from deepgen.mini.version0 import (
    NAMES,
    SIDE,
    Sample,
    held_out_background_edit,
    held_out_drawing,
    held_out_pairs,
    sample,
)
from deepgen.pipeline.pipeline import DeepGenPipeline
from deepgen.recipes.mini_reader import measure_reader
from deepgen.scoring.objects import (
    SHIPPED,
    ObjectClassifier,
    find_objects,
    foreground,
    load_reader,
    mask_iou,
    read_background,
)

SEEDS = 5
FRESH = 200
SHEET_COLUMNS = 10


def report(
    pipe: DeepGenPipeline, reader: ObjectClassifier, *, seeds: int = SEEDS
) -> tuple[dict[str, Any], list[tuple[Sample, Image.Image]]]:
    """Draw and edit every held-out pair with every seed, and read the results.

    Returns:
        Shares of right answers, and the pictures of the first seed.
    """
    pairs = held_out_pairs()
    shown: list[tuple[Sample, Image.Image]] = []
    hits = {"object": 0, "background": 0, "edit background": 0, "edit kept": 0, "edit": 0}
    for seed in range(seeds):
        for pair in pairs:
            wanted = held_out_drawing(pair, wording=0)
            picture = pipe(wanted.text, seed=seed).images[0]
            hits["object"] += _labels(picture, reader) == [pair[0]]
            hits["background"] += read_background(picture, BACKGROUNDS)[0] == pair[1]
            edit = held_out_background_edit(pair, wording=0)
            source = draw(edit.source) if edit.source is not None else picture
            edited = pipe(edit.text, image=source, seed=seed).images[0]
            kept, recoloured = _read_edit(source, edited, pair, reader)
            hits["edit kept"] += kept
            hits["edit background"] += recoloured
            hits["edit"] += kept and recoloured
            if seed == 0:
                shown += [(wanted, picture), (edit, edited)]
    total = len(pairs) * seeds
    return {name: count / total for name, count in hits.items()} | {"pictures": total}, shown


def fresh_samples(
    pipe: DeepGenPipeline, reader: ObjectClassifier, count: int = FRESH
) -> dict[str, dict[str, float]]:
    """Scenes, wordings and languages as in training, drawn anew: one or two objects, all tasks.

    Returns:
        For each task and number of objects, how many there were and the share whose objects, from
        left to right, and background all came out.
    """
    right: dict[str, list[bool]] = {}
    for index in range(count):
        wanted = sample(index, "report")
        source = None if wanted.source is None else draw(wanted.source)
        picture = pipe(wanted.text, image=source, seed=index).images[0]
        names = [thing.name for thing in sorted(wanted.target.things, key=lambda it: it.center[1])]
        background = read_background(picture, BACKGROUNDS)[0]
        right.setdefault(f"{wanted.task}, {len(names)}", []).append(
            _labels(picture, reader) == names and background == wanted.target.background
        )
    return {
        kind: {"count": len(each), "right": round(sum(each) / len(each), 3)}
        for kind, each in sorted(right.items())
    }


def _read_edit(
    source: Image.Image,
    edited: Image.Image,
    pair: tuple[str, Background],
    reader: ObjectClassifier,
) -> tuple[bool, bool]:
    """Whether an edit kept the object (class, and mask IoU >= 0.8), and whether it recoloured."""
    overlap = mask_iou(foreground(source), foreground(edited))
    kept = _labels(edited, reader) == [pair[0]] and overlap >= 0.8
    return kept, read_background(edited, BACKGROUNDS)[0] == pair[1]


def _labels(picture: Image.Image, reader: ObjectClassifier) -> list[str]:
    return [found.label for found in find_objects(picture, reader)]


def sheet(shown: list[tuple[Sample, Image.Image]]) -> Image.Image:
    """All pictures with what was asked for; edits beside what they were made from."""
    cell_width, cell_height = 2 * SIDE + 12, SIDE + 26
    rows = -(-len(shown) // SHEET_COLUMNS)
    canvas = Image.new("RGB", (SHEET_COLUMNS * cell_width, rows * cell_height), "white")
    pen = ImageDraw.Draw(canvas)
    for index, (wanted, picture) in enumerate(shown):
        left = index % SHEET_COLUMNS * cell_width
        top = index // SHEET_COLUMNS * cell_height
        if wanted.source is not None:
            canvas.paste(draw(wanted.source), (left, top))
            canvas.paste(picture, (left + SIDE + 4, top))
        else:
            canvas.paste(picture, (left + SIDE // 2, top))
        words = wanted.text.split()
        middle = len(words) // 2 + 1
        pen.text((left, top + SIDE), " ".join(words[:middle]), fill="black")
        pen.text((left, top + SIDE + 11), " ".join(words[middle:]), fill="black")
    return canvas


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
    reader = load_reader(arguments.reader)
    figures, shown = report(pipe, reader, seeds=arguments.seeds)
    sheet(shown).save(arguments.sheet, optimize=True)
    fresh = fresh_samples(pipe, reader)
    result = {"held out": figures, "fresh": fresh, "reader": measure_reader(reader, tuple(NAMES))}
    sys.stdout.write(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
