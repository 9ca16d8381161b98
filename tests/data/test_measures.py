from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from deepgen.cli.main import main
from deepgen.data.dataset import DataSet
from deepgen.data.measures import (
    MEASURES,
    NearHashes,
    difference_hash,
    flag_counts,
    flagged,
    measure,
    read_measures,
    shift_between,
)
from deepgen.data.mixture import open_data
from deepgen.errors import DataError
from tests.data.sets import imported, table


def _scene(seed: int, size: tuple[int, int] = (160, 160)) -> Image.Image:
    """Smooth blobs, as a photograph has them."""
    noise = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """Images with an exact and two near duplicates; edits with a shift and with another shape."""
    root = tmp_path_factory.mktemp("measured")
    base = _scene(0)
    images = {
        "a.png": base,
        "b.png": _scene(1),
        "copy.png": base,
        "small.png": base.resize((120, 120)),
        "soft.jpg": base.filter(ImageFilter.GaussianBlur(1)),
        "red.png": Image.merge("RGB", (base.getchannel(0), *(base.getchannel(1),) * 2)).point(
            lambda value: value // 2 + 90
        ),
        "edit.png": Image.composite(_scene(2), base, Image.new("L", base.size, 60)),
        "moved.png": Image.fromarray(np.roll(np.asarray(base), (20, 10), axis=(0, 1))),
        "wide.png": base.resize((200, 160)),
    }
    for name, each in images.items():
        each.save(root / name)
    plain = [("a.png", "a lamp"), ("b.png", "a fox"), ("copy.png", "x"), ("small.png", "y")]
    rows: list[dict[str, object]] = [
        {"image": name, "txt": text, "id": name}
        for name, text in [*plain, ("soft.jpg", "z"), ("red.png", "w")]
    ]
    rows += [
        {
            "input_image": "a.png",
            "output_image": name,
            "instruction": f"edit {name}",
            "id": f"to-{name}",
        }
        for name in ("edit.png", "moved.png", "wide.png")
    ]
    return imported(table(root / "rows.jsonl", rows), root / "data")


def _find(texts: Sequence[str]) -> str | None:
    return "exact bench 7" if "a fox" in texts else None


def test_duplicates_contamination_and_misaligned_edits_are_found(data: DataSet) -> None:
    counts = measure(data, _find, workers=1)
    assert counts == {
        "exact_duplicate": 1,
        "near_duplicate": 2,
        "contaminated": 1,
        "misaligned": 2,
    }
    measures = read_measures(data)
    assert measures is not None
    rows = dict(zip(data.table["sample_id"].to_pylist(), measures.to_pylist(), strict=True))
    assert rows["mine/copy.png"]["exact_duplicate"] == "mine/a.png"
    assert rows["mine/small.png"]["near_duplicate"] == "mine/a.png"
    assert rows["mine/soft.jpg"]["near_duplicate"] == "mine/a.png"
    assert rows["mine/red.png"]["near_duplicate"] is None
    assert rows["mine/b.png"]["contaminated"] == "exact bench 7"
    assert rows["mine/to-edit.png"]["misaligned"] is None
    assert rows["mine/to-moved.png"]["misaligned"] == "shift +0.125 down, +0.062 right"
    assert rows["mine/to-wide.png"]["misaligned"] == "size 160 x 160 to 200 x 160"


def test_flagged_samples_are_left_out_of_exports_and_mixtures(
    data: DataSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measure(data, _find, workers=1)
    out = str(tmp_path / "out")
    command = ["data", "export", str(data.folder), out, "--restricted", "include", "--json"]
    assert main([*command, "--exclude", "exact_duplicate", "misaligned"]) == 0
    assert json.loads(capsys.readouterr().out)["left_out"] == {"exclude": 3}
    mixture = data.folder.parent / "mixture.yaml"
    mixture.write_text("sources: [{data: data, exclude: [exact_duplicate, contaminated]}]")
    mixed = open_data(mixture)
    assert len(mixed.rows(task="t2i")) == 4
    # A mixture is measured where its sources are; only samples that it uses count.
    assert flag_counts(mixed) == {**flag_counts(data), "exact_duplicate": 0, "contaminated": 0}
    assert flagged(mixed, ["misaligned"]).tolist() == flagged(data, ["misaligned"]).tolist()
    assert main(["data", "stats", str(data.folder), "--side", "64", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["measured"]["misaligned"] == 2


def test_measures_of_other_data_are_refused(data: DataSet, tmp_path: Path) -> None:
    path = data.folder / MEASURES
    path.unlink(missing_ok=True)
    assert read_measures(data) is None
    with pytest.raises(DataError, match="run deepgen data check"):
        flagged(data, ["contaminated"])
    measure(data, None, workers=1)
    assert not flagged(data, ["near_duplicate"]).all()
    with pytest.raises(DataError, match="was not measured for contaminated"):
        flagged(data, ["contaminated"])
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match="is damaged"):
        read_measures(data)
    path.unlink()


def test_shifts_are_measured_in_both_directions_and_not_guessed() -> None:
    base = _scene(3, (128, 128))
    moved = Image.fromarray(np.roll(np.asarray(base), (-8, 16), axis=(0, 1)))
    assert shift_between(base, base) == (0.0, 0.0)
    assert shift_between(base, moved) == (-8 / 128, 16 / 128)
    noise = [np.random.default_rng(n).integers(0, 256, (128, 128, 3)) for n in (1, 2)]
    first, second = (Image.fromarray(each.astype(np.uint8)) for each in noise)
    assert shift_between(first, second) is None


def test_a_near_hash_is_found_among_many_and_others_are_not() -> None:
    hashes = NearHashes()
    colors = np.zeros(3)
    for seed in range(40):
        assert hashes.add(str(seed), difference_hash(_scene(seed)), colors) is None
    changed = difference_hash(_scene(7)).copy()
    changed[0] ^= np.uint64(0b1011)
    assert hashes.add("again", changed, colors) == "7"
    assert hashes.add("other colour", changed, colors + 40) is None
