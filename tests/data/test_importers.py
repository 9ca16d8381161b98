from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deepgen.data.importers import table as tables
from deepgen.data.importers.folder import FolderSource, open_source
from deepgen.data.importers.source import BadRow, RawSample, SourceOptions, read_row
from deepgen.data.importers.table import TableSource
from deepgen.errors import DataError
from tests.data.sets import image, imported
from tests.test_reading import nested_folders

ROWS = [
    {"image_path": "a.png", "txt": "one,\ntwo"},
    {"image_path": "b.png", "txt": "第三"},
    {"image_path": "c.png", "txt": 'with "quotes" and {braces]'},
]


def as_csv(path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["image_path", "txt"])
        writer.writeheader()
        writer.writerows(ROWS)


def as_lines(path: Path) -> None:
    lines = [json.dumps(row, ensure_ascii=False) for row in ROWS]
    path.write_text("\n\n".join(lines), encoding="utf-8")


WRITERS: dict[str, Callable[[Path], Any]] = {
    "rows.jsonl": as_lines,
    "lines.json": as_lines,
    "array.json": lambda path: path.write_text(f"\ufeff \n{json.dumps(ROWS, indent=3)}\n"),
    "rows.csv": as_csv,
    "rows.parquet": lambda path: pq.write_table(pa.Table.from_pylist(ROWS), path),
}


def samples(source: TableSource | FolderSource) -> list[RawSample]:
    rows = list(source.rows())
    assert all(isinstance(row, RawSample) for row in rows), rows
    return [row for row in rows if isinstance(row, RawSample)]


@pytest.mark.parametrize("name", WRITERS)
def test_all_kinds_of_tables_say_the_same(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    found = samples(TableSource(tmp_path / name))
    assert [sample.target for sample in found] == ["a.png", "b.png", "c.png"]
    assert [sample.prompts[0].text for sample in found] == [row["txt"] for row in ROWS]
    assert [sample.native_id for sample in found] == ["000000", "000001", "000002"]


@pytest.mark.parametrize("chunk", [1, 2, 7, 64])
def test_a_json_array_is_read_in_pieces_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(tables, "CHUNK", chunk)
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(ROWS, ensure_ascii=False), encoding="utf-8")
    assert len(samples(TableSource(path))) == 3


@pytest.mark.parametrize(
    ("row", "references", "target", "text"),
    [
        ({"txt": "t", "image_path": "o", "image": ""}, (), "o", "t"),
        ({"prompt": "t", "output": "o"}, (), "o", "t"),
        ({"input_prompt": "t", "output_image": "o"}, (), "o", "t"),
        ({"re_caption": "t", "image": "o", "caption": ""}, (), "o", "t"),
        ({"text": "t", "file_name": "o"}, (), "o", "t"),
        ({"instruction": "t", "input_image": "a", "output_image": "o"}, ("a",), "o", "t"),
        ({"instruction": "t", "input_image": ["a", "b"], "output": "o"}, ("a", "b"), "o", "t"),
        ({"instruction": "t", "input_images": '["a", "b"]', "output": "o"}, ("a", "b"), "o", "t"),
        ({"text": "t", "refs": ["a"], "image_path": "o"}, ("a",), "o", "t"),
        ({"text": "t", "input": "a", "output": "o"}, ("a",), "o", "t"),
        ({"source_file_name": "a", "edited_file_name": "o", "prompt": "t"}, ("a",), "o", "t"),
        ({"caption": "c", "instruction": "t", "input": "a", "output": "o"}, ("a",), "o", "t"),
        ({"txt": "[a cat]", "image": {"bytes": b"x", "path": "o"}}, (), b"x", "[a cat]"),
        ({"txt": "[1]", "image": {"bytes": None, "path": "o"}}, (), "o", "[1]"),
    ],
)
def test_the_usual_names_of_columns_are_understood(
    row: dict[str, Any], references: tuple[str, ...], target: str | bytes, text: str
) -> None:
    found = read_row(row, "0")
    assert isinstance(found, RawSample), found
    assert (found.references, found.target) == (references, target)
    assert found.prompts[0].text == text
    assert found.prompts[0].kind == ("instruction" if references else "caption_short")


def test_several_captions_in_a_row_are_refused_until_one_is_chosen(tmp_path: Path) -> None:
    row = {"image": "a.png", "re_caption": "long", "caption": "short", "dense": "longer"}
    with pytest.raises(DataError, match=r"caption and re_caption; .* --caption-key caption"):
        read_row(row, "0")
    with pytest.raises(DataError, match="prompt and text"):
        read_row({"input": "a", "output": "o", "prompt": "one", "text": "two"}, "0")
    for key, text in (("re_caption", "long"), ("caption", "short"), ("dense", "longer")):
        found = read_row(row, "0", key)
        assert isinstance(found, RawSample)
        assert [each.text for each in found.prompts] == [text]
    absent = read_row(row, "0", "txt")
    assert isinstance(absent, BadRow)
    assert (absent.reason, absent.message) == ("empty_prompt", "no prompt under txt")


