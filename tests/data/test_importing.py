from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from deepgen.data.dataset import DataSet
from deepgen.data.importers.folder import open_source
from deepgen.data.importers.source import SourceOptions
from deepgen.data.importing import ImportOptions, import_source
from deepgen.data.records import sid_of
from deepgen.data.shards import ShardWriter
from deepgen.errors import DataError
from tests.data.sets import (
    captioned_folder,
    content,
    edits,
    fill_the_disk,
    image,
    imported,
    quarantine,
    table,
)
from tests.images.test_io import png_header

# Of one image of noise and its tar headers: a shard closes after the first.
ONE_IMAGE = 10_000


def test_an_image_is_read_back_to_the_byte_by_one_seek(tmp_path: Path) -> None:
    source = captioned_folder(tmp_path / "source", 7)
    data = imported(source, tmp_path / "data", shard_bytes=3 * ONE_IMAGE)
    assert len(data) == 7
    for row in range(7):
        record = data.record(row)
        original = source / f"{row:03d}.png"
        assert record.sample_id == f"mine/{row:03d}.png"
        assert data.read(record.target) == original.read_bytes()
        assert (record.target.width, record.target.height) == Image.open(original).size
        assert record.prompts[0].text == f"image number {row}"


def test_a_shard_is_a_tar_whose_members_share_keys(tmp_path: Path) -> None:
    data = imported(edits(tmp_path / "source", 2), tmp_path / "data")
    with tarfile.open(tmp_path / "data" / "mine-000000.tar", "r:") as tar:
        members = {member.name: member for member in tar.getmembers()}
        assert sorted(members) == [
            "000000000.json", "000000000.png", "000000000.reference0.png",
            "000000000.reference1.png", "000000000.txt",
            "000000001.json", "000000001.png", "000000001.reference0.png", "000000001.txt",
        ]  # fmt: skip
        second = data.record(0).references[1]
        assert members["000000000.reference1.png"].offset_data == second.offset
        text = tar.extractfile("000000001.txt")
        assert text is not None
        assert text.read() == b"do 1"


def test_ids_and_keys_are_the_same_at_every_import(tmp_path: Path) -> None:
    source = captioned_folder(tmp_path / "source", 3)
    first = imported(source, tmp_path / "first")
    (source / "000a.png").write_bytes((source / "000.png").read_bytes())
    (source / "000a.txt").write_text("one more in between")
    second = imported(source, tmp_path / "second")
    assert second.record(2).sample_id == first.record(1).sample_id
    assert second.record(2).sid == first.record(1).sid == sid_of("mine/001.png")
    assert first.record(1).source_rev != second.record(2).source_rev


