"""Messages between the server and its engine."""

import asyncio
import struct
from io import BytesIO

import pytest

from deepgen.serve.frames import HEADER, Frame, FrameError, packed, read_frame, read_frame_async


def test_a_frame_arrives_as_it_was_sent() -> None:
    frames = [Frame({"op": "a", "text": "é\n"}, []), Frame({}, [b"", b"x" * 1000])]
    stream = BytesIO(b"".join(packed(each) for each in frames))
    assert [read_frame(stream), read_frame(stream), read_frame(stream)] == [*frames, None]

    async def read() -> Frame:
        reader = asyncio.StreamReader()
        reader.feed_data(packed(frames[1]))
        return await read_frame_async(reader)

    assert asyncio.run(read()) == frames[1]


@pytest.mark.parametrize(
    "data",
    [
        b"\0",
        HEADER.pack(10, 0) + b"{}",
        HEADER.pack(1 << 31, 0),
        HEADER.pack(2, 1 << 20),
        HEADER.pack(2, 1) + struct.pack("!Q", 1 << 60) + b"{}",
        packed(Frame({}, [b"abc"]))[:-1],
    ],
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(FrameError):
        read_frame(BytesIO(data))