def test_a_chosen_caption_is_read_from_tables_and_from_files_beside_images(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "b.png").touch()
    (tmp_path / "a.json").write_text('{"caption": "short", "dense": "in a file"}')
    (tmp_path / "b.txt").write_text("plain")
    found = samples(open_source(tmp_path, SourceOptions(caption_key="dense")))
    assert [each.prompts[0].text for each in found] == ["in a file", "plain"]
    row = {"file_name": "a.png", "caption": "short", "dense": "in a table"}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(row))
    (sample,) = samples(open_source(tmp_path, SourceOptions(caption_key="dense")))
    assert sample.prompts[0].text == "in a table"


def test_several_prompts_keep_their_kinds_and_weights() -> None:
    prompts = [
        {"text": "short", "weight": 3},
        {"text": "long", "kind": "caption_long", "lang": "en"},
        "plain",
    ]
    found = read_row({"image": "a.png", "prompts": prompts, "lang": "de", "id": 7}, "0")
    assert isinstance(found, RawSample)
    assert found.native_id == "7"
    assert [each.weight for each in found.prompts] == [3.0, 1.0, 1.0]
    assert [each.kind for each in found.prompts] == [
        "caption_short", "caption_long", "caption_short"
    ]  # fmt: skip
    assert [each.lang for each in found.prompts] == ["de", "en", "de"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"txt": "t"}, "missing"),
        ({"image": "a.png"}, "empty_prompt"),
        ({"image": "a.png", "txt": "  "}, "empty_prompt"),
        ({"image": "a.png", "txt": 5}, "empty_prompt"),
        ({"image": 5, "txt": "t"}, "missing"),
        ({"image": "C:\\a.png", "txt": "t"}, "path"),
        ({"image": "\\\\host\\a.png", "txt": "t"}, "path"),
        ({"image": "a\0.png", "txt": "t"}, "path"),
        ({"image": "a.png", "prompts": [{"text": "t", "weight": float("nan")}]}, "weight"),
        ({"image": "a.png", "prompts": [{"text": "t", "weight": 0}]}, "weight"),
        ({"image": "a.png", "prompts": [{"text": "t", "kind": "poem"}]}, "kind"),
        ({"image": "a.png", "prompts": [{"kind": "caption_long"}]}, "empty_prompt"),
    ],
)
def test_rows_that_say_nothing_usable_have_a_reason(row: dict[str, Any], reason: str) -> None:
    found = read_row(row, "0")
    assert isinstance(found, BadRow)
    assert found.reason == reason


def test_bad_lines_do_not_stop_the_good_ones(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    good = json.dumps(ROWS[0])
    path.write_text(f'{good}\n{{"broken\n["no object"]\n{good}\n')
    rows = list(TableSource(path).rows())
    assert [isinstance(row, RawSample) for row in rows] == [True, False, False, True]
    path = tmp_path / "rows.csv"
    path.write_text("txt,image_path\nt,a.png\nonly one\na,b,c\nt,b.png\n")
    rows = list(TableSource(path).rows())
    assert [isinstance(row, RawSample) for row in rows] == [True, False, False, True]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b'[{"txt": "t"}', "damaged"),
        ("b.json", b'[{"txt": "t"}, nonsense]', "damaged"),
        ("c.jsonl", b'{"txt": "\xff\xfe"}', "not UTF-8"),
        ("d.parquet", b"PAR1 no more", "damaged"),
    ],
)
def test_a_table_that_cannot_be_read_on_is_named(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name} is {message}"):
        list(TableSource(tmp_path / name).rows())


