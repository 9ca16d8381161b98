"""Tar archives as they are published: read in place where they are plain, unpacked where not.

What is inside an archive is untrusted: paths that lead out of it, links and devices are reported
and never followed, and nothing is ever extracted under the name that an archive states.
"""

from __future__ import annotations

import os
import re
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from gzip import BadGzipFile, GzipFile
from hashlib import blake2b
from io import BufferedIOBase, BufferedReader, RawIOBase
from pathlib import Path
from typing import Any

from deepgen.data.importers.source import BadRow, BadSampleError, Span, check_relative
from deepgen.errors import DataError
from deepgen.reading import open_regular

GZIP = b"\x1f\x8b"

NAME = re.compile(
    r"(?P<stem>.+\.(?:tar|tgz)(?:\.gz)?)(?:[._-]?(?:part)?[._-]?(?P<part>\d+|[a-z]{2}))?"
)
"""File names of archives, whole (``a.tar.gz``) or in parts (``a.tar.gz.00``, ``a.tar.partaa``)."""

CHUNK = 1 << 20

MAX_RATIO = 50
"""Times its own size that an archive may unpack to: images hardly compress, bombs do."""

FREE_BYTES = 64 << 20
"""Bytes that any archive may unpack to, whatever its size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Archive:
    """A tar, in one file or in several that follow each other."""

    name: str
    """Path of the first file, relative to the source."""
    files: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A file inside an archive."""

    name: str
    span: Span

    def read(self, limit: int) -> bytes:
        """Its content.

        Raises:
            BadSampleError: It is larger than ``limit`` bytes.
        """
        if self.span.length > limit:
            raise BadSampleError("row", f"{self.name} has more than {limit:,} bytes")
        return read_span(self.span)


def read_span(span: Span) -> bytes:
    """The bytes of a span; fewer if its file has become shorter.

    Raises:
        OSError: The file cannot be read.
    """
    with open_regular(span.file) as file:
        file.seek(span.offset)
        return file.read(span.length)


def find_archives(root: Path, patterns: Sequence[str] = ("**/*",)) -> list[Archive]:
    """All archives below a folder whose first file matches a pattern, by name.

    Raises:
        DataError: Parts of one are missing, or there twice.
    """
    groups: dict[str, list[tuple[str, Path]]] = {}
    seen: set[Path] = set()
    for pattern in patterns:
        for path in root.glob(pattern):
            match = NAME.fullmatch(path.name)
            if match is None or path in seen or not path.is_file():
                continue
            seen.add(path)
            stem = path.with_name(match["stem"]).relative_to(root).as_posix()
            groups.setdefault(stem, []).append((match["part"] or "", path))
    found = []
    for stem, parts in sorted(groups.items()):
        # Numbers of different lengths sort by value; letters by themselves.
        parts.sort(key=lambda each: (len(each[0]), each[0]))
        _check_parts(stem, [part for part, _ in parts])
        if parts[0][0] == "":
            whole, parts = parts[:1], parts[1:]
            found.append(Archive(name=stem, files=(whole[0][1],)))
        if parts:
            found.append(Archive(name=stem, files=tuple(path for _, path in parts)))
    return found


def _check_parts(stem: str, parts: Sequence[str]) -> None:
    """Refuse an archive of which a part is there twice, or one in the middle or the first is not.

    Raises:
        DataError: It is so.
    """
    named = [each for each in parts if each]
    numbers = [int(each) if each.isdigit() else _letters(each) for each in named]
    by_number: dict[int, str] = {}
    for number, part in zip(numbers, named, strict=True):
        if number in by_number:
            raise DataError(
                f"{stem} has part {number} twice, with the endings {by_number[number]} and {part}; "
                "remove one of the two files, then import again"
            )
        by_number[number] = part
    if numbers and numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        missing = next(n for n in range(numbers[0], numbers[-1]) if n not in numbers)
        raise DataError(f"part {missing} of {stem} is missing; download it, then import again")
    if numbers and numbers[0] > 1:
        raise DataError(f"{stem} begins with part {numbers[0]}; download the parts before it")


def _letters(part: str) -> int:
    return (ord(part[0]) - ord("a")) * 26 + ord(part[1]) - ord("a")


def is_compressed(archive: Archive) -> bool:
    """Whether the content is gzip, whatever the name says."""
    with open_regular(archive.files[0]) as file:
        return file.read(len(GZIP)) == GZIP