def test_bad_samples_are_quarantined_with_a_reason_each(tmp_path: Path) -> None:
    source = captioned_folder(tmp_path / "source", 2)
    damaged = (source / "000.png").read_bytes()
    (source / "cut.png").write_bytes(damaged[: len(damaged) // 2])
    (source / "empty.png").write_bytes(b"")
    (source / "page.jpg").write_text("<html>not found</html>")
    (source / "bomb.png").write_bytes(png_header(50_000, 50_000))
    image(source / "small.png", 1, (80, 200))
    image(source / "strip.png", 1, (1000, 100))
    image(source / "silent.png", 1)
    image(source / "blank.png", 1)
    for name in ("cut", "empty", "page", "bomb", "small", "strip"):
        (source / f"{name}.txt").write_text("a caption")
    (source / "blank.txt").write_text("  \n")
    image(source / "broken.png", 1)
    (source / "broken.json").write_text("{")
    data = imported(source, tmp_path / "data")
    assert len(data) == 2
    assert quarantine(tmp_path / "data") == {
        "mine/blank.png": "empty_prompt",
        "mine/bomb.png": "too_large",
        "mine/broken.png": "row",
        "mine/cut.png": "damaged",
        "mine/empty.png": "empty",
        "mine/page.jpg": "not_an_image",
        "mine/silent.png": "empty_prompt",
        "mine/small.png": "too_small",
        "mine/strip.png": "aspect",
    }


def test_edits_that_cannot_be_used_are_quarantined(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for number in range(6):
        image(source / f"{number}.png", number)
    edit = {"instruction": "do it", "output_image": "0.png"}
    rows: list[dict[str, Any]] = [
        {**edit, "input_image": "1.png"},
        {**edit, "input_image": "0.png"},
        {**edit, "input_image": ["1.png", "absent.png"]},
        {**edit, "input_image": [f"{number}.png" for number in range(1, 6)]},
        edit,
        {"instruction": "do it", "input_image": "1.png"},
        {**edit, "input_image": "/etc/passwd"},
        {**edit, "input_image": "../outside.png"},
        {**edit, "input_image": "..\\outside.png"},
        {**edit, "input_image": "https://example.org/a.png"},
        {**edit, "input_image": "1.png", "id": "twice"},
        {**edit, "input_image": "2.png", "id": "twice"},
        {**edit, "input_image": "1.png", "instruction": "half \ud800"},
    ]
    data = imported(table(source / "edits.jsonl", rows), tmp_path / "data")
    assert [data.record(row).sample_id for row in range(2)] == ["mine/000000", "mine/twice"]
    assert quarantine(tmp_path / "data") == {
        "mine/000001": "ref_target_identical",
        "mine/000002": "missing",
        "mine/000003": "references",
        "mine/000004": "missing",
        "mine/000005": "missing",
        "mine/000006": "path",
        "mine/000007": "path",
        "mine/000008": "path",
        "mine/000009": "path",
        "mine/twice": "duplicate",
        "mine/000012": "row",
    }


def test_the_size_of_a_rotated_photograph_is_its_upright_one(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (200, 100)).save(source / "a.jpg", exif=exif)
    (source / "a.txt").write_text("a photograph")
    target = imported(source, tmp_path / "data").record(0).target
    assert (target.width, target.height, target.exif_orientation) == (100, 200, 6)
    assert target.format == "JPEG"


def test_workers_change_nothing(tmp_path: Path) -> None:
    source = captioned_folder(tmp_path / "source", 12)
    (source / "005.png").write_bytes(b"no image")
    options = ImportOptions(name="mine", shard_bytes=3 * ONE_IMAGE)
    for workers in (1, 4):
        folder = tmp_path / str(workers)
        import_source(open_source(source, SourceOptions()), folder, options, workers=workers)
    assert content(tmp_path / "1") == content(tmp_path / "4")


def test_an_import_cut_off_anywhere_ends_like_an_unbroken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = captioned_folder(tmp_path / "source", 7)
    for number in (0, 3, 6):
        (source / f"{number:03d}.png").write_bytes(b"no image")
    options = ImportOptions(name="mine", shard_bytes=2 * ONE_IMAGE)
    import_source(open_source(source, SourceOptions()), tmp_path / "whole", options, workers=1)

    class CutError(Exception):
        pass

    calls = {"left": 0}

    def cut_at(name: str) -> None:
        """Stop in front of one of the calls that make something permanent."""
        original = getattr(os if name == "fsync" else Path, name)

        def counted(*arguments: object, **options: object) -> object:
            if calls["left"] == 0:
                raise CutError
            calls["left"] -= 1
            # No power is lost here, and disks are slow.
            return None if name == "fsync" else original(*arguments, **options)

        monkeypatch.setattr(os if name == "fsync" else Path, name, counted)

    cut_at("fsync")
    cut_at("replace")
    # As a kill would: what lies about stays.
    monkeypatch.setattr(ShardWriter, "abandon", lambda self: None)
    removed = Path.unlink

    def unlinked(path: Path, missing_ok: bool = False) -> None:
        if calls["left"] != 0:
            removed(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlinked)
    for calls_before_cut in range(1000):
        folder = tmp_path / f"cut{calls_before_cut}"
        calls["left"] = calls_before_cut
        try:
            import_source(open_source(source, SourceOptions()), folder, options, workers=1)
            break
        except CutError:
            calls["left"] = -1
        import_source(open_source(source, SourceOptions()), folder, options, workers=1)
        assert content(folder) == content(tmp_path / "whole"), calls_before_cut
    assert calls_before_cut > 12


FILES = (
    "mine-000001.tar.part",
    "mine-000001.parquet.part",
    "quarantine.jsonl",
    "dataset.json.part",
    "index.arrow",
)


@pytest.mark.parametrize("name", FILES)
def test_a_full_disk_leaves_nothing_half_written_and_the_import_goes_on(
    tmp_path: Path, name: str
) -> None:
    source = captioned_folder(tmp_path / "source", 5)
    (source / "000.png").write_bytes(b"no image")
    whole = imported(source, tmp_path / "whole", shard_bytes=2 * ONE_IMAGE).folder
    with pytest.MonkeyPatch.context() as patch, pytest.raises(OSError, match="No space left"):
        fill_the_disk(patch, name)
        if name == "index.arrow":
            full = OSError(28, "No space left on device")
            patch.setattr("pyarrow.ipc.new_file", lambda *_: (_ for _ in ()).throw(full))
        imported(source, tmp_path / "data", shard_bytes=2 * ONE_IMAGE)
    assert not list((tmp_path / "data").glob("*.part"))
    # A folder that is still empty does not stay.
    finished = content(tmp_path / "data") if (tmp_path / "data").exists() else {}
    kept = name not in ("quarantine.jsonl", "dataset.json.part")
    assert ("mine-000000.tar" in finished) == kept
    assert all(finished[each] == content(whole)[each] for each in finished if "mine" in each)
    imported(source, tmp_path / "data", shard_bytes=2 * ONE_IMAGE)
    assert content(tmp_path / "data") == content(whole)


def test_an_import_survives_kill_9_at_random_times(tmp_path: Path) -> None:
    source = captioned_folder(tmp_path / "source", 60)
    (source / "030.png").write_bytes(b"no image")
    options = "name='mine', shard_bytes=20_000"
    code = (
        "import sys; from pathlib import Path\n"
        "from deepgen.data.importers.folder import FolderSource\n"
        "from deepgen.data.importing import ImportOptions, import_source\n"
        "print('ready', flush=True)\n"
        f"import_source(FolderSource(Path(sys.argv[1])), Path(sys.argv[2]), "
        f"ImportOptions({options}), workers=2)"
    )
    command = [sys.executable, "-c", code, str(source)]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    rng = random.Random(0)
    kills = 0
    while kills < 3:
        folder = str(tmp_path / "killed")
        with subprocess.Popen([*command, folder], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(rng.uniform(0.0, 0.12))
            process.send_signal(signal.SIGKILL)
        kills += 1
    subprocess.run([*command, folder], check=True, capture_output=True)
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


def test_a_finished_import_is_not_repeated(tmp_path: Path) -> None:
    source = captioned_folder(tmp_path / "source", 3)
    options = ImportOptions(name="mine")
    first = import_source(open_source(source, SourceOptions()), tmp_path / "data", options)
    before = (tmp_path / "data" / "mine-000000.tar").stat().st_mtime_ns
    assert import_source(open_source(source, SourceOptions()), tmp_path / "data", options) == first
    assert (tmp_path / "data" / "mine-000000.tar").stat().st_mtime_ns == before
    assert (first.rows, first.samples, first.tasks) == (3, 3, {"t2i": 3})


def test_a_folder_of_another_import_is_refused(tmp_path: Path) -> None:
    source = captioned_folder(tmp_path / "source", 3)
    imported(source, tmp_path / "data")
    with pytest.raises(DataError, match="imported with another name"):
        imported(source, tmp_path / "data", name="other")
    with pytest.raises(DataError, match="imported with other options"):
        imported(source, tmp_path / "data", min_side=64)
    (source / "000.txt").write_text("another caption")
    with pytest.raises(DataError, match="other content of the source"):
        imported(source, tmp_path / "data")


def test_a_folder_with_something_else_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    source = captioned_folder(tmp_path / "source", 1)
    with pytest.raises(DataError, match="neither empty nor a data set"):
        imported(source, source)
    assert sorted(path.name for path in source.iterdir()) == ["000.png", "000.txt"]


def test_a_source_without_a_usable_row_is_refused_by_its_first_reason(tmp_path: Path) -> None:
    source = tmp_path / "source"
    image(source / "a.png", 0)
    with pytest.raises(DataError, match=r"none of 1 rows .* no caption; expected a.txt or a.json"):
        imported(source, tmp_path / "data")
    with pytest.raises(DataError, match="none of 1 rows"):
        imported(source, tmp_path / "data", min_side=32)
    with pytest.raises(DataError) as refused:
        DataSet.open(tmp_path / "data")
    assert str(refused.value) == (
        f"{tmp_path / 'data'} has no samples: none of 1 rows can be used (empty_prompt 1); the "
        "first, mine/a.png: no caption; expected a.txt or a.json beside it; every reason is in "
        f"{tmp_path / 'data' / 'quarantine.jsonl'}. Correct the source or the options and import "
        "again"
    )
    # Mended, it goes into the same folder.
    (source / "a.txt").write_text("an image")
    assert len(imported(source, tmp_path / "data", min_side=32)) == 1
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="no rows"):
        imported(tmp_path / "nothing", tmp_path / "other")
    with pytest.raises(DataError, match="no rows"):
        DataSet.open(tmp_path / "other")


def test_an_unfinished_import_is_no_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = captioned_folder(tmp_path / "source", 5)
    with pytest.raises(KeyboardInterrupt):
        import_source(
            open_source(source, SourceOptions()),
            tmp_path / "data",
            ImportOptions(name="mine"),
            watch=lambda rows: (_ for _ in ()).throw(KeyboardInterrupt),
        )
    with pytest.raises(DataError, match="was interrupted"):
        DataSet.open(tmp_path / "data")
    assert not list((tmp_path / "data").glob("*.part"))


def test_the_share_for_validation_is_chosen_by_id_alone(tmp_path: Path) -> None:
    source = captioned_folder(tmp_path / "source", 40)
    some = imported(source, tmp_path / "some", val_fraction=0.25)
    more = imported(source, tmp_path / "more", val_fraction=0.5)
    chosen, wider = set(some.rows(split="val").tolist()), set(more.rows(split="val").tolist())
    assert 2 <= len(chosen) <= 20
    assert chosen < wider


def test_a_damaged_table_is_refused_before_anything_is_stored(tmp_path: Path) -> None:
    source = captioned_folder(tmp_path / "source", 3)
    path = source / "rows.json"
    row = '{{"image_path": "{:03d}.png", "txt": "a"}}'.format
    path.write_text(f"[{row(0)}, {row(1)}, {{")
    with pytest.raises(DataError, match="is damaged"):
        imported(path, tmp_path / "data", shard_bytes=1)
    path.write_text(f"[{row(0)}, {row(1)}]")
    assert len(imported(path, tmp_path / "data", shard_bytes=1)) == 2


def later(path: Path) -> None:
    """As if a file had been written a second later."""
    now = path.stat().st_mtime_ns
    os.utime(path, ns=(now, now + 10**9))


def test_a_corrected_caption_is_another_source_even_of_the_same_length(tmp_path: Path) -> None:
    source = captioned_folder(tmp_path / "source", 3)
    data = tmp_path / "data"
    imported(source, data)
    before = (source / "001.txt").stat()
    (source / "001.txt").write_text("image nimble 1")
    os.utime(source / "001.txt", ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(DataError, match="other content of the source"):
        imported(source, data)
    (source / "001.txt").write_text("image number 1")
    (source / "notes.md").write_text("of no concern to a data set")
    imported(source, data)


def test_an_image_that_was_replaced_is_another_source_even_of_the_same_size(
    tmp_path: Path,
) -> None:
    source = captioned_folder(tmp_path / "source", 3)
    imported(source, tmp_path / "data")
    later(source / "001.png")
    with pytest.raises(DataError, match="other content of the source"):
        imported(source, tmp_path / "data")


def test_what_is_imported_from_a_copy_is_the_same_data(tmp_path: Path) -> None:
    source = captioned_folder(tmp_path / "source", 3)
    first = imported(source, tmp_path / "first")
    copy = Path(shutil.copytree(source, tmp_path / "copy"))
    for path in copy.iterdir():
        later(path)
    assert imported(copy, tmp_path / "second").manifest.identity == first.manifest.identity
    (copy / "001.txt").write_text("image nimble 1")
    assert imported(copy, tmp_path / "third").manifest.identity != first.manifest.identity


@pytest.mark.parametrize("changed", ["target1.png", "source1.png", "said.json"])
def test_a_table_knows_when_a_file_that_it_names_has_changed(tmp_path: Path, changed: str) -> None:
    source = tmp_path / "source"
    rows = [json.loads(line) for line in edits(source, 2).read_text().splitlines()]
    (source / "said.json").write_text('{"reasoning": "because"}')
    path = table(source / "rows.jsonl", [{**row, "annotation": "said.json"} for row in rows])
    data = tmp_path / "data"
    imported(path, data)
    later(path)
    imported(path, data)
    if changed == "said.json":
        (source / changed).write_text('{"reasoning": "despite"}')
    else:
        later(source / changed)
    with pytest.raises(DataError, match="other content of the source"):
        imported(path, data)
