"""Small data sets that tests import."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from io import BufferedWriter, RawIOBase
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deepgen.data.collate import MicroBatch
from deepgen.data.dataset import DataSet
from deepgen.data.importers.folder import open_source
from deepgen.data.importers.source import SourceOptions
from deepgen.data.importers.table import TableSource
from deepgen.data.importing import ImportOptions, import_source
from deepgen.data.loader import Loader

SIZES = ((96, 96), (128, 96), (96, 160))


def image(path: Path, number: int, size: tuple[int, int] = (96, 96)) -> None:
    """An image of noise, another for every number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(number)
    width, height = size
    Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)


def captioned_folder(root: Path, count: int, sizes: Sequence[tuple[int, int]] = SIZES) -> Path:
    """``count`` images of different sizes with captions beside them."""
    for number in range(count):
        path = root / f"{number:03d}.png"
        image(path, number, sizes[number % len(sizes)])
        path.with_suffix(".txt").write_text(f"image number {number}")
    return root


def table(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Rows as JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def edits(root: Path, count: int) -> Path:
    """``count`` edits; every third has two references, of another size than the target."""
    rows = []
    for number in range(count):
        names = [f"source{number}.png", f"target{number}.png", f"second{number}.png"]
        image(root / names[0], 3 * number, (96, 96))
        image(root / names[1], 3 * number + 1, (96, 96))
        image(root / names[2], 3 * number + 2, (128, 96))
        references = [names[0], names[2]] if number % 3 == 0 else [names[0]]
        rows.append(
            {"input_image": references, "output_image": names[1], "instruction": f"do {number}"}
        )
    return table(root / "edits.jsonl", rows)


def imported(source: Path, folder: Path, **options: Any) -> DataSet:
    """A folder or table, imported and opened."""
    found = open_source(source, SourceOptions()) if source.is_dir() else TableSource(source)
    import_source(found, folder, ImportOptions(**{"name": "mine", **options}), workers=1)
    return DataSet.open(folder)


def quarantine(folder: Path) -> dict[str, str]:
    """Reasons by sample id."""
    lines = (folder / "quarantine.jsonl").read_text().splitlines()
    return {row["sample_id"]: row["reason"] for row in map(json.loads, lines)}


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


class _FullDisk(RawIOBase):
    def writable(self) -> bool:
        return True

    def truncate(self, size: int | None = None) -> int:
        return size or 0

    def write(self, data: object) -> int:
        raise OSError(28, "No space left on device")


def batches_of(loader: Loader, step: int, **ranks: int) -> list[MicroBatch]:
    """The micro-batches of one step; nothing is decoded ahead."""
    loader.options = replace(loader.options, prefetch=0)
    return next(loader.stream(step, **ranks))


def fill_the_disk(monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    """Let there be no room for files whose names end so, which shows when a buffer is full."""
    original = Path.open

    def opened(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        file = original(path, mode, *arguments, **options)
        if not path.name.endswith(suffix) or mode[0] not in "wa":
            return file
        file.close()
        return BufferedWriter(_FullDisk())

    monkeypatch.setattr(Path, "open", opened)
