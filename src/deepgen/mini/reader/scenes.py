"""An image of the mini's world, read back: background, objects, tints, styles, sizes, words.

Independent of the renderer: all that it knows was learned or measured on rendered images and is
data of the package: a classifier's weights, images of letters, lengths of drawings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from deepgen.mini.reader.letters import Letters, read_word
from deepgen.mini.reader.objects import (
    NONE,
    SHIPPED,
    WORD,
    CropClassifier,
    Detection,
    Name,
    border_color,
    find_objects,
    load_classifier,
    read_background,
)

# In levels, of the channel that differs most: about the least distance of two backgrounds.
FARTHEST_BACKGROUND = 38


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectedItem:
    """One object or word of an image."""

    label: str
    """Name of the object, ``word``, or ``none``."""
    probability: float
    center: tuple[float, float]
    """(y, x), in fractions of the image's height and width."""
    size: float
    """Side of the drawing's square, as a fraction of the image's shorter side; for words and
    unknown things the longer side of their box."""
    tint: str
    """``none`` for no nameable one; meaningless for labels without tints."""
    style: str
    text: str | None = None
    """What a word says."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectedScene:
    """What one image shows."""

    background: str
    """Name of a palette colour, ``none`` where the border is like none of them."""
    items: tuple[DetectedItem, ...]
    """From left to right."""

    @property
    def things(self) -> tuple[DetectedItem, ...]:
        """The items that are not words, known or not."""
        return tuple(item for item in self.items if item.text is None)

    @property
    def words(self) -> tuple[DetectedItem, ...]:
        """The written words."""
        return tuple(item for item in self.items if item.text is not None)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SceneReader:
    """A classifier, templates of letters, lengths of drawings, and a palette."""

    classifier: CropClassifier
    letters: Letters
    lengths: Mapping[str, float]
    """Longer side of each object's drawing, as a fraction of the square that it is drawn in."""
    palette: Mapping[str, tuple[int, int, int]]
    """Backgrounds by name."""

    def read(self, image: Image.Image) -> DetectedScene:
        """What an image shows."""
        background, distance = read_background(image, self.palette)
        pixels = np.asarray(image.convert("RGB"))
        color = border_color(pixels)
        return DetectedScene(
            background=background if distance <= FARTHEST_BACKGROUND else NONE,
            items=tuple(
                self._item(found, pixels, color) for found in find_objects(image, self.classifier)
            ),
        )

    def _item(self, found: Detection, pixels: np.ndarray, color: np.ndarray) -> DetectedItem:
        box, (height, width) = found.box, pixels.shape[:2]
        longer = max(box.bottom - box.top, box.right - box.left) / min(height, width)
        is_word = found.label == WORD
        return DetectedItem(
            label=found.label,
            probability=found.probability,
            center=((box.top + box.bottom) / 2 / height, (box.left + box.right) / 2 / width),
            size=longer / self.lengths.get(found.label, 1.0),
            tint=found.tint,
            style=found.style,
            text=read_word(pixels[box.inside], color, self.letters) if is_word else None,
        )


def load_scene_reader(
    palette: Mapping[Name, tuple[int, int, int]], folder: Path = SHIPPED
) -> SceneReader:
    """Load what :func:`save_classifier` and :func:`save_templates` wrote to a folder."""
    facts = json.loads((folder / "templates.json").read_text())
    strip = np.asarray(Image.open(folder / "letters.png"), dtype=np.float32) / 255
    alphabet = facts["alphabet"]
    images = np.stack(np.split(strip, len(alphabet), axis=1))
    return SceneReader(
        classifier=load_classifier(folder),
        letters=Letters(alphabet, images),
        lengths=facts["lengths"],
        palette={str(name): color for name, color in palette.items()},
    )


def save_templates(letters: Letters, lengths: Mapping[str, float], folder: Path) -> None:
    """Write letters, side by side in one image, and the lengths of drawings."""
    folder.mkdir(parents=True, exist_ok=True)
    strip = np.concatenate(list(letters.images), axis=1)
    Image.fromarray((strip * 255).round().astype(np.uint8)).save(folder / "letters.png")
    facts = {"alphabet": letters.alphabet, "lengths": dict(lengths)}
    (folder / "templates.json").write_text(json.dumps(facts, indent=1) + "\n")
