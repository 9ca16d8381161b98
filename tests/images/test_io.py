from __future__ import annotations

import json
import os
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

import deepgen.images.colors
import deepgen.images.formats
import deepgen.images.io
from deepgen.errors import ImageError
from deepgen.images.io import ASCII_COMMENT, read_image, to_rgb, write_image
from tests.images.profiles import grey

RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)
RECORD = {"prompt": "一只猫", "seed": 7}
PLAIN = Image.new("RGB", (32, 64), (200, 30, 40))


def half_red_half_green() -> Image.Image:
    image = Image.new("RGB", (40, 20), RED)
    image.paste(GREEN, (20, 0, 40, 20))
    return image


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises a size and has no data to speak of."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(b"\0"))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", ["png", "webp", "bmp", "tiff", "gif", "ppm"])
def test_a_plain_image_is_read_as_it_is(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"image.{suffix}"
    half_red_half_green().save(path, **({"lossless": True} if suffix == "webp" else {}))
    image = read_image(path)
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), np.asarray(half_red_half_green()))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_rotated_photograph_stands_upright(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "photograph.png"
    half_red_half_green().save(path, exif=exif)
    image = read_image(path)
    width, height = image.size
    assert (width, height) == ((40, 20) if orientation <= 4 else (20, 40))
    # Where the red half ends up, by the meaning of the eight orientations.
    edges = {
        "left": (0, height // 2),
        "right": (width - 1, height // 2),
        "top": (width // 2, 0),
        "bottom": (width // 2, height - 1),
    }
    red = {1: "left", 2: "right", 3: "right", 4: "left", 5: "top", 6: "top", 7: "bottom"}
    assert image.getpixel(edges[red.get(orientation, "bottom")]) == RED


def test_what_is_transparent_becomes_white(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    image = half_red_half_green().convert("RGBA")
    image.putpixel((0, 0), (9, 9, 9, 0))
    image.putpixel((1, 0), (0, 0, 0, 51))
    image.save(path)
    assert read_image(path).getpixel((0, 0)) == WHITE
    assert read_image(path).getpixel((1, 0)) == (204, 204, 204)
    assert read_image(path).getpixel((2, 0)) == RED


def test_a_transparent_palette_entry_becomes_white(tmp_path: Path) -> None:
    path = tmp_path / "image.gif"
    image = half_red_half_green().quantize(2)
    hidden = image.getpixel((0, 0))
    image.save(path, transparency=hidden)
    assert read_image(path).getpixel((0, 0)) == WHITE
    assert read_image(path).getpixel((39, 0)) == GREEN


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(np.array([[0, 257, 128 * 257, 65535]], dtype=np.uint16)).save(path)
    assert np.asarray(read_image(path))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_a_dark_image_of_sixteen_bits_stays_dark(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(np.full((2, 2), 200, dtype=np.uint16)).save(path)
    assert read_image(path).getpixel((0, 0)) == (1, 1, 1)


def test_inks_are_read_without_a_profile(tmp_path: Path) -> None:
    path = tmp_path / "image.tiff"
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(path)
    assert read_image(path).getpixel((0, 0)) == RED


def test_the_profile_of_an_ink_image_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "image.tiff"
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(path, icc_profile=grey(2.2))
    # No profile of inks is free to ship, so what is checked is that it would be used.
    monkeypatch.setattr(deepgen.images.colors, "COLOR_SPACES", {"CMYK": "GRAY"})
    monkeypatch.setattr(
        ImageCms,
        "profileToProfile",
        lambda image, *_, **__: Image.new("RGB", image.size, GREEN),
    )
    assert read_image(path).getpixel((0, 0)) == GREEN


def test_an_unusable_profile_is_ignored_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "image.tiff"
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(path, icc_profile=b"no profile")
    with pytest.warns(UserWarning, match="profile"):
        assert read_image(path).getpixel((0, 0)) == RED


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_an_animation_gives_its_first_frame_with_a_warning(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"animation.{suffix}"
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN)]
    lossless = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], **lossless)
    with pytest.warns(UserWarning, match="animated"):
        assert read_image(path).getpixel((0, 0)) == RED


def test_the_second_image_behind_a_photograph_is_no_animation(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    path = tmp_path / "photograph.jpg"
    Image.new("RGB", (8, 8), RED).save(
        path, format="MPO", save_all=True, append_images=[Image.new("RGB", (8, 8), GREEN)]
    )
    assert read_image(path).size == (8, 8)
    assert not recwarn.list


def test_an_image_of_enormous_size_is_refused_from_its_header(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(50_000, 50_000))
    with pytest.raises(ImageError, match="too large: at most 180,000,000"):
        read_image(path)


def test_an_open_image_of_enormous_size_is_refused_before_decoding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deepgen.images.io, "MAX_PIXELS", 100)
    with pytest.raises(ImageError, match=r"11 x 10.* too large"):
        to_rgb(Image.new("RGB", (11, 10)))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "tiff"])
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_truncated_image_is_refused(tmp_path: Path, suffix: str, part: float) -> None:
    path = tmp_path / f"image.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(ImageError):
        read_image(path)


@pytest.mark.parametrize(
    "content",
    [
        b"\xfe\xff\xfd no image",
        b"\x89PNG\r\n\x1a\n",
        b"\x89PNG\r\n\x1a\n" + b"\0" * 50,
        b"\xff\xd8\xff",
        b"GIF89a",
    ],
)
def test_what_is_no_image_is_refused_whatever_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"image\.png is (not an image|damaged)") as refusal:
        read_image(path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0heicmif1", "a HEIC image, .*pillow-heif"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "a HEIC image, .*pillow-heif"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isomiso2", "a video"),
        (b"\xff\x0a\xfa\x1f", "a JPEG XL image"),
        (b"8BPS\0\x01", "a Photoshop document"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "a PostScript document"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
    ],
)
def test_a_known_format_that_is_not_read_is_named(
    tmp_path: Path, content: bytes, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deepgen.images.formats, "register_heif", lambda: False)
    path = tmp_path / "image.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=rf"image\.png is {named}.*convert it to"):
        read_image(path)


