"""Image files: untrusted ones read safely, in any mode and orientation; ours written atomically.

No torch in here, so that a bad image is refused before anything slow is imported.
"""

from __future__ import annotations

import errno
import json
import os
import re
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from deepgen.errors import ImageError
from deepgen.images.colors import PROFILE, TRANSPARENCY, to_srgb
from deepgen.images.formats import foreign_format, register_heif
from deepgen.images.memory import SCALES, VARIABLE, decode_budget, needed_bytes
from deepgen.images.provenance import PNG_XMP, SOURCE_KEY, DigitalSource, xmp_packet
from deepgen.images.signing import Signer
from deepgen.reading import read_bytes

MAX_PIXELS = 180_000_000
"""About twice the size of the largest cameras' images; more is refused from the header alone."""

# Formats in common use. Others (PostScript among them, which starts a program) are not even tried.
READ_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM", "ICO", "HEIF")

WRITE_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
"""Formats that images are written in, by suffix."""

PNG_KEY = "deepgen"

ORIENTATION = 0x0112
EXIF_FOLDER = 0x8769
USER_COMMENT = 0x9286
# The standard's eight bytes for the encoding of the comment.
ASCII_COMMENT = b"ASCII\0\0\0"

# At 95 no artefact shows at any zoom; above it JPEG files only grow.
JPEG_QUALITY = 95

MAX_FILE_BYTES = 1 << 30
"""Size limit of one file. The largest that could be read, 180 million pixels raw, take 720 MB."""

MANGLED_ADDRESS = re.compile(r"(https?|ftp|s3|gs|data|file):/{1,2}", re.IGNORECASE)

NETPBM_START = re.compile(rb"P[1-6f]")
NETPBM_HEADER = re.compile(rb"P[1-6f](?:(?:\s|#[^\r\n]*[\r\n])+[^\s#]+){2}", re.DOTALL)

START_BYTES = 12
"""Enough of a file for a message to show what it is, if not an image."""

NETPBM_HEADER_BYTES = 1 << 16
MAX_PLAIN_BYTES = 16 << 20
"""Pillow reads these headers byte by byte, and pixels written as text with Python: a minute for
100 MB."""


def read_image(path: Path | str) -> Image.Image:
    """Read an image file as upright RGB.

    Of animations the first frame is used, with a warning. Transparent parts become white, 16-bit
    images are scaled to 8 bits, colours are converted to sRGB by their embedded profile.

    Raises:
        ImageError: The file is missing, damaged, no image, or larger than ``MAX_PIXELS``.
    """
    return decode_image(read_file(Path(path), name=str(path)), name=str(path))


def read_file(path: Path, *, name: str) -> bytes:
    """The content of a file that may be an image.

    Raises:
        ImageError: It is missing, no file, too large, or cannot be read.
    """
    address = MANGLED_ADDRESS.match(name)
    if address is not None:
        # A path has lost a slash of it.
        url = f"{address[1]}://{name[address.end() :]}"
        raise ImageError(
            f"{url} is an address, but images are read from files: download it first, for example "
            f"with curl -L -o image.jpg {url}",
            reason="missing",
        )
    try:
        if not path.exists():
            raise ImageError(f"no image at {name}; check the path", reason="missing")
        if not path.is_file():
            kind = "a folder" if path.is_dir() else "no ordinary file"
            raise ImageError(f"{name} is {kind}, expected an image file", reason="not_an_image")
        return read_bytes(path, limit=max_file_bytes())
    except PermissionError:
        raise ImageError(f"{name} may not be read; check its permissions", reason="io") from None
    except OSError as error:
        if error.errno == errno.EFBIG:
            message = f"{name} is larger than {max_file_bytes() >> 20} MiB, the limit"
            raise ImageError(message, reason="too_large") from None
        raise ImageError(f"{name} cannot be read ({error.strerror})", reason="io") from None


def decode_image(data: bytes, *, name: str = "the image") -> Image.Image:
    """As :func:`read_image`, for the content of a file.

    Raises:
        ImageError: It is damaged, no image, or larger than ``MAX_PIXELS``.
    """
    with open_image(data, name=name) as image:
        return to_rgb(image, name=name)


