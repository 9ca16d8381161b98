from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from deepgen.data.checking import problems_of
from deepgen.data.dataset import DataSet
from deepgen.data.preview import contact_sheet, wrapped
from deepgen.data.records import Record
from deepgen.data.stats import stats_of
from deepgen.errors import DataError
from deepgen.images import fonts
from tests.data.sets import captioned_folder, edits, imported

SHARD = "mine-000000.tar"


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    """Six edits in two shards; 1, 1, 2 references in turn from the last on."""
    return imported(edits(tmp_path / "source", 6), tmp_path / "data", shard_bytes=250_000)


def reasons(data: DataSet) -> list[tuple[str, str]]:
    return [(each.sample_id, each.reason) for each in problems_of(data, workers=2)]


def test_a_fresh_data_set_has_no_problems(data: DataSet) -> None:
    assert len(list(data.folder.glob("*.tar"))) == 2
    assert reasons(data) == []


@pytest.mark.parametrize("place", ["target", "second reference"])
def test_one_flipped_byte_is_found_and_its_sample_named(data: DataSet, place: str) -> None:
    record = data.record(3)
    image = record.target if place == "target" else record.references[1]
    path = data.folder / image.shard
    content = bytearray(path.read_bytes())
    content[image.offset + image.length - 20] ^= 1
    path.write_bytes(content)
    assert reasons(data) == [(record.sample_id, "hash_mismatch")]


def test_a_shard_cut_short_or_gone_is_found(data: DataSet) -> None:
    path = data.folder / SHARD
    os.truncate(path, data.record(1).target.offset + 10)
    found = reasons(data)
    assert found[0] == ("mine/000001", "damaged")
    path.unlink()
    assert {reason for _, reason in reasons(data)} == {"io"}


def test_a_row_that_lies_about_a_size_is_found(data: DataSet) -> None:
    column = data.table["target"].to_pylist()
    column[2]["width"] += 1
    field = data.table.schema.field("target")
    place = data.table.schema.get_field_index("target")
    changed = data.table.set_column(place, field, pa.array(column, type=field.type))
    assert reasons(DataSet(data.folder, data.manifest, changed)) == [("mine/000002", "size")]


def test_a_lost_index_is_found_and_the_mapped_one_is_made_again(data: DataSet) -> None:
    (data.folder / "index.arrow").unlink()
    assert reasons(DataSet.open(data.folder)) == []
    next(data.folder.glob("*.parquet")).unlink()
    assert ("", "index") in reasons(data)


def test_a_folder_that_is_no_data_set_is_named(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match="is not a data set; create one"):
            DataSet.open(folder)
    edited = '{"name": "a", "revision": "b", "options": 5}'
    for text in ("{", "[" * 200_000, '{"name": ' + "[" * 200 + "]" * 200 + "}", edited):
        (tmp_path / "dataset.json").write_text(text)
        with pytest.raises(DataError, match="cannot be read"):
            DataSet.open(tmp_path)
    (tmp_path / "dataset.json").write_text('{"name": "a", "revision": "b", "format": 99}')
    with pytest.raises(DataError, match="has format 99, expected 1"):
        DataSet.open(tmp_path)


def test_a_damaged_mapped_index_says_what_to_do(data: DataSet) -> None:
    (data.folder / "index.arrow").write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match="delete it, and it is written again"):
        DataSet.open(data.folder)


def test_rows_are_found_by_task_and_number_across_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepgen.data.dataset.INDEX_ROWS", 2)
    source = captioned_folder(tmp_path / "source", 5)
    data = imported(source, tmp_path / "data", shard_bytes=50_000)
    assert [data.record(row).sample_id for row in range(5)] == [
        f"mine/{row:03d}.png" for row in range(5)
    ]
    with pytest.raises(IndexError):
        data.record(5)
    assert data.rows(task="t2i").tolist() == list(range(5))
    assert data.rows(task="edit").tolist() == []
    assert data.rows(split="val").tolist() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "t2i"}, "task t2i with 2 references"),
        ({"sid": 5}, "sid 5 does not belong"),
        ({"prompts": []}, "prompts"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(
    data: DataSet, change: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Record.model_validate({**data.record(0).model_dump(), **change})


@pytest.mark.parametrize("shard", ["../a.tar", "/a.tar", "a/b.tar", "a\\b.tar", "..tar", "a.zip"])
def test_a_record_never_points_out_of_its_folder(data: DataSet, shard: str) -> None:
    values = data.record(0).model_dump()
    values["target"]["shard"] = shard
    with pytest.raises(ValueError, match="shard"):
        Record.model_validate(values)


def test_counts_are_of_what_is_there(data: DataSet) -> None:
    stats = stats_of(data, side=64)
    assert (stats.samples, stats.images) == (6, 14)
    assert (stats.tasks, stats.references) == ({"edit": 6}, {1: 4, 2: 2})
    assert stats.prompt_kinds == {"instruction": 6}
    assert stats.buckets == {"64x64 <- 64x64": 4, "64x64 <- 64x64 + 64x96": 2}
    assert stats.unequal_edits == 2
    assert stats.prompt_characters == {"min": 4, "median": 4, "p95": 4, "max": 4}
    assert stats.short_side["max"] == 96
    source = data.folder.parent / "source"
    names = [f"{kind}{n}.png" for n in range(6) for kind in ("source", "target")]
    names += ["second0.png", "second3.png"]
    assert stats.bytes == sum((source / name).stat().st_size for name in names)


def test_a_contact_sheet_shows_references_before_the_target(data: DataSet) -> None:
    sheet = contact_sheet(data, count=6, columns=1, cell=96)
    # Two references, an arrow and the target, with a gap around them.
    assert sheet.width == 8 + (96 + 8 + 96) + 20 + 96 + 8
    first = np.asarray(Image.open(data.folder.parent / "source" / "source0.png"))
    target = np.asarray(Image.open(data.folder.parent / "source" / "target0.png"))
    shown = np.asarray(sheet)
    # Without the frame of one pixel that is drawn over each image.
    assert np.array_equal(shown[9:103, 9:103], first[1:-1, 1:-1])
    left = 8 + (96 + 8 + 96) + 20
    assert np.array_equal(shown[9:103, left + 1 : left + 95], target[1:-1, 1:-1])


def test_a_contact_sheet_of_fewer_samples_than_asked_for_shows_them_all(tmp_path: Path) -> None:
    data = imported(captioned_folder(tmp_path / "source", 2), tmp_path / "data")
    assert contact_sheet(data, count=50).width < contact_sheet(data, count=50, cell=400).width


def test_a_caption_that_no_font_has_is_named_instead_of_drawn_as_boxes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = captioned_folder(tmp_path / "source", 2)
    (folder / "000.txt").write_text("一只猫坐在垫子上 🐈", encoding="utf-8")
    data = imported(folder, tmp_path / "data")
    monkeypatch.setattr(fonts, "CANDIDATES", ())
    fonts.fonts.cache_clear()
    with pytest.warns(UserWarning, match="no font here has, shown as .: 1;"):
        contact_sheet(data)
    assert fonts.drawable("猫 cat", 12)[::2] == ("? cat", False)
    fonts.fonts.cache_clear()


def test_captions_without_spaces_are_wrapped_and_wide_characters_count_double() -> None:
    assert wrapped("一只猫坐在垫子上", 8) == ["一只猫坐", "在垫子上"]
    assert wrapped("a cat on a mat", 8) == ["a cat on", "a mat"]
    assert wrapped("a " * 40, 8)[-1].endswith("...")
    assert all(len(each) <= 8 for each in wrapped("long" * 10, 8))
