"""Trains the object classifier, and measures it on true renderings and on junk.

``python -m deepgen.mini.reader.training OUT`` takes about a quarter of an hour on one CPU core and
writes what ``mini/reader/assets`` holds, with ``--reward`` what ``mini/reader/reward_assets`` does.
Needs the extra ``[mini]``.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepgen.mini.reader.crops import (
    JUNK_KINDS,
    CropSample,
    foreign_drawings,
    group_sample,
    junk_sample,
    piece_sample,
    thing_sample,
    word_sample,
)
from deepgen.mini.reader.objects import (
    NONE,
    STYLES,
    WORD,
    CropClassifier,
    ObjectClassifier,
    ResidualClassifier,
    border_color,
    find_objects,
    save_classifier,
    to_crop,
)
from deepgen.mini.reader.scenes import save_templates
from deepgen.mini.reader.templates import lengths, letters
from deepgen.mini.world.drawing import draw
from deepgen.mini.world.knowledge import OBJECTS, TINTS
from deepgen.mini.world.scene import BACKGROUNDS, Scene, Thing
from deepgen.mini.world.version0 import OBJECT_NAMES, SIDE

TRAIN_STEPS = 2400
BATCH = 64

# Of the crops. Words, groups and pieces are easy; foreign drawings are many and various.
SHARES = {
    "thing": 0.66,
    "word": 0.04,
    "group": 0.06,
    "piece": 0.05,
    "blended": 0.06,
    "noised": 0.04,
    "foreign": 0.09,
}

# Tints and styles are easier than names, and share the features.
TINT_WEIGHT = 0.5
STYLE_WEIGHT = 0.3

_IGNORED = -100

REWARD_SEED = 1
"""Of the classifier for rewards, which must make other mistakes."""


def train_classifier(
    seed: int = 0,
    steps: int = TRAIN_STEPS,
    architecture: type[ObjectClassifier] | type[ResidualClassifier] = ObjectClassifier,
) -> ObjectClassifier | ResidualClassifier:
    """Train on rendered crops, augmented by blur, noise, and jitter of box and colours."""
    torch.manual_seed(seed)
    classifier = architecture((*OBJECTS, WORD, NONE), (*TINTS, NONE)).train()
    foreign = foreign_drawings("train")
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps)
    for step in range(steps):
        rng = random.Random(seed * 1_000_003 + step)
        samples = [_sample(rng, foreign) for _ in range(BATCH)]
        crops = jitter(torch.stack([_crop(each, rng) for each in samples]), rng)
        labels = [classifier.labels.index(each.label) for each in samples]
        tints = [classifier.tints.index(each.tint) if each.tint else _IGNORED for each in samples]
        styles = [STYLES.index(each.style) if each.style else _IGNORED for each in samples]
        logits = classifier(crops)
        loss = (
            nn.functional.cross_entropy(logits.labels, torch.tensor(labels), label_smoothing=0.05)
            + TINT_WEIGHT * nn.functional.cross_entropy(logits.tints, torch.tensor(tints))
            + STYLE_WEIGHT * nn.functional.cross_entropy(logits.styles, torch.tensor(styles))
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            sys.stderr.write(f"classifier: step {step}, loss {loss.item():.3f}\n")
    return classifier.eval()


def jitter(
    crops: Float[Tensor, "batch 3 side side"], rng: random.Random
) -> Float[Tensor, "batch 3 side side"]:
    """Augment crops in [-1, 1]: brightness, contrast, saturation, blur and noise."""
    generator = torch.Generator().manual_seed(rng.getrandbits(32))

    def factor() -> Tensor:
        return 1 + 0.24 * (torch.rand(len(crops), 1, 1, 1, generator=generator) - 0.5)

    pixels = (crops + 1) * factor() - 1
    pixels = pixels.mean(dim=(1, 2, 3), keepdim=True).lerp(pixels, factor())
    pixels = pixels.mean(dim=1, keepdim=True).lerp(pixels, factor())
    # One blur for each quarter, the first kept sharp.
    quarters = list(pixels.chunk(4))
    for index in range(1, len(quarters)):
        quarters[index] = _blur(quarters[index], rng.uniform(0.3, 1.1))
    pixels = torch.cat(quarters)
    spread = 0.1 * torch.rand(len(crops), 1, 1, 1, generator=generator)
    return (pixels + spread * torch.randn(pixels.shape, generator=generator)).clamp(-1, 1)


def measure_classifier(classifier: CropClassifier, count: int = 500) -> dict[str, float]:
    """Accuracy on renderings of version 0's world, and the fraction of junk classified as
    *none*."""
    right = 0
    for index in range(count):
        scene = _true_scene(random.Random(f"true {index}"))
        labels = [found.label for found in find_objects(draw(scene), classifier)]
        right += labels == [scene.things[0].name]
    return {"true renderings": right / count} | measure_junk(classifier, OBJECT_NAMES, count)


def measure_junk(
    classifier: CropClassifier, names: tuple[str, ...] = tuple(OBJECTS), count: int = 500
) -> dict[str, float]:
    """The fraction of junk images of each kind, and of all, in which only *none* is found.

    Args:
        names: What blended and half-noised images are made of.
        count: How many images; rounded up to as many of each kind.
    """
    foreign = foreign_drawings("test")
    each = -(-count // len(JUNK_KINDS))
    result = {}
    for kind in JUNK_KINDS:
        images = (
            junk_sample(kind, random.Random(f"{kind} {index}"), foreign, names).image
            for index in range(each)
        )
        refused = [
            all(found.label == NONE for found in find_objects(image, classifier))
            for image in images
        ]
        result[f"junk, {kind}"] = sum(refused) / each
    return result | {"junk": sum(result.values()) / len(result)}


def _true_scene(rng: random.Random) -> Scene:
    thing = Thing(
        name=rng.choice(OBJECT_NAMES),
        center=(0.5 + rng.uniform(-0.05, 0.05), 0.5 + rng.uniform(-0.05, 0.05)),
        size=rng.uniform(0.44, 0.84),
    )
    background = rng.choice(list(BACKGROUNDS))
    return Scene(height=SIDE, width=SIDE, background=background, items=(thing,))


def _sample(rng: random.Random, foreign: tuple[str, ...]) -> CropSample:
    kind = rng.choices(list(SHARES), list(SHARES.values()))[0]
    if kind in JUNK_KINDS:
        return junk_sample(kind, rng, foreign)
    if kind == "piece":
        return piece_sample(rng, foreign)
    return {"thing": thing_sample, "word": word_sample, "group": group_sample}[kind](rng)


def _crop(sample: CropSample, rng: random.Random) -> Float[Tensor, "3 40 40"]:
    """The crop of a sample's box, its edges displaced as detected boxes are."""
    top, left, bottom, right = sample.box
    reach = 1 + max(bottom - top, right - left) // 30
    moved = [side + rng.randint(-reach, reach) for side in (top, left, bottom, right)]
    pixels = np.asarray(sample.image)
    box = (moved[0], moved[1], max(moved[2], moved[0] + 2), max(moved[3], moved[1] + 2))
    return to_crop(pixels, box, border_color(pixels))


def _blur(pixels: Tensor, sigma: float) -> Tensor:
    offsets = torch.arange(-2.0, 3.0)
    line = (-(offsets**2) / (2 * sigma**2)).exp()
    line = line / line.sum()
    channels = pixels.shape[1]
    padded = nn.functional.pad(pixels, (2, 2, 2, 2), mode="replicate")
    across = nn.functional.conv2d(padded, line.expand(channels, 1, 1, 5), groups=channels)
    return nn.functional.conv2d(across, line[:, None].expand(channels, 1, 5, 1), groups=channels)


def main() -> None:
    """Train, save and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--reward", action="store_true", help="train the one for rewards")
    arguments = parser.parse_args()
    if arguments.reward:
        classifier = train_classifier(REWARD_SEED, architecture=ResidualClassifier)
    else:
        classifier = train_classifier()
        save_templates(letters(), lengths(), arguments.out)
    save_classifier(classifier, arguments.out)
    sys.stdout.write(json.dumps(measure_classifier(classifier), indent=1) + "\n")


if __name__ == "__main__":
    main()