@pytest.mark.parametrize("text", ["a prompt\n", "一只猫" * 300])
def test_a_text_is_said_to_be_one(tmp_path: Path, text: str) -> None:
    path = tmp_path / "image.png"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ImageError, match=r"image\.png is text, expected an image$"):
        read_image(path)


def test_what_is_not_there_or_empty_or_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no image at"):
        read_image(tmp_path / "absent.png")
    with pytest.raises(ImageError, match="is a folder"):
        read_image(tmp_path)
    (tmp_path / "empty.png").touch()
    with pytest.raises(ImageError, match="is empty"):
        read_image(tmp_path / "empty.png")


@pytest.mark.parametrize("url", ["https://example.org/a.jpg?x=1", "http://a.b/c.png", "s3://x/y"])
def test_an_address_is_refused_with_its_name_as_it_was_given(url: str) -> None:
    for given in (url, Path(url)):
        with pytest.raises(ImageError) as refusal:
            read_image(given)
        assert str(refusal.value).startswith(f"{url} is an address")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="no ordinary file"):
        read_image(tmp_path / "pipe.png")


def test_floating_point_images_are_refused() -> None:
    with pytest.raises(ImageError, match="expected 8 or 16 bits"):
        to_rgb(Image.fromarray(np.ones((2, 2), dtype=np.float32)))


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(ImageError, match="at least one pixel"):
        to_rgb(Image.new("RGB", (0, 5)))


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_png_carries_its_record(tmp_path: Path) -> None:
    write_image(PLAIN, tmp_path / "a.png", RECORD, overwrite=False)
    with Image.open(tmp_path / "a.png") as image:
        assert json.loads(image.info["deepgen"]) == RECORD
        assert image.tobytes() == PLAIN.tobytes()


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.webp"])
def test_a_jpeg_and_a_webp_carry_their_record_as_exif_comment(tmp_path: Path, name: str) -> None:
    write_image(PLAIN, tmp_path / name, RECORD, overwrite=False)
    with Image.open(tmp_path / name) as image:
        comment = image.getexif().get_ifd(0x8769)[0x9286]
    assert comment.startswith(ASCII_COMMENT)
    assert json.loads(comment.removeprefix(ASCII_COMMENT)) == RECORD


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_equal_images_are_equal_files(tmp_path: Path, suffix: str) -> None:
    for name in ("a", "b"):
        write_image(PLAIN, tmp_path / f"{name}.{suffix}", RECORD, overwrite=False)
    first, second = (tmp_path / f"{name}.{suffix}" for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_no_file_appears_where_no_hard_links_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    write_image(PLAIN, tmp_path / "a.png", RECORD, overwrite=False)
    with pytest.raises(ValueError, match="choose another"):
        write_image(PLAIN, tmp_path / "a.png", RECORD, overwrite=False)
    assert names(tmp_path) == ["a.png"]


def test_a_failed_writing_leaves_nothing(tmp_path: Path) -> None:
    class Unwritable(Image.Image):
        def save(self, file: BytesIO, **_: object) -> None:  # type: ignore[override]
            file.write(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_image(Unwritable(), tmp_path / "a.png", RECORD, overwrite=False)
    assert names(tmp_path) == []


def test_an_existing_file_is_replaced_only_on_request(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_text("precious")
    with pytest.raises(ValueError, match="exists; choose another"):
        write_image(PLAIN, path, RECORD, overwrite=False)
    assert path.read_text() == "precious"
    write_image(PLAIN, path, RECORD, overwrite=True)
    assert Image.open(path).size == (32, 64)
    assert names(tmp_path) == ["a.png"]


def test_a_converted_image_is_not_converted_again(tmp_path: Path) -> None:
    half_red_half_green().convert("RGBA").save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert to_rgb(image) is image


def test_an_image_in_memory_that_is_not_upright_or_opaque_is_converted() -> None:
    turned = half_red_half_green()
    turned.getexif()[0x0112] = 6
    assert to_rgb(turned).size == (20, 40)
    see_through = half_red_half_green()
    see_through.info["transparency"] = RED
    assert to_rgb(see_through).getpixel((0, 0)) == WHITE


def test_a_heic_photograph_is_read_where_its_library_is(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    PLAIN.save(tmp_path / "a.HEIC")
    assert read_image(tmp_path / "a.HEIC").size == (32, 64)
