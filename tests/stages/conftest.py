"""A small data set."""

import json
from pathlib import Path

import pytest
from PIL import Image

from deepgen.cli.main import main

COLORS = ("red", "green", "blue", "orange", "purple", "black")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six drawings and three edits, as a data set."""
    folder = tmp_path_factory.mktemp("data")
    images = folder / "images"
    images.mkdir()
    rows: list[dict[str, object]] = []
    for index, color in enumerate(COLORS):
        Image.new("RGB", (64, 64), color).save(images / f"{color}.png")
        rows.append({"txt": f"a {color} square", "image_path": f"{color}.png"})
        if index % 2:
            before = COLORS[index - 1]
            rows.append(
                {
                    "input_image": [f"{before}.png"],
                    "output_image": f"{color}.png",
                    "instruction": f"make it {color}",
                }
            )
    (images / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    imported = folder / "imported"
    arguments = ["data", "import", "table", str(images / "rows.jsonl"), str(imported)]
    assert main([*arguments, "--min-side", "32"]) == 0
    return imported
