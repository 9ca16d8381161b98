"""Formats that Pillow alone does not read: HEIC through pillow-heif, others named in messages."""

from __future__ import annotations

from codecs import getincrementaldecoder
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from deepgen.extras import install_line
from deepgen.reading import open_regular

HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""What an ISO media file may call itself after its ``ftyp``; iPhones write the first."""

SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
    (b"8BPS", "a Photoshop document"),
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"\x1aE\xdf\xa3", "a video"),
    (b"\x76\x2f\x31\x01", "an OpenEXR image"),
    (b"FUJIFILMCCD-RAW", "a camera's raw image"),
)

# fmt: off
READ_SUFFIXES = frozenset((
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".pjpeg", ".webp", ".gif",
    ".bmp", ".dib", ".tif", ".tiff", ".avif", ".avifs", ".ppm", ".pgm", ".pbm", ".pnm", ".ico",
    ".heic", ".heif", ".hif",
))
FOREIGN_SUFFIXES = frozenset((
    ".jxl", ".jp2", ".j2k", ".psd", ".svg", ".eps", ".tga", ".exr", ".hdr", ".dng", ".cr2",
    ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pcx", ".dds", ".xcf",
))
# fmt: on
IMAGE_SUFFIXES = READ_SUFFIXES | FOREIGN_SUFFIXES
"""Endings of files that are images, whether they can be read or not."""

IMAGE_STARTS = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*")
"""First bytes of the most frequent formats."""

CONVERT = "convert it to PNG or JPEG first"


def looks_like_image(path: Path) -> bool:
    """Whether a file is an image by its suffix, or by its first bytes if it has none."""
    if path.suffix:
        return path.suffix.lower() in IMAGE_SUFFIXES
    try:
        with open_regular(path) as file:
            return file.read(16).startswith(IMAGE_STARTS)
    except OSError:
        return False


@cache
def register_heif() -> bool:
    """Have Pillow read HEIC, if pillow-heif is installed; whether it is."""
    if find_spec("pillow_heif") is None:
        return False
    from pillow_heif import register_heif_opener

    register_heif_opener()
    return True


def foreign_format(data: bytes) -> str | None:
    """What a file is that cannot be read as an image, and what to do; None if it is not known."""
    start = data[:512]
    if start[4:8] == b"ftyp":
        if start[8:12] not in HEIC_BRANDS:
            return f"a video, or an image in an unknown container; {CONVERT}"
        if register_heif():
            return "a damaged HEIC image; save it again or take another"
        return (
            f"a HEIC image, which needs pillow-heif: {install_line('heic')}, or convert it to JPEG "
            "first"
        )
    for signature, title in SIGNATURES:
        if start.startswith(signature):
            return f"{title}; {CONVERT}"
    if b"<svg" in start.lower():
        return f"an SVG drawing; {CONVERT}"
    if _is_text(start) and not start.startswith(IMAGE_STARTS):
        return "text, expected an image"
    return None


def _is_text(start: bytes) -> bool:
    """Whether the beginning of a file is text in UTF-8, possibly cut within a character."""
    try:
        text = getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character.isspace() for character in text)