@contextmanager
def open_image(
    data: bytes, *, name: str = "the image", formats: list[str] | None = None
) -> Iterator[Image.Image]:
    """Open the content of a file without decoding it, for its format or for :func:`to_rgb`.

    Errors of the decoder, also those within the block, become ``ImageError``.

    Args:
        data: The file.
        name: For messages.
        formats: Only these; None for all of ``READ_FORMATS``.

    Raises:
        ImageError: It is not an image, its header is damaged, or it is larger than ``MAX_PIXELS``.
    """
    if not data:
        raise ImageError(f"{name} is empty, expected an image", reason="empty")
    _check_netpbm(data, name)
    try:
        with warnings.catch_warnings():
            # Pillow warns of large images below our limit, and of damage, which raises here.
            warnings.filterwarnings("ignore", module="PIL")
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(BytesIO(data), formats=formats or _known_formats()) as image:
                yield image
    except ImageError:
        raise
    except UnidentifiedImageError:
        foreign = foreign_format(data)
        if foreign is not None:
            raise ImageError(f"{name} is {foreign}", reason="not_an_image") from None
        raise ImageError(
            f"{name} is not an image, or a damaged one: it starts with {data[:START_BYTES]!r}, and "
            f"cannot be read as any of {', '.join(_known_formats())}; convert it to one of these",
            reason="not_an_image",
        ) from None
    except Image.DecompressionBombError:
        raise _too_large(name) from None
    except Exception as error:
        # Decoders of ten formats raise whatever they happen to meet: AVIF raises RuntimeError.
        raise _damaged(name, error) from None


def to_rgb(image: Image.Image, *, name: str = "the image") -> Image.Image:
    """An image as upright RGB in memory; see :func:`read_image`.

    An image that already is, as all results of this module are, is returned unchanged.

    Raises:
        ImageError: Empty, too large, or its data are damaged.
    """
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(f"{name} ({image.width} x {image.height})")
    if image.mode == "F":
        raise ImageError(
            f"{name} has floating-point pixels, expected 8 or 16 bits; convert it", reason="mode"
        )
    if min(image.size) < 1:
        size = f"{image.width} x {image.height}"
        raise ImageError(f"{name} is {size}, expected at least one pixel", reason="empty")
    try:
        if _is_converted(image):
            return image
        # Phones store a second image (depth, gain map) after a photograph; that is not an
        # animation.
        if getattr(image, "is_animated", False) and image.format != "MPO":
            warnings.warn(f"{name} is animated; its first frame is used", stacklevel=3)
            image.seek(0)
        is_rotated = image.getexif().get(ORIENTATION, 1) != 1
        needed = _fit_in_memory(image, is_rotated=is_rotated, name=name)
        with decode_budget().reserve(needed):
            image.load()
            upright = ImageOps.exif_transpose(image) if is_rotated else image
            return to_srgb(upright, name=name)
    except ImageError:
        raise
    except Exception as error:
        # See open_image.
        raise _damaged(name, error) from None


