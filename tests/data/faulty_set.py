"""A table of edits and images with planted faults of the twelve kinds, each known by its row."""

from __future__ import annotations

import io
import json
import struct
import zlib
from hashlib import sha256
from pathlib import Path

import numpy as np
from PIL import Image

FAULTS = {
    "missing": "missing",
    "io": "io",
    "truncated": "damaged",
    "not_an_image": "not_an_image",
    "too_small": "too_small",
    "aspect": "aspect",
    "too_large": "too_large",
    "mode": "mode",
    "empty_prompt": "empty_prompt",
    "prompt_too_long": "prompt_too_long",
    "ref_target_identical": "ref_target_identical",
    "hash_mismatch": "hash_mismatch",
}
"""Kinds of faults, and the reason under which an import counts each."""

MAPPING = ("target=target", "references=source", "text=text", "sha256=sha256")

CLEAN_IMAGES = 50
"""Different images of sound rows; there are far more rows."""


def encoded(number: int, size: tuple[int, int] = (96, 96), kind: str = "JPEG") -> bytes:
    """An image of noise in blocks, another for every number."""
    rng = np.random.default_rng(number)
    blocks = rng.integers(0, 256, (-(-size[1] // 16), -(-size[0] // 16), 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST).save(content, kind)
    return content.getvalue()


def huge_header() -> bytes:
    """A PNG whose header states 50,000 x 50,000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    start = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + start + struct.pack(">I", 1 << 20) + b"IDAT" + bytes(64)


def faulty_set(root: Path, count: int, faulty: int, *, first: int = 0) -> dict[str, str]:
    """Write ``rows.jsonl`` and its images; every third row is an edit.

    Args:
        count: Rows, the faulty ones among them.
        faulty: Rows with a fault; the kinds take turns.
        first: Number of the first image, so that several sets differ.

    Returns:
        The reason of each faulty row, by its number as an id.
    """
    (root / "images").mkdir(parents=True)
    for number in range(CLEAN_IMAGES):
        (root / "images" / f"{number}.jpg").write_bytes(encoded(first + number))
    kinds = list(FAULTS)
    places = np.random.default_rng(first).choice(count, faulty, replace=False).tolist()
    planted = {row: kinds[turn % len(kinds)] for turn, row in enumerate(places)}
    rows = [_row(root, number, planted.get(number)) for number in range(count)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (root / "rows.jsonl").write_text(lines)
    return {f"{row:06d}": FAULTS[kind] for row, kind in planted.items()}


def _row(root: Path, number: int, kind: str | None) -> dict[str, str]:
    target = f"images/{number % CLEAN_IMAGES}.jpg"
    row = {"text": f"caption {number}", "target": target}
    if number % 3 == 0 or kind == "ref_target_identical":
        row["source"] = f"images/{(number + 1) % CLEAN_IMAGES}.jpg"
    content = _content(number, kind)
    if content is not None:
        row["target"] = f"images/bad{number}.jpg"
        (root / row["target"]).write_bytes(content)
    if kind == "missing":
        row["target"] = f"images/absent{number}.jpg"
    elif kind == "io":
        # Longer than any file system's names.
        row["target"] = f"images/{'x' * 300}{number}.jpg"
    elif kind == "empty_prompt":
        row["text"] = "  "
    elif kind == "prompt_too_long":
        row["text"] = "very " * 10_000
    elif kind == "ref_target_identical":
        row["source"] = row["target"]
    elif kind == "hash_mismatch":
        row["sha256"] = sha256(b"another file").hexdigest()
    return row


def _content(number: int, kind: str | None) -> bytes | None:
    """The bytes of the target where they are the fault."""
    if kind == "truncated":
        return encoded(number)[:-200]
    if kind == "not_an_image":
        return b"<!DOCTYPE html><html>404 Not Found</html>"
    if kind == "too_small":
        return encoded(number, (80, 80))
    if kind == "aspect":
        return encoded(number, (1000, 90))
    if kind == "too_large":
        return huge_header()
    if kind == "mode":
        pixels = Image.fromarray(np.full((96, 96), number, dtype=np.float32))
        content = io.BytesIO()
        pixels.save(content, "TIFF")
        return content.getvalue()
    return None
