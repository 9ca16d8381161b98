from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from deepgen.images.tensors import resize, to_image, to_pixels
from tests.shared import golden

LEVELS = np.arange(256, dtype=np.uint8).reshape(16, 16)


def test_every_level_survives_the_way_to_pixels_and_back() -> None:
    image = Image.fromarray(np.stack([LEVELS, LEVELS.T, 255 - LEVELS], axis=-1))
    assert np.array_equal(np.asarray(to_image(to_pixels(image))), np.asarray(image))


def test_pixels_run_from_minus_one_to_one_channels_first() -> None:
    pixels = to_pixels(Image.fromarray(np.stack([LEVELS] * 3, axis=-1)[:, :8]))
    assert pixels.shape == (3, 16, 8)
    assert pixels.dtype == torch.float32
    assert pixels.min() == -1
    assert torch.equal(pixels[1], 2 * (torch.from_numpy(LEVELS[:, :8]).float() / 255) - 1)


def test_values_outside_are_clamped_and_those_between_are_rounded_half_up() -> None:
    row = torch.tensor([-3.0, -1.0, -0.5 / 127.5, 0.0, 0.49 / 127.5, 1.0, 7.0])
    levels = np.asarray(to_image(row.expand(3, 1, -1)))[0, :, 0]
    assert levels.tolist() == [0, 0, 127, 128, 128, 255, 255]


def test_the_eight_bit_conversion_happens_in_float32() -> None:
    pixels = torch.linspace(-1, 1, 512).bfloat16().expand(3, 1, -1)
    assert to_image(pixels).tobytes() == to_image(pixels.float()).tobytes()


def test_the_reference_pixels_give_the_reference_images() -> None:
    cases = [path.stem for path in sorted(golden("sampling").glob("*.npz"))]
    assert cases
    for case in cases:
        pixels = torch.from_numpy(np.load(golden(f"sampling/{case}.npz"))["pixels"])
        ours = np.concatenate([np.asarray(to_image(each)) for each in pixels.float()], axis=1)
        theirs = np.asarray(Image.open(golden(f"sampling/{case}.png")).convert("RGB"))
        assert np.abs(ours.astype(int) - theirs).max() <= 1, case


def test_the_example_of_resizing_comes_out_the_same() -> None:
    [source] = golden("inputs").glob("resize_in_*.png")
    [target] = golden("inputs").glob("resize_out_*.png")
    expected = Image.open(target).convert("RGB")
    resized = resize(Image.open(source).convert("RGB"), expected.height, expected.width)
    assert np.array_equal(np.asarray(resized), np.asarray(expected))