def max_file_bytes() -> int:
    """Size limit of an image file: half of the memory that decoding may take."""
    return min(MAX_FILE_BYTES, decode_budget().total // 2)


def _fit_in_memory(image: Image.Image, *, is_rotated: bool, name: str) -> int:
    """Have a large JPEG decoded at a scale that fits in memory; the bytes that decoding takes.

    Raises:
        ImageError: It does not fit.
    """
    total = decode_budget().total
    can_scale = image.format in ("JPEG", "MPO")
    for scale in SCALES if can_scale else SCALES[:1]:
        needed = needed_bytes(image, is_rotated=is_rotated, scale=scale)
        if needed <= total:
            if scale > 1:
                full = f"{image.width} x {image.height}"
                image.draft(None, (image.width // scale, image.height // scale))
                warnings.warn(
                    f"{name} is decoded at {image.width} x {image.height} instead of {full}, which "
                    f"takes more than {total >> 20} MiB; {VARIABLE} sets this limit",
                    stacklevel=4,
                )
            return needed
    whole = needed_bytes(image, is_rotated=is_rotated)
    raise ImageError(
        f"{name} ({image.width} x {image.height}) is too large: decoding takes "
        f"{(whole >> 20) + 1} MiB, {total >> 20} is the limit; scale it down, or set {VARIABLE}",
        reason="too_large",
    )


def _check_netpbm(data: bytes, name: str) -> None:
    """Refuse PPM and its relatives whose header or text is too long to be read in time.

    Raises:
        ImageError: It is.
    """
    if not NETPBM_START.match(data):
        return
    is_plain = data[1:2] in b"123"
    if is_plain and len(data) > MAX_PLAIN_BYTES:
        raise ImageError(
            f"{name} has over {MAX_PLAIN_BYTES >> 20} MiB of pixels as text; save it as PNG",
            reason="too_large",
        )
    if not NETPBM_HEADER.match(data[:NETPBM_HEADER_BYTES]):
        raise ImageError(f"{name} is damaged (its header does not end); save it again")


def _is_converted(image: Image.Image) -> bool:
    """Whether an image is opaque, upright RGB in memory."""
    return (
        type(image) is Image.Image
        and image.mode == "RGB"
        and not {PROFILE, TRANSPARENCY} & image.info.keys()
        and image.getexif().get(ORIENTATION, 1) == 1
    )


def _known_formats() -> list[str]:
    """Those of ``READ_FORMATS`` that can be read here: HEIF needs pillow-heif."""
    Image.init()
    register_heif()
    return [name for name in READ_FORMATS if name in Image.OPEN]


def _too_large(name: str) -> ImageError:
    return ImageError(
        f"{name} is too large: at most {MAX_PIXELS:,} pixels are read; scale it down",
        reason="too_large",
    )


def _damaged(name: str, error: Exception) -> ImageError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return ImageError(f"{name} is damaged ({reason}); save it again or take another")


def write_image(
    image: Image.Image,
    path: Path,
    record: Mapping[str, Any],
    *,
    overwrite: bool,
    source: DigitalSource | None = None,
    signer: Signer | None = None,
) -> None:
    """Write an image with a record of how it was made; the file appears complete or not at all.

    The record is JSON in ASCII: the text chunk ``deepgen`` of a PNG, the EXIF user comment of a
    JPEG or WebP. Equal images with equal records give equal bytes, unless they are signed.

    Args:
        path: The new file; its suffix, one of ``WRITE_FORMATS``, selects the format.
        source: What made it, stated in the file's XMP; None for what no model made.
        signer: Adds a C2PA manifest.

    Raises:
        ValueError: The file exists, and ``overwrite`` is false.
    """
    kind = WRITE_FORMATS[path.suffix.lower()]
    data = encode_image(image, kind, record, source=source, signer=signer)
    with atomic_file(path, overwrite=overwrite) as part:
        part.write_bytes(data)


def image_record(
    image: Image.Image,
    *,
    prompt: str,
    seed: int | None,
    steps: int,
    guidance: float,
    model: str | None,
    further: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What is stored in an image's file of how it was made; ``further`` are settings of samplers
    that differ from the default."""
    size = {"width": image.width, "height": image.height}
    return {"prompt": prompt, "seed": seed, **size} | {
        "steps": steps,
        "guidance": guidance,
        **(further or {}),
        "model": model,
    }


def save_image(
    image: Image.Image, path: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Write an image of the pipeline as the commands do: whole or not at all, with its record.

    The record (prompt, seed, size, steps, guidance and model) is what the pipeline left in
    ``image.info["deepgen"]``; an image that comes from elsewhere, or was edited since, has none.
    That a model made it is stated in the file's XMP.

    Args:
        path: Ends in one of ``WRITE_FORMATS``.
        overwrite: Replace an existing file.

    Raises:
        ValueError: The suffix is another, or the file exists and ``overwrite`` is false.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITE_FORMATS:
        raise ValueError(f"{path} must end in one of {', '.join(WRITE_FORMATS)}")
    record = json.loads(image.info.get(PNG_KEY, "{}"))
    write_image(image, path, record, overwrite=overwrite, source=image.info.get(SOURCE_KEY))


def encode_image(
    image: Image.Image,
    kind: str,
    record: Mapping[str, Any],
    *,
    quality: int | None = None,
    source: DigitalSource | None = None,
    signer: Signer | None = None,
) -> bytes:
    """The content of an image file with a record of how it was made; see :func:`write_image`.

    Args:
        kind: ``PNG``, ``JPEG`` or ``WEBP``.
        quality: From 0 to 100, of a JPEG (default 95) or WebP (default lossless).
        source: See :func:`write_image`.
        signer: See :func:`write_image`; it needs a source.

    Raises:
        SigningError: It was to be signed, and could not be.
    """
    text = json.dumps(dict(record))
    options: dict[str, Any]
    if kind == "PNG":
        chunk = PngInfo()
        if record:
            chunk.add_text(PNG_KEY, text)
        if source is not None:
            chunk.add_itxt(PNG_XMP, xmp_packet(source).decode())
        options = {"pnginfo": chunk}
    else:
        exif = Image.Exif()
        # Set as a whole: what is set in an empty `get_ifd` is lost in Pillow 11.0.
        exif[EXIF_FOLDER] = {USER_COMMENT: ASCII_COMMENT + text.encode("ascii")}
        options = {"exif": exif.tobytes()}
        if quality is not None:
            options["quality"] = quality
        else:
            options |= {"quality": JPEG_QUALITY} if kind == "JPEG" else {"lossless": True}
        if source is not None:
            options["xmp"] = xmp_packet(source)
    content = BytesIO()
    image.save(content, format=kind, **options)
    data = content.getvalue()
    return data if signer is None or source is None else signer.signed(data, kind, source)


@contextmanager
def atomic_file(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """A temporary file in the same folder, renamed to ``path`` when the block succeeds."""
    part = path.parent / f".deepgen-{uuid.uuid4().hex}.part"
    try:
        yield part
        if overwrite:
            part.replace(path)
        else:
            _rename_to_new(part, path)
    finally:
        part.unlink(missing_ok=True)


def _rename_to_new(part: Path, path: Path) -> None:
    """Rename, but never over another file: creating a hard link fails where a rename replaces."""
    try:
        os.link(part, path)
    except OSError as error:
        # Some file systems have no hard links; there a file created just now is overlooked.
        if os.path.lexists(path):
            raise ValueError(f"{path} exists; choose another name, or overwrite it") from error
        part.replace(path)
