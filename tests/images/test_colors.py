from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from deepgen.images.io import read_image, to_rgb
from tests.images.profiles import adobe_rgb, grey

IN_ADOBE, IN_SRGB = (200, 120, 80), (224, 121, 77)
WHITE = (255, 255, 255)


def near(found: object, expected: tuple[int, int, int], levels: int = 1) -> bool:
    return bool(np.abs(np.subtract(found, expected)).max() <= levels)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff"])
def test_colors_are_converted_by_the_embedded_profile(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"photograph.{suffix}"
    lossless = {"quality": 100, "lossless": True} if suffix in ("jpg", "webp") else {}
    Image.new("RGB", (8, 8), IN_ADOBE).save(path, icc_profile=adobe_rgb(), **lossless)
    image = read_image(path)
    assert near(image.getpixel((4, 4)), IN_SRGB, levels=2 if suffix == "jpg" else 1)
    assert "icc_profile" not in image.info
    assert to_rgb(image) is image


def test_an_image_in_memory_keeps_its_profile_until_it_is_converted(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), IN_ADOBE).save(tmp_path / "a.png", icc_profile=adobe_rgb())
    with Image.open(tmp_path / "a.png") as opened:
        copied = opened.copy()
    assert near(to_rgb(copied).getpixel((0, 0)), IN_SRGB)


def test_transparent_and_palette_images_have_profiles_too(tmp_path: Path) -> None:
    image = Image.new("RGBA", (8, 8), (*IN_ADOBE, 255))
    image.putpixel((0, 0), (*IN_ADOBE, 0))
    image.save(tmp_path / "a.png", icc_profile=adobe_rgb())
    assert read_image(tmp_path / "a.png").getpixel((0, 0)) == WHITE
    assert near(read_image(tmp_path / "a.png").getpixel((4, 4)), IN_SRGB)
    palette = Image.new("RGB", (8, 8), IN_ADOBE).quantize(4)
    palette.save(tmp_path / "p.png", icc_profile=adobe_rgb())
    assert near(read_image(tmp_path / "p.png").getpixel((4, 4)), IN_SRGB)


def test_grey_images_have_profiles_of_grey(tmp_path: Path) -> None:
    levels = Image.fromarray(np.full((4, 4), 128, dtype=np.uint8))
    levels.save(tmp_path / "a.png", icc_profile=grey(1.0))
    # Linear light 128 / 255 in sRGB.
    assert near(read_image(tmp_path / "a.png").getpixel((0, 0)), (188, 188, 188))
    deep = Image.fromarray(np.full((4, 4), 128 * 257, dtype=np.uint16))
    deep.save(tmp_path / "b.png", icc_profile=grey(1.0))
    assert near(read_image(tmp_path / "b.png").getpixel((0, 0)), (188, 188, 188))


def test_pixels_with_a_profile_of_srgb_are_not_touched(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(noise).save(tmp_path / "a.png", icc_profile=profile)
    assert np.array_equal(np.asarray(read_image(tmp_path / "a.png")), noise)


@pytest.mark.parametrize("profile", [b"no profile", adobe_rgb()[:200], grey(2.2)])
def test_a_profile_that_cannot_be_used_is_ignored_with_a_warning(
    tmp_path: Path, profile: bytes
) -> None:
    Image.new("RGB", (8, 8), IN_ADOBE).save(tmp_path / "a.png", icc_profile=profile)
    with pytest.warns(UserWarning, match=r"a\.png.*profile"):
        assert read_image(tmp_path / "a.png").getpixel((0, 0)) == IN_ADOBE


def test_a_transparent_grey_of_sixteen_bits_is_white(tmp_path: Path) -> None:
    levels = np.full((2, 2), 40_000, dtype=np.uint16)
    levels[0, 0] = 7
    Image.fromarray(levels).save(tmp_path / "a.png", transparency=7)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = read_image(tmp_path / "a.png")
    assert image.getpixel((0, 0)) == WHITE
    assert image.getpixel((1, 1)) == (156, 156, 156)
