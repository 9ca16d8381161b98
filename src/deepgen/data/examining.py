"""Looking at the images of a row: each is decoded once, in whatever process or machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from deepgen.data.importers.archives import read_span
from deepgen.data.importers.source import BadRow, BadSampleError, ImageSource, RawSample, Span
from deepgen.data.records import content_hash
from deepgen.data.shards import StoredImage
from deepgen.errors import ImageError
from deepgen.images.io import max_file_bytes, open_image, read_file, to_rgb

ORIENTATION_TAG = 0x0112

Examined = list[StoredImage] | BadRow
"""The images of a row, in the order of :attr:`RawSample.images`; or why it cannot be used."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Examiner:
    """Decodes the images of rows and applies the limits of an import; can be pickled.

    Args:
        keeps_bytes: Whether the images come with their bytes. Between processes they would be
            copied several times, so whoever writes them reads them again.
    """

    root: Path
    min_side: int
    max_aspect: int
    max_references: int
    keeps_bytes: bool

    def __call__(self, row: RawSample | BadRow) -> Examined:
        """The images of a row, or why it cannot be used."""
        if isinstance(row, BadRow):
            return row
        try:
            return self._images(row)
        except BadSampleError as error:
            return BadRow(native_id=row.native_id, reason=error.reason, message=str(error))

    def _images(self, row: RawSample) -> list[StoredImage]:
        is_limited = row.provenance is None
        if is_limited and len(row.references) > self.max_references:
            count, limit = len(row.references), self.max_references
            raise BadSampleError("references", f"{count} references, at most {limit} are accepted")
        roles = ["the target", *(f"reference {n}" for n in range(1, len(row.references) + 1))]
        if row.negative_target is not None:
            roles.append("the negative target")
        if row.sha256 is not None:
            # Before it is decoded: what else is wrong with it follows from that.
            data = _read(self.root, row.target, roles[0])
            if sha256(data).hexdigest() != row.sha256:
                raise BadSampleError(
                    "hash_mismatch", "the target is not the file whose SHA-256 the row states"
                )
        found = [
            self._image(each, role, is_limited=is_limited)
            for each, role in zip(row.images, roles, strict=True)
        ]
        references = found[1 : 1 + len(row.references)]
        if found[0].hash in {each.hash for each in references}:
            raise BadSampleError("ref_target_identical", "a reference is the target itself")
        return found

    def _image(self, source: ImageSource, role: str, *, is_limited: bool) -> StoredImage:
        """Read an image and decode it.

        Raises:
            BadSampleError: It cannot be read, or the limits exclude it.
        """
        try:
            name = _name(source, role)
            data = read_source(self.root, source, name=name)
            with open_image(data, name=name) as image:
                mode, kind = image.mode, image.format or "unknown"
                stated = image.size
                width, height = to_rgb(image, name=name).size
                orientation = image.getexif().get(ORIENTATION_TAG, 1)
                if image.size != stated and kind in ("JPEG", "MPO"):
                    # Decoded at a reduced scale: it is the file's own size that counts.
                    width, height = stated if orientation <= 4 else stated[::-1]
        except ImageError as error:
            raise BadSampleError(error.reason, str(error)) from None
        if is_limited:
            self._check_size(name, width, height)
        return StoredImage(
            data=data if self.keeps_bytes else b"",
            format=kind,
            width=width,
            height=height,
            exif_orientation=orientation if orientation in range(1, 9) else 1,
            mode=mode,
            hash=content_hash(data),
        )

    def _check_size(self, name: str, width: int, height: int) -> None:
        short, long = sorted((width, height))
        size = f"{width} x {height}"
        if short < self.min_side:
            raise BadSampleError(
                "too_small", f"{name} is {size}, expected sides of {self.min_side} or more"
            )
        if long >= self.max_aspect * short:
            limit = self.max_aspect
            raise BadSampleError("aspect", f"{name} is {size}, expected less than {limit} to 1")


def read_source(root: Path, source: ImageSource, *, name: str) -> bytes:
    """The bytes of an image.

    Raises:
        ImageError: They cannot be read.
    """
    if isinstance(source, bytes):
        return source
    if isinstance(source, str):
        return read_file(root / source, name=name)
    if source.length > max_file_bytes():
        message = f"{name} is larger than {max_file_bytes() >> 20} MiB, the limit"
        raise ImageError(message, reason="too_large")
    try:
        data = read_span(source)
    except OSError as error:
        raise ImageError(f"{name} cannot be read ({error.strerror})", reason="io") from None
    if len(data) != source.length:
        raise ImageError(f"{name}: its archive ends before it does", reason="damaged")
    return data


def with_bytes(root: Path, row: RawSample, found: list[StoredImage]) -> list[StoredImage]:
    """Images that another process examined, with their bytes.

    Raises:
        BadSampleError: One changed in the meantime.
    """
    complete = []
    for source, image in zip(row.images, found, strict=True):
        name = _name(source, "an image")
        data = _read(root, source, "an image")
        if content_hash(data) != image.hash:
            raise BadSampleError("hash_mismatch", f"{name} changed while it was imported")
        complete.append(replace(image, data=data))
    return complete


def _read(root: Path, source: ImageSource, role: str) -> bytes:
    try:
        return read_source(root, source, name=_name(source, role))
    except ImageError as error:
        raise BadSampleError(error.reason, str(error)) from None


def _name(source: ImageSource, role: str) -> str:
    if isinstance(source, Span):
        return source.name
    return role if isinstance(source, bytes) else source