def plain_tar(archive: Archive, scratch: Path) -> Path:
    """An archive as one uncompressed tar: itself, or a copy that is made once in ``scratch``.

    A compressed stream that ends early gives a tar that ends early, which :func:`members` reports.

    Raises:
        DataError: It unpacks to far more than its own size.
    """
    compressed = is_compressed(archive)
    if not compressed and len(archive.files) == 1:
        return archive.files[0]
    stats = [each.stat() for each in archive.files]
    key = repr((archive.name, [(each.st_size, each.st_mtime_ns) for each in stats]))
    target = scratch / f"{blake2b(key.encode(), digest_size=8).hexdigest()}.tar"
    if target.exists():
        return target
    scratch.mkdir(parents=True, exist_ok=True)
    limit = FREE_BYTES + MAX_RATIO * sum(each.st_size for each in stats)
    part = target.with_suffix(".part")
    try:
        with part.open("wb") as out, BufferedReader(_Joined(archive.files), CHUNK) as joined:
            stream = GzipFile(fileobj=joined) if compressed else joined
            _copy(stream, out, limit, archive.name)
        newest = max(each.st_mtime_ns for each in stats)
        # The age of an image is that of the archive, however often it is unpacked.
        os.utime(part, ns=(newest, newest))
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


def _copy(stream: BufferedIOBase, out: BufferedIOBase, limit: int, name: str) -> None:
    written = 0
    while True:
        try:
            # Not read(), which gives nothing of a block that ends early.
            block = stream.read1(CHUNK)
        except (EOFError, BadGzipFile, zlib.error):
            return
        if not block:
            return
        written += len(block)
        if written > limit:
            raise DataError(f"{name} unpacks to more than {limit:,} bytes; it is no image archive")
        out.write(block)


class _Joined(RawIOBase):
    """Files read one after another."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._rest = list(files)
        self._file: BufferedReader | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            if self._file is None:
                if not self._rest:
                    return 0
                self._file = open_regular(self._rest.pop(0))
            count = self._file.readinto(buffer)
            if count:
                return count
            self._file.close()
            self._file = None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        super().close()


def members(archive: Archive, scratch: Path) -> Iterator[Member | BadRow]:
    """The files of an archive in their order, and one row for everything that cannot be read.

    Raises:
        OSError: The archive cannot be read.
    """
    if not any(each.stat().st_size for each in archive.files):
        yield _fault(archive, "empty", "the archive has no bytes; download it again")
        return
    path = plain_tar(archive, scratch)
    size = path.stat().st_size
    end = 0
    start = -1
    with open_regular(path) as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                while (info := tar.next()) is not None:
                    # It keeps every header otherwise.
                    tar.members = []  # type: ignore[attr-defined]
                    # Some versions of tarfile give such a member again and again.
                    if info.size < 0 or info.offset <= start:
                        yield _fault(
                            archive,
                            "truncated",
                            f"the header at byte {info.offset:,} states an impossible size; what "
                            "followed is unknown. Download it again",
                        )
                        return
                    start = info.offset
                    end = info.offset_data + -(-info.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                    if info.isreg() and info.offset_data + info.size > size:
                        break
                    found = _member(archive, path, info)
                    if found is not None:
                        yield found
        except (tarfile.TarError, ValueError, OverflowError) as error:
            if end == 0:
                reason = " ".join(str(error).split())[:100]
                yield _fault(archive, "not_an_archive", f"it is not a tar ({reason})")
                return
            end = size
        # tarfile says nothing of an archive that ends between two members or inside a header.
        file.seek(end)
        if end >= size or any(file.read(tarfile.BLOCKSIZE)):
            yield _fault(
                archive,
                "truncated",
                f"the archive ends after {size:,} bytes without its end mark; what followed is "
                "unknown. Download it again",
            )


def _member(archive: Archive, path: Path, info: tarfile.TarInfo) -> Member | BadRow | None:
    if info.isdir():
        return None
    name = info.name.removeprefix("./")
    row = f"{archive.name}/{name}"
    if not info.isreg() or info.issparse():
        kind = "a link" if info.islnk() or info.issym() else "no ordinary file"
        return BadRow(native_id=_clean(row), reason="link", message=f"the member is {kind}")
    try:
        check_relative(name)
        name.encode()
    except BadSampleError as error:
        return BadRow(native_id=_clean(row), reason=error.reason, message=str(error))
    except UnicodeEncodeError:
        return BadRow(native_id=_clean(row), reason="path", message="its name is not UTF-8")
    span = Span(file=path, name=row, offset=info.offset_data, length=info.size)
    return Member(name=name, span=span)


def _fault(archive: Archive, reason: str, message: str) -> BadRow:
    return BadRow(native_id=archive.name, reason=reason, message=message)


def _clean(name: str) -> str:
    return name.encode(errors="replace").decode()
