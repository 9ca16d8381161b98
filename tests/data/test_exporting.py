from __future__ import annotations

import gzip
import json
import tarfile
from dataclasses import replace
from io import BytesIO
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from deepgen.cli.main import main
from deepgen.data.dataset import DataSet
from deepgen.data.exporting import FORMATS, ExportFormat, ExportOptions, export
from deepgen.data.importers.exported import open_source
from deepgen.data.importers.source import BadRow, RawSample, SourceOptions
from deepgen.data.importers.table import TableSource
from deepgen.data.importing import ImportOptions, import_source
from deepgen.data.records import PromptVariant
from deepgen.errors import DataError
from tests.data.sets import edits, image, quarantine, table


class _Rich(TableSource):
    """Rows with everything that a record can hold."""

    def rows(self):  # type: ignore[no-untyped-def]
        for number, row in enumerate(super().rows()):
            assert isinstance(row, RawSample)
            yield replace(
                row,
                native_id=f"a/b.{number}",
                negative_target="negative.jpg" if number == 1 else None,
                prompts=(
                    *row.prompts,
                    PromptVariant(text='把“它”改掉\n,"\u2028', kind="instruction", weight=0.25),
                ),
                reasoning="because" if number else None,
                render_text=("Open at 9", "茶"),
                skills=("general", "poster"),
                licence="CC-BY-4.0" if number else None,
                redistributable=number == 2,
            )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """Three edits, one with two references, and a small image that only the first import bore."""
    root = tmp_path_factory.mktemp("rich")
    path = edits(root / "source", 3)
    image(root / "source" / "negative.png", 99)
    Image.open(root / "source" / "negative.png").save(root / "source" / "negative.jpg")
    options = ImportOptions(name="rich", val_fraction=0.4, min_side=16)
    import_source(_Rich(path), root / "data", options, workers=1)
    return DataSet.open(root / "data")


def _facts(data: DataSet) -> list[dict[str, object]]:
    """All of each record but the places of its images, with their bytes."""
    found = []
    for row in range(len(data)):
        record = data.record(row)
        refs = [*record.images, *([record.negative_target] if record.negative_target else [])]
        facts = record.model_dump(exclude={"target", "references", "negative_target"})
        facts["images"] = [
            (data.read(each), each.model_dump(exclude={"shard", "offset"})) for each in refs
        ]
        found.append(facts)
    return found


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_exported_is_imported_again_without_loss(
    data: DataSet, tmp_path: Path, form: ExportFormat
) -> None:
    options = ExportOptions(format=form, restricted="include", shard_bytes=1)
    report = export(data, tmp_path / "out", options)
    assert (report.samples, report.left_out) == (3, {})
    source = open_source(tmp_path / "out", SourceOptions())
    # The limits of this import do not apply: the first one accepted these images.
    strict = ImportOptions(name="again", min_side=4000, max_references=1)
    import_source(source, tmp_path / "again", strict, workers=1)
    again = DataSet.open(tmp_path / "again")
    assert _facts(again) == _facts(data)
    assert quarantine(tmp_path / "again") == {}
    # Once more, which gives the same files.
    export(again, tmp_path / "twice", options)
    names = sorted(each.name for each in (tmp_path / "out").rglob("*") if each.is_file())
    if form == "folder":
        for name in names:
            first, second = (next((tmp_path / each).rglob(name)) for each in ("out", "twice"))
            assert first.read_bytes() == second.read_bytes()


