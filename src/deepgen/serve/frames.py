"""Messages between the server and its engine: JSON with raw bytes, length-prefixed.

No pickle, so that neither process can make the other run anything.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from io import BufferedIOBase
from typing import Any, Protocol

HEADER = struct.Struct("!II")
"""Bytes of the JSON, number of blobs; then a length for each blob."""

LENGTH = struct.Struct("!Q")

MAX_JSON_BYTES = 8 << 20
MAX_BLOBS = 64
MAX_BLOB_BYTES = 1 << 30


class FrameError(Exception):
    """What arrived is no frame."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message."""

    values: dict[str, Any]
    blobs: Sequence[bytes] = ()


class AsyncReader(Protocol):
    """An asyncio stream."""

    async def readexactly(self, n: int, /) -> bytes:
        """So many bytes."""


def packed(frame: Frame) -> bytes:
    """The bytes of a frame."""
    text = json.dumps(frame.values).encode()
    lengths = b"".join(LENGTH.pack(len(blob)) for blob in frame.blobs)
    return b"".join([HEADER.pack(len(text), len(frame.blobs)), lengths, text, *frame.blobs])


def read_frame(stream: BufferedIOBase) -> Frame | None:
    """The next frame of a blocking stream; None at its end.

    Raises:
        FrameError: It ends within a frame, or a length is impossible.
    """
    start = stream.read(HEADER.size)
    if not start:
        return None
    length, blobs = _checked(start)
    lengths = [_blob_length(_exactly(stream, LENGTH.size)) for _ in range(blobs)]
    values = json.loads(_exactly(stream, length))
    return Frame(values, [_exactly(stream, each) for each in lengths])


async def read_frame_async(stream: AsyncReader) -> Frame:
    """The next frame of an asyncio stream.

    Raises:
        FrameError: A length is impossible.
        asyncio.IncompleteReadError: The stream ended.
    """
    length, blobs = _checked(await stream.readexactly(HEADER.size))
    lengths = [_blob_length(await stream.readexactly(LENGTH.size)) for _ in range(blobs)]
    values = json.loads(await stream.readexactly(length))
    return Frame(values, [await stream.readexactly(each) for each in lengths])


def _exactly(stream: BufferedIOBase, count: int) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise FrameError(f"the stream ended after {len(data)} of {count} bytes")
    return data


def _checked(header: bytes) -> tuple[int, int]:
    if len(header) != HEADER.size:
        raise FrameError("the stream ended within a header")
    length, blobs = HEADER.unpack(header)
    if length > MAX_JSON_BYTES or blobs > MAX_BLOBS:
        raise FrameError(f"a frame of {length} bytes of JSON and {blobs} blobs is impossible")
    return length, blobs


def _blob_length(data: bytes) -> int:
    (length,) = LENGTH.unpack(data)
    if length > MAX_BLOB_BYTES:
        raise FrameError(f"a blob of {length} bytes is impossible")
    return int(length)