def test_an_annotation_file_beside_the_image_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"caption": "from the annotation"}')
    rows = [
        {"image": "a.png", "annotation": "a.json"},
        {"image": "a.png", "annotation": "absent.json"},
        {"image": "a.png", "annotation": "../a.json"},
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    first, second, third = TableSource(tmp_path / "rows.json").rows()
    assert isinstance(first, RawSample)
    assert first.prompts[0].text == "from the annotation"
    assert [each.reason for each in (second, third) if isinstance(each, BadRow)] == [
        "missing", "path"
    ]  # fmt: skip


def test_a_folder_is_walked_in_the_order_of_its_paths(tmp_path: Path) -> None:
    for name in ("b/2.png", "a.jpg", "b/1.webp", ".hidden/x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
        (tmp_path / name).with_suffix(".txt").write_text(f"text of {name}\n")
    found = samples(FolderSource(tmp_path))
    assert [sample.native_id for sample in found] == ["a.jpg", "b/1.webp", "b/2.png"]
    assert found[1].prompts[0].text == "text of b/1.webp"


def test_a_json_beside_an_image_may_say_more_but_names_no_other_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    row = {"caption": "short", "render_text": ["Open"], "image": "/etc/passwd", "id": "x"}
    (tmp_path / "a.json").write_text(json.dumps(row))
    (sample,) = samples(FolderSource(tmp_path))
    assert (sample.target, sample.native_id) == ("a.png", "a.png")
    assert sample.render_text == ("Open",)


def test_every_file_that_looks_like_an_image_is_a_row(tmp_path: Path) -> None:
    names = ["a.PNG", "b.jfif", "c.HEIC", "d.psd", "e.NEF", "photo"]
    for name in names:
        (tmp_path / name).write_bytes(b"\xff\xd8\xff\xe0")
        (tmp_path / name).with_suffix(".txt").write_text("a caption")
    (tmp_path / "notes.md").write_text("no image")
    assert [each.native_id for each in samples(FolderSource(tmp_path))] == names


def test_what_cannot_be_read_as_an_image_is_counted_with_its_reason(tmp_path: Path) -> None:
    image(tmp_path / "source" / "a.png", 1)
    (tmp_path / "source" / "a.txt").write_text("a caption")
    (tmp_path / "source" / "b.psd").write_bytes(b"8BPS\0\x01")
    (tmp_path / "source" / "b.txt").write_text("a caption")
    data = imported(tmp_path / "source", tmp_path / "data")
    assert len(data) == 1
    assert "a Photoshop document" in (data.folder / "quarantine.jsonl").read_text()


@pytest.mark.parametrize("name", ["a.TXT", "a.txt", "a.png.txt", "a.Json"])
def test_captions_are_found_under_all_usual_names(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.png").touch()
    text = '{"caption": "found"}' if name.lower().endswith("json") else "found"
    (tmp_path / name).write_text(text)
    (sample,) = samples(FolderSource(tmp_path))
    assert sample.prompts[0].text == "found"


def test_captions_of_another_suffix_are_read_by_the_option_that_the_reason_names(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.b.png").touch()
    (tmp_path / "a.b.caption").write_text("found")
    (row,) = open_source(tmp_path, SourceOptions()).rows()
    assert isinstance(row, BadRow)
    assert row.message == (
        "no caption; expected a.b.txt or a.b.json beside it; a.b.caption would be read with "
        "--caption-suffix .caption"
    )
    (sample,) = samples(open_source(tmp_path, SourceOptions(caption_suffix=".caption")))
    assert sample.prompts[0].text == "found"


def test_images_that_no_row_of_the_metadata_names_are_counted(tmp_path: Path) -> None:
    for name in ("a.png", "b.jpg", "sub/c.webp", "d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
        (tmp_path / name).with_suffix(".txt").write_text("a caption")
    rows = [{"file_name": "a.png", "text": "described"}, {"file_name": "./d.png"}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (note,) = open_source(tmp_path, SourceOptions()).notes()
    assert "no row for 2 images of its folder, the first b.jpg" in note
    assert "--ignore-metadata" in note
    by_captions = open_source(tmp_path, SourceOptions(ignore_metadata=True))
    assert len(samples(by_captions)) == 4
    assert not by_captions.notes()
    with pytest.raises(ValueError, match="--ignore-metadata"):
        open_source(tmp_path, SourceOptions(caption_suffix=".caption"))


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_the_delimiter_of_a_table_is_found_in_its_header(
    tmp_path: Path, suffix: str, delimiter: str
) -> None:
    path = tmp_path / f"rows{suffix}"
    lines = [("image_path", "txt"), ("a.png", '"one, two; three"')]
    path.write_text("\n".join(delimiter.join(line) for line in lines))
    (sample,) = samples(TableSource(path))
    assert (sample.target, sample.prompts[0].text) == ("a.png", "one, two; three")


def test_a_metadata_table_in_a_folder_describes_it(tmp_path: Path) -> None:
    image(tmp_path / "source" / "a.png", 1)
    image(tmp_path / "source" / "b.png", 2)
    (tmp_path / "source" / "metadata.jsonl").write_text(
        '{"file_name": "a.png", "text": "described"}\n'
    )
    assert isinstance(open_source(tmp_path / "source", SourceOptions()), TableSource)
    data = imported(tmp_path / "source", tmp_path / "data")
    assert [prompt.text for prompt in data.record(0).prompts] == ["described"]
    assert len(data) == 1


def test_images_inside_of_a_parquet_table_are_taken_from_it(tmp_path: Path) -> None:
    image(tmp_path / "a.png", 1)
    content = (tmp_path / "a.png").read_bytes()
    rows = [{"image": {"bytes": content, "path": "a.png"}, "text": "inside"}]
    (tmp_path / "tables").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "tables" / "rows.parquet")
    data = imported(tmp_path / "tables" / "rows.parquet", tmp_path / "data")
    assert data.read(data.record(0).target) == content


def test_a_table_may_name_images_that_lie_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROWS[0]))
    assert TableSource(path, tmp_path / "elsewhere").root == tmp_path / "elsewhere"
    assert TableSource(path).root == tmp_path
    with pytest.raises(DataError, match=r"there is no file .*; give a table: \.jsonl"):
        TableSource(tmp_path / "absent.csv")
    (tmp_path / "rows.xml").touch()
    with pytest.raises(DataError, match="must end in"):
        TableSource(tmp_path / "rows.xml")


def deep(value: str) -> str:
    return '{"image": "a.png", "txt": ' + "[" * 200_000 + value + "]" * 200_000 + "}"


@pytest.mark.parametrize("name", ["t.jsonl", "t.json"])
def test_rows_nested_without_end_are_for_the_quarantine(tmp_path: Path, name: str) -> None:
    rows = ['{"image": "a.png", "txt": "one"}', deep('"]"'), '{"image": "b.png", "txt": "two"}']
    text = "\n".join(rows) if name == "t.jsonl" else f"[{', '.join(rows)}]"
    (tmp_path / name).write_text(text)
    first, bad, last = TableSource(tmp_path / name).rows()
    assert isinstance(first, RawSample)
    assert isinstance(last, RawSample)
    assert isinstance(bad, BadRow)
    assert bad.reason == "row"
    assert "nested more than 100 deep" in bad.message


def test_a_line_without_end_is_for_the_quarantine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "LONGEST_ROW", 100)
    good = '{"image": "a.png", "txt": "one"}\n'
    (tmp_path / "t.jsonl").write_text(good + "x" * 250 + "\n" + good)
    first, bad, last = TableSource(tmp_path / "t.jsonl").rows()
    assert [type(first), type(last)] == [RawSample, RawSample]
    assert isinstance(bad, BadRow)
    assert "more than 100 characters" in bad.message
    (tmp_path / "t.csv").write_text("image,txt\na.png," + "x" * 250 + "\n")
    with pytest.raises(DataError, match=r"t\.csv is damaged"):
        list(TableSource(tmp_path / "t.csv").rows())


def test_a_value_that_python_cannot_express_costs_its_row_only(tmp_path: Path) -> None:
    when = pa.array([0, 2**61, 0], pa.timestamp("ms"))
    table = pa.table({"image": ["a.png"] * 3, "txt": ["one", "two", "three"], "when": when})
    pq.write_table(table, tmp_path / "t.parquet")
    kinds = [type(each) for each in TableSource(tmp_path / "t.parquet").rows()]
    assert kinds == [RawSample, BadRow, RawSample]


def test_long_captions_of_a_parquet_table_are_refused_before_they_are_decoded(
    tmp_path: Path,
) -> None:
    path = tmp_path / "t.parquet"
    long = "x" * (2 << 20)
    pq.write_table(pa.table({"image": ["a.png"] * 5, "txt": [long] * 5}), path)
    rows = list(TableSource(path).rows())
    assert [each.reason for each in rows if isinstance(each, BadRow)] == ["row"] * 5


def test_a_parquet_table_that_stands_for_far_more_bytes_than_it_has_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "MAX_UNPACKED_BYTES", 1 << 20)
    table = pa.table({"image": ["a.png"], "txt": ["x" * (8 << 20)]})
    pq.write_table(table, tmp_path / "t.parquet", compression="zstd")
    with pytest.raises(DataError, match="bytes stand for 8,3"):
        list(TableSource(tmp_path / "t.parquet").rows())


def test_captions_are_regular_files_of_bounded_size(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        image(tmp_path / f"{name}.png", 0)
    os.mkfifo(tmp_path / "a.txt")
    (tmp_path / "b.txt").symlink_to("/dev/zero")
    (tmp_path / "c.json").write_text("[" * 200_000)
    rows = list(FolderSource(tmp_path).rows())
    reasons = [each.reason for each in rows if isinstance(each, BadRow)]
    assert reasons == ["io", "io", "row"]


def test_folders_are_walked_at_any_depth_and_odd_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe.png")
    with nested_folders(tmp_path, 1200):
        found = [each.native_id for each in FolderSource(tmp_path).rows()]
    assert found == ["d/" * 1200 + "x.png", "gone.png", "loop.png", "pipe.png"]