def test_tars_and_rows_have_what_other_readers_expect(data: DataSet, tmp_path: Path) -> None:
    everything = ExportOptions(format="webdataset", restricted="include")
    export(data, tmp_path / "tars", everything)
    (path,) = (tmp_path / "tars").iterdir()
    with tarfile.open(path) as archive:
        names = archive.getnames()
    own = [each for each in names if each.startswith("000000000.")]
    assert own == [
        f"000000000.{each}" for each in ("png", "reference0.png", "reference1.png", "txt", "json")
    ]
    export(data, tmp_path / "rows", replace(everything, format="parquet"))
    (path,) = (tmp_path / "rows").iterdir()
    rows = pq.read_table(path)
    features = json.loads(rows.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert features["references"]["feature"] == {"_type": "Image"}
    first = rows.slice(0, 1).to_pylist()[0]
    assert Image.open(BytesIO(first["image"]["bytes"])).size == (96, 96)
    export(data, tmp_path / "files", replace(everything, format="folder"))
    lines = (tmp_path / "files" / "metadata.jsonl").read_text().split("\n")
    row = json.loads(lines[0])
    assert (tmp_path / "files" / row["file_name"]).is_file()
    assert len(row["references_file_names"]) == 2


def test_only_what_may_be_and_was_chosen_is_exported(
    data: DataSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, folder = str(tmp_path / "out"), str(data.folder)
    assert main(["data", "export", folder, out]) == 2
    shown = capsys.readouterr().err
    assert "2 of 3 samples are not marked as redistributable; --restricted skip" in shown
    assert not (tmp_path / "out").exists()
    assert main(["data", "export", folder, out, "--restricted", "skip", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["samples"], report["left_out"]) == (1, {"restricted": 2})
    assert main(["data", "import", "exported", out, str(tmp_path / "back"), "--workers", "1"]) == 0
    assert len(DataSet.open(tmp_path / "back")) == 1
    capsys.readouterr()
    assert main(["data", "export", folder, out, "--restricted", "skip"]) == 2
    assert "is not an empty folder" in capsys.readouterr().err
    chosen = ExportOptions(format="folder", licences=("CC-BY-4.0",), restricted="include")
    found = export(data, tmp_path / "by", chosen, excluded=np.array([False, True, False]))
    assert (found.samples, found.left_out) == (1, {"licences": 1, "exclude": 1})
    with pytest.raises(DataError, match="is left to export"):
        export(data, tmp_path / "none", replace(chosen, licences=("MIT",)))


def test_foreign_and_altered_exports_are_refused_or_quarantined(
    data: DataSet, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="is not what deepgen data export wrote"):
        open_source(tmp_path / "empty", SourceOptions())
    everything = ExportOptions(format="folder", restricted="include")
    export(data, tmp_path / "out", everything)
    path = tmp_path / "out" / "metadata.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    rows[0]["file_name"] = "../secret.png"
    rows[1]["prompts"][0]["weight"] = -1
    del rows[2]["licence"]
    table(path, [*rows, {**rows[0], "file_name": rows[1]["file_name"]}])
    import_source(
        open_source(tmp_path / "out", SourceOptions()),
        tmp_path / "again",
        ImportOptions(name="again"),
        workers=1,
    )
    reasons = quarantine(tmp_path / "again")
    assert list(reasons.values()) == ["path", "row", "row"]
    export(data, tmp_path / "tars", replace(everything, format="webdataset"))
    (tar,) = (tmp_path / "tars").iterdir()
    whole = tar.read_bytes()
    with tarfile.open(tar) as opened:
        (third,) = (each.offset for each in opened if each.name == "000000002.json")
        first = min(each.offset for each in opened if each.name.startswith("000000002."))
    # Cut between two samples, cut inside one, and a header with a negative size.
    size = (b"\xff" + (256**11 - 512).to_bytes(11, "big")).join(
        (whole[third : third + 124], whole[third + 136 : third + 512])
    )
    size = size[:148] + b" " * 8 + size[156:]
    header = size[:148] + b"%06o\0 " % sum(size) + size[156:]
    hostile = whole[:third] + header + whole[third + 512 :]
    for altered in (whole[:first], whole[:3000], hostile):
        tar.write_bytes(altered)
        found = islice(open_source(tmp_path / "tars", SourceOptions()).rows(), 20)
        reasons = [each.reason for each in found if isinstance(each, BadRow)]
        assert 0 < len(reasons) < 4
        assert "truncated" in reasons
    tar.write_bytes(gzip.compress(whole))
    with pytest.raises(DataError, match="is compressed"):
        list(open_source(tmp_path / "tars", SourceOptions()).rows())
    export(data, tmp_path / "rows", replace(everything, format="parquet"))
    (rows_path,) = (tmp_path / "rows").iterdir()
    pq.write_table(pa.table({"image": [1]}), rows_path)
    with pytest.raises(DataError, match="cannot be read"):
        list(open_source(tmp_path / "rows", SourceOptions()).rows())
