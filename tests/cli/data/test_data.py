from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from deepgen.cli.main import main
from deepgen.data.dataset import DataSet
from deepgen.data.importers.registry import IMPORTERS, open_source
from deepgen.data.importers.source import SourceOptions
from deepgen.errors import DataError
from tests.data.importers.published_sets import sharegpt4o_image
from tests.data.sets import captioned_folder, edits, fill_the_disk


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with images, one of them bad, and edits."""
    monkeypatch.chdir(tmp_path)
    captioned_folder(tmp_path / "images", 4)
    (tmp_path / "images" / "page.png").write_text("<html>")
    (tmp_path / "images" / "page.txt").write_text("a page")
    edits(tmp_path / "edits", 2)
    return tmp_path


def test_a_folder_is_imported_checked_counted_and_shown(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "import", "folder", "images", "data", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "path": "data",
        "rows": 5,
        "samples": 4,
        "tasks": {"t2i": 4},
        "quarantined": {"not_an_image": 1},
        "shards": 1,
    }
    assert main(["data", "check", "data"]) == 0
    assert capsys.readouterr().out == "data: 4 samples, all as imported\n"
    assert main(["data", "stats", "data", "--side", "64", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 4
    assert main(["data", "preview", "data", "sheet.png"]) == 0
    assert capsys.readouterr().out == "sheet.png\n"
    assert Image.open("sheet.png").size[0] > 4 * 192
    assert main(["data", "preview", "data", "more.png", "--count", "2", "--json"]) == 0
    shown = {"path": "more.png", "data": "data", "count": 2, "seed": 0}
    assert json.loads(capsys.readouterr().out) == shown


def test_of_several_captions_the_one_that_was_named_is_imported(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"image": "000.png", "caption": "short", "re_caption": "long"}
    (folder / "images" / "rows.jsonl").write_text(json.dumps(row))
    command = ["data", "import", "table", "images/rows.jsonl", "data"]
    assert main(command) == 2
    shown = capsys.readouterr()
    assert shown.err == (
        "error: a row has texts under caption and re_caption; choose the caption, for "
        "example --caption-key caption\n"
    )
    assert not (folder / "data").exists()
    assert main([*command, "--caption-key", "re_caption"]) == 0
    assert DataSet.open(folder / "data").record(0).prompts[0].text == "long"


def test_an_import_that_is_complete_says_so_or_that_its_source_has_changed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["data", "import", "folder", "images", "data"]
    assert main(command) == 0
    first = capsys.readouterr()
    assert "already imported" not in first.err
    assert main(command) == 0
    again = capsys.readouterr()
    assert again.out == first.out
    assert "already imported, nothing changed\n" in again.err
    (folder / "images" / "000.txt").write_text("corrected")
    assert main(command) == 2
    assert "other content of the source; import into a new folder" in capsys.readouterr().err


def test_people_read_columns_and_where_the_reasons_are(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "import", "folder", "images", "data"]) == 0
    shown = capsys.readouterr()
    assert "  not_an_image  1\n" in shown.out
    assert str(Path("data", "quarantine.jsonl")) in shown.err
    assert main(["data", "stats", "data"]) == 0
    assert "caption_short" in capsys.readouterr().out


def test_latents_are_cached_with_the_autoencoder_of_a_model(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "import", "folder", "images", "data"]) == 0
    capsys.readouterr()
    assert main(["data", "cache", "data", "--side", "64", "--device", "cpu"]) == 0
    first = capsys.readouterr().out
    (path,) = Path(first.strip()).iterdir()
    written = path.stat().st_mtime_ns
    assert main(["data", "cache", "data", "--side", "64", "--device", "cpu"]) == 0
    assert capsys.readouterr().out == first
    assert path.stat().st_mtime_ns == written
    assert main(["data", "cache", "data", "--side", "64", "--device", "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"path": first.strip(), "side": 64, "files": 1}


def test_a_table_of_edits_is_imported_under_a_name(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = str(folder / "edits" / "edits.jsonl")
    assert main(["data", "import", "table", table, "data", "--name", "own"]) == 0
    assert (folder / "data" / "own-000000.tar").exists()
    assert main(["data", "check", "data"]) == 0


def test_damage_is_listed_and_ends_with_exit_code_2(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "import", "folder", "images", "data"]) == 0
    capsys.readouterr()
    shard = folder / "data" / "images-000000.tar"
    content = bytearray(shard.read_bytes())
    content[1000] ^= 1
    shard.write_bytes(content)
    assert main(["data", "check", "data", "--json"]) == 2
    shown = capsys.readouterr()
    assert json.loads(shown.out)["sample_id"] == "images/000.png"
    assert shown.err.startswith("error: problems in data: 1; ")
    assert "or train anyway: damaged samples are replaced" in shown.err
    shard.unlink()
    assert main(["data", "check", "data"]) == 2
    assert "or train anyway" not in capsys.readouterr().err


def test_training_on_an_import_without_a_usable_row_names_the_reasons(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "import", "folder", "images", "data", "--min-side", "500"]) == 2
    capsys.readouterr()
    assert main(["train", "sft", "--data", "data", "--output", "run"]) == 2
    error = capsys.readouterr().err
    assert one_line(error)
    assert "data has no samples: none of 5 rows can be used (too_small 4, not_an_image 1)" in error
    assert str(Path("data", "quarantine.jsonl")) in error
    assert not (folder / "run").exists()


def test_every_importer_is_listed_and_opens_its_sources(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "import", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for name in IMPORTERS:
        assert f" {name} " in shown
        with pytest.raises(DataError, match="absent"):
            open_source(name, Path("absent.csv"), SourceOptions())
    with pytest.raises(DataError, match="no importer 'archive'; choose one of folder, table"):
        open_source("archive", Path("images"), SourceOptions())


def one_line(error: str) -> bool:
    return error.startswith("error: ") and error.count("\n") == 1


def test_a_full_disk_is_named_in_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["data", "import", "folder", "images", "data"]
    with pytest.MonkeyPatch.context() as patch:
        fill_the_disk(patch, ".tar.part")
        assert main(command) == 2
    shown = capsys.readouterr()
    assert one_line(shown.err)
    assert "No space left on device; fix that" in shown.err
    assert main(command) == 0
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        fill_the_disk(patch, ".part")
        assert main(["data", "cache", "data", "--side", "64", "--device", "cpu"]) == 2
    assert one_line(capsys.readouterr().err)
    assert not list((folder / "data").glob("latents/*/*"))


def test_a_folder_that_may_not_be_read_is_named_before_anything_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "images" / "private").mkdir()
    scandir = os.scandir

    def guarded(path: str | Path) -> object:
        if str(path).endswith("private"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("deepgen.data.importers.folder.os.scandir", guarded)
    assert main(["data", "import", "folder", "images", "data"]) == 2
    error = capsys.readouterr().err
    assert one_line(error)
    assert f"{Path('images', 'private')} cannot be listed (Permission denied); " in error
    assert not (folder / "data").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["import", "folder", "absent", "data"], "there is no folder absent"),
        (["import", "table", "absent.csv", "data"], "there is no file absent.csv; give a table"),
        (["import", "table", "images", "data"], "there is no file images; give a table"),
        (["import", "folder", "images", "images/data"], "is inside images"),
        (["import", "folder", "images", "edits"], "neither empty nor a data set"),
        (["import", "folder", "images", "images/000.txt"], "is inside"),
        (["import", "folder", "empty", "data"], "has no rows"),
        (["import", "folder", "images", "data", "--name", "a/b"], "letters, digits"),
        (["import", "folder", "images", "data", "--val-fraction", "1"], "--val-fraction"),
        (["import", "folder", "images", "data", "--val-fraction", "nan"], "--val-fraction"),
        (["import", "folder", "images", "data", "--min-side", "500"], "none of 5 rows"),
        (["import", "folder", "images", "data", "--images", "edits"], "--images"),
        (["import", "archive", "images", "data"], "archive"),
        (["check", "images"], "is not a data set"),
        (["stats", "absent"], "is not a data set"),
        (["stats", "absent", "--side", "0"], "--side"),
        (["cache", "absent"], "is not a data set"),
        (["cache", "absent", "--batch-size", "0"], "--batch-size"),
        (["preview", "absent", "sheet.png"], "is not a data set"),
        (["preview", "absent", "sheet.bmp"], ".webp"),
        (["preview", "absent", "sheet.png", "--count", "0"], "--count"),
        (["preview", "absent", "images/000.png"], "choose another OUT or add --overwrite"),
        ([], "import"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (folder / "empty").mkdir()
    assert main(["data", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    assert message in shown.err


def test_a_published_set_is_probed_imported_and_mixed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sharegpt4o_image(folder / "shared")
    command = ["data", "import", "sharegpt4o_image", "shared", "sets/sharegpt4o_image"]
    assert main([*command, "--part", "edit", "--json"]) == 0
    shown = capsys.readouterr()
    assert "ShareGPT-4o-Image: unverified (the names of its fields); checked here" in shown.err
    assert json.loads(shown.out)["quarantined"] == {"missing": 1}
    assert main(["data", "import", "folder", "images", "sets/mine"]) == 0
    capsys.readouterr()
    (folder / "sets" / "mix.yaml").write_text("sources: [{data: sharegpt4o_image}, {data: mine}]")
    assert main(["data", "stats", "sets/mix.yaml", "--samples", "200", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {each["source"]: each["seen"] for each in found["sources"]} == {
        "sharegpt4o_image": 100,
        "mine": 100,
    }
    assert main(["data", "stats", "sets/mix.yaml"]) == 0
    assert "a run of 1,000,000 samples sees" in capsys.readouterr().out
    (folder / "sets" / "mix.yaml").write_text("sources: [{data: mine, weight: 0}]")
    assert main(["data", "stats", "sets/mix.yaml"]) == 2
    error = capsys.readouterr().err
    assert one_line(error)
    assert "weight must be a number above 0, got 0" in error


def test_a_preset_is_written_beside_its_data_sets(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "mixture", "stage1_paper", "images"]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"{Path('images', 'stage1_paper.yaml')}\n"
    assert "megalith is not in images (required)" in shown.err
    assert main(["data", "mixture", "stage1_paper", "images"]) == 2
    assert "stage1_paper.yaml exists; add --overwrite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "0"], "--workers must be at least 1"),
        (["--workers", "2", "--ray"], "choose one"),
        (["--max-bad-fraction", "2"], "--max-bad-fraction must"),
        (["--map", "target=a"], "--map is for table and webdataset"),
        (["--part", "edit"], "--part and --strip-prefix are for published data sets"),
    ],
)
def test_options_that_do_not_apply_to_an_import_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["data", "import", "folder", "images", "data", *options]) == 2
    error = capsys.readouterr().err
    assert one_line(error)
    assert message in error
    assert not (folder / "data").exists()
