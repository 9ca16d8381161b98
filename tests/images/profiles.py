"""Colour profiles for tests, put together by ICC.1:2001-04, since none is free to ship."""

from __future__ import annotations

import struct

WHITE_POINT = (0.96420, 1.0, 0.82491)

ADOBE_PRIMARIES = {
    "rXYZ": (0.60974, 0.31111, 0.01947),
    "gXYZ": (0.20528, 0.62567, 0.06087),
    "bXYZ": (0.14919, 0.06322, 0.74457),
}
"""Matrix of Adobe RGB (1998), relative to D50."""

ADOBE_GAMMA = 563 / 256


def adobe_rgb() -> bytes:
    """A profile of the colour space that many cameras offer beside sRGB."""
    curve = _curve(ADOBE_GAMMA)
    tags = {name: _xyz(*values) for name, values in ADOBE_PRIMARIES.items()}
    tags |= dict.fromkeys(("rTRC", "gTRC", "bTRC"), curve)
    return _profile(b"RGB ", tags)


def grey(gamma: float) -> bytes:
    """A profile of grey levels."""
    return _profile(b"GRAY", {"kTRC": _curve(gamma)})


def _profile(space: bytes, tags: dict[str, bytes]) -> bytes:
    name = b"test\0"
    text = b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + b"\0" * 78
    tags = {"desc": text, "wtpt": _xyz(*WHITE_POINT), "cprt": b"text\0\0\0\0free\0", **tags}
    table, content = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for tag, data in tags.items():
        padded = data + b"\0" * (-len(data) % 4)
        table += tag.encode() + struct.pack(">II", start + len(content), len(data))
        content += padded
    header = struct.pack(
        ">I4sI4s4s4s", start + len(content), b"", 0x02400000, b"mntr", space, b"XYZ "
    )
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28
    header += b"".join(map(_fixed, WHITE_POINT))
    return header.ljust(128, b"\0") + table + content


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_fixed, values))


def _curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
