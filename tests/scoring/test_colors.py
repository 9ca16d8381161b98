from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import normalize

from deepgen.scoring.clip import Clip
from deepgen.scoring.colors import ClipColors, cut_out

COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


class SeesColors(Clip):
    """A CLIP whose space is that of colours; a text lies where its colour does."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def embed_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        means = [np.asarray(image, dtype=np.float32).mean(axis=(0, 1)) for image in images]
        return normalize(torch.tensor(np.stack(means)), dim=-1)

    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        self.texts += texts
        named = [next(rgb for name, rgb in COLORS.items() if name in text) for text in texts]
        return normalize(torch.tensor(named, dtype=torch.float32), dim=-1)


def reader() -> tuple[ClipColors, SeesColors]:
    clip = SeesColors()
    return ClipColors(clip, tuple(COLORS)), clip


def test_each_object_has_the_nearest_of_the_named_colours() -> None:
    colors, _ = reader()
    crops = [Image.new("RGB", (4, 4), rgb) for rgb in ((250, 60, 10), (10, 20, 200), (0, 90, 0))]
    assert colors.read("car", crops) == ["red", "blue", "green"]
    assert colors.read("car", []) == []


def test_a_colour_is_named_before_the_class_as_its_adjective_and_of_any_object() -> None:
    colors, clip = reader()
    crop = [Image.new("RGB", (4, 4), "red")]
    colors.read("dining table", crop)
    colors.read("dining table", crop)
    assert clip.texts[:3] == [
        "a photo of a red dining table",
        "a photo of a red-colored dining table",
        "a photo of a red object",
    ]
    assert len(clip.texts) == 9, "three texts a colour, once for a class"


def test_the_three_texts_of_a_colour_count_alike() -> None:
    class Directions(SeesColors):
        def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
            # Each text of red lies on an axis of its own, all of green's on the diagonal of two:
            # nearer to white than any text of red, but not than their mean.
            axes = torch.eye(3)
            rows = [
                axes[number % 3] if "red" in text else normalize(axes[0] + axes[1], dim=0)
                for number, text in enumerate(texts)
            ]
            return torch.stack(rows)

    colors = ClipColors(Directions(), ("red", "green"))
    assert colors.read("car", [Image.new("RGB", (2, 2), "white")]) == ["red"]


def test_an_object_is_cut_out_on_grey() -> None:
    image = Image.new("RGB", (6, 4), "red")
    mask = np.zeros((4, 6), dtype=bool)
    mask[1:3, 2:4] = True
    cut = cut_out(image, (1.0, 1.0, 5.0, 3.0), mask)
    assert cut.size == (4, 2)
    assert [cut.getpixel((x, 0)) for x in range(4)] == [
        (0x99,) * 3,
        (255, 0, 0),
        (255, 0, 0),
        (0x99,) * 3,
    ]
    whole = cut_out(image, (0.6, 0.4, 5.4, 3.5), None)
    assert whole.size == (4, 4), "corners are rounded"
    assert np.all(np.asarray(whole) == (255, 0, 0))
    assert cut_out(image, (2.1, 2.1, 2.3, 2.3), None).size == (1, 1)
