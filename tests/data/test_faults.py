from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deepgen.data.dataset import DataSet
from deepgen.data.importers.registry import open_source
from deepgen.data.importers.source import SourceOptions
from deepgen.data.importing import ImportOptions, ImportReport, import_source
from deepgen.data.mixture import MixedData, open_data
from deepgen.data.parallel import Processes
from deepgen.errors import DataError
from tests.data.faulty_set import FAULTS, MAPPING, faulty_set
from tests.data.importers.published_sets import jpeg, tar
from tests.data.sets import captioned_folder, content, quarantine


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    root = tmp_path_factory.mktemp("faulty")
    return root, faulty_set(root / "source", 120, 24)


def run(source: Path, folder: Path, name: str = "table", **options: Any) -> ImportReport:
    chosen = SourceOptions(scratch=folder / "scratch", mapping=options.pop("mapping", ()))
    executor, share = options.pop("executor", None), options.pop("max_bad_fraction", 1.0)
    wanted = ImportOptions(**{"name": "mine", **options})
    return import_source(
        open_source(name, source, chosen),
        folder,
        wanted,
        workers=1,
        executor=executor,
        max_bad_fraction=share,
    )


def test_every_planted_fault_is_found_with_its_reason(faulty: tuple[Path, dict[str, str]]) -> None:
    root, planted = faulty
    report = run(root / "source" / "rows.jsonl", root / "data", mapping=MAPPING)
    found = {key.partition("/")[2]: why for key, why in quarantine(root / "data").items()}
    assert found == planted
    assert set(planted.values()) == set(FAULTS.values())
    assert (report.rows, report.samples) == (120, 96)


def test_a_mixture_keeps_its_weights_after_quarantine(faulty: tuple[Path, dict[str, str]]) -> None:
    root, _ = faulty
    for name in ("one", "two"):
        source = open_source(
            "table", root / "source" / "rows.jsonl", SourceOptions(mapping=MAPPING)
        )
        import_source(source, root / name, ImportOptions(name=name), workers=1)
    (root / "mix.yaml").write_text(
        "sources: [{data: one, task: t2i, weight: 0.3}, {data: two, task: t2i, weight: 0.7}]"
    )
    data = open_data(root / "mix.yaml")
    assert isinstance(data, MixedData)
    rows, _ = data.order(data.rows(task="t2i"), seed=0, task="t2i").between(0, 10_000)
    first = Counter((rows < len(data.members["one"])).tolist())
    assert first[True] / first.total() == pytest.approx(0.3, abs=0.005)


def test_processes_give_the_same_files_as_threads(faulty: tuple[Path, dict[str, str]]) -> None:
    root, _ = faulty
    source = root / "source" / "rows.jsonl"
    for name, executor in (("threads", None), ("processes", Processes(2))):
        run(source, root / name, mapping=MAPPING, shard_bytes=20_000, executor=executor)
    assert content(root / "threads") == content(root / "processes")
    assert len(list((root / "threads").glob("*.tar"))) > 2


def test_too_many_faulty_rows_stop_an_import_that_a_larger_share_resumes(
    faulty: tuple[Path, dict[str, str]],
) -> None:
    root, _ = faulty
    source = root / "source" / "rows.jsonl"
    run(source, root / "below", mapping=MAPPING, max_bad_fraction=0.2)
    with pytest.raises(DataError, match=r"24 rows are faulty \(.*\), at most 22 may be"):
        run(source, root / "above", mapping=MAPPING, max_bad_fraction=0.19)
    with pytest.raises(DataError, match="was interrupted"):
        DataSet.open(root / "above")
    run(source, root / "above", mapping=MAPPING, max_bad_fraction=0.2)
    assert content(root / "above") == content(root / "below")


def test_a_hopeless_import_stops_early(
    faulty: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = faulty
    monkeypatch.setattr("deepgen.data.importing.JUDGED_ROWS", 3)
    with pytest.raises(DataError, match=r"4 rows are faulty"):
        run(root / "source" / "rows.jsonl", root / "early", mapping=MAPPING, max_bad_fraction=0.01)


def sample(key: str, number: int) -> dict[str, bytes | str]:
    return {f"{key}.jpg": jpeg(number), f"{key}.txt": f"caption {number}"}


def hostile(path: Path) -> None:
    """A tar with what no data set should have."""
    with tarfile.open(path, "w") as out:
        for name, data in (*sample("a", 1).items(), *sample("../b", 2).items()):
            raw = data.encode() if isinstance(data, str) else data
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            out.addfile(info, io.BytesIO(raw))
        for name, kind, target in (
            ("c.jpg", tarfile.SYMTYPE, "/etc/passwd"),
            ("d.jpg", tarfile.LNKTYPE, "a.jpg"),
            ("e.jpg", tarfile.CHRTYPE, ""),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            out.addfile(info)
        info = tarfile.TarInfo("/f.jpg")
        info.size = 4
        out.addfile(info, io.BytesIO(b"data"))


def test_paths_out_of_an_archive_and_links_in_it_are_counted_and_never_followed(
    tmp_path: Path,
) -> None:
    (tmp_path / "tars").mkdir()
    hostile(tmp_path / "tars" / "0.tar")
    run(tmp_path / "tars", tmp_path / "data", "webdataset", min_side=64)
    assert len(DataSet.open(tmp_path / "data")) == 1
    assert quarantine(tmp_path / "data") == {
        "mine/0.tar/../b.jpg": "path",
        "mine/0.tar/../b.txt": "path",
        "mine/0.tar//f.jpg": "path",
        "mine/0.tar/c.jpg": "link",
        "mine/0.tar/d.jpg": "link",
        "mine/0.tar/e.jpg": "link",
    }
    assert not (tmp_path / "b.jpg").exists()


def test_damaged_archives_cost_one_row_each_and_what_comes_before_is_kept(tmp_path: Path) -> None:
    root = tmp_path / "tars"
    whole = {**sample("a", 1), **sample("b", 2)}
    tar(root / "0.tar", whole)
    cut = tar(root / "1.tar", {**sample("a", 3), **sample("b", 4)})
    cut.write_bytes(cut.read_bytes().rstrip(b"\0")[:-1_500])
    at_header = tar(root / "2.tar", sample("a", 5))
    at_header.write_bytes(at_header.read_bytes().rstrip(b"\0"))
    (root / "3.tar").write_bytes(b"")
    (root / "4.tar").write_bytes(b"this is no archive at all" * 100)
    tar(root / "5.tar.gz", sample("a", 6))
    tar(root / "6.tar", sample("a", 7), compressed=True)
    short = tar(root / "7.tar.gz", sample("a", 8), compressed=True)
    short.write_bytes(short.read_bytes()[: len(short.read_bytes()) // 2])
    report = run(root, tmp_path / "data", "webdataset", min_side=64)
    data = DataSet.open(tmp_path / "data")
    kept = {data.record(row).sample_id for row in range(len(data))}
    assert {"mine/0/a", "mine/0/b", "mine/1/a", "mine/2/a", "mine/5/a", "mine/6/a"} <= kept
    faults = {key: why for key, why in quarantine(tmp_path / "data").items() if "tar" in key}
    assert faults == {
        "mine/1.tar": "truncated",
        "mine/2.tar": "truncated",
        "mine/3.tar": "empty",
        "mine/4.tar": "not_an_archive",
        "mine/7.tar.gz": "truncated",
    }
    assert report.rows == report.samples + sum(report.quarantined.values())


def test_texts_that_cannot_be_captions_are_counted(tmp_path: Path) -> None:
    texts: dict[str, bytes] = {
        "empty": b"", "latin": "caf\xe9".encode("latin-1"), "nul": b"a\0b", "huge": b"x" * 40_000,
        "enormous": b"x" * (2 << 20),
    }  # fmt: skip
    files: dict[str, bytes | str] = dict(sample("good", 0))
    for number, (name, text) in enumerate(texts.items(), 1):
        files |= {f"{name}.jpg": jpeg(number), f"{name}.txt": text}
    files |= {"broken.jpg": jpeg(20), "broken.json": "{"}
    files |= {f"again/{name}": data for name, data in sample("good", 9).items()}
    tar(tmp_path / "tars" / "0.tar", files)
    # The same key once more, at the end of the same archive.
    tar(tmp_path / "tars" / "1.tar", {**sample("x", 30), **sample("y", 31)})
    with tarfile.open(tmp_path / "tars" / "1.tar", "a") as out:
        info = tarfile.TarInfo("x.jpg")
        info.size = len(jpeg(32))
        out.addfile(info, io.BytesIO(jpeg(32)))
        info = tarfile.TarInfo("x.txt")
        info.size = 1
        out.addfile(info, io.BytesIO(b"z"))
    run(tmp_path / "tars", tmp_path / "data", "webdataset", min_side=64)
    assert quarantine(tmp_path / "data") == {
        "mine/0/empty": "empty_prompt",
        "mine/0/latin": "row",
        "mine/0/nul": "row",
        "mine/0/huge": "prompt_too_long",
        "mine/0/enormous": "row",
        "mine/0/broken": "row",
        "mine/1/x": "duplicate",
    }
    assert len(DataSet.open(tmp_path / "data")) == 4


def test_fields_are_mapped_for_tars_and_tables(tmp_path: Path) -> None:
    edit = {"1.before.png": jpeg(1), "1.after.png": jpeg(2), "1.json": json.dumps({"do": "turn"})}
    tar(tmp_path / "tars" / "0.tar", edit)
    mapping = ("target=after.png", "references=before.png", "instruction=do")
    run(tmp_path / "tars", tmp_path / "tar_data", "webdataset", mapping=mapping, min_side=64)
    record = DataSet.open(tmp_path / "tar_data").record(0)
    assert (record.task, record.prompts[0].text) == ("edit", "turn")
    rows = [{"pic": {"bytes": jpeg(3), "path": None}, "dense": "long", "alt": "short", "l": "MIT"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    mapping = ("target=pic", "caption_long=dense", "caption_short=alt", "licence=l")
    run(tmp_path / "rows.parquet", tmp_path / "data", mapping=mapping, min_side=64)
    record = DataSet.open(tmp_path / "data").record(0)
    kinds = {each.kind: each.text for each in record.prompts}
    assert kinds == {"caption_long": "long", "caption_short": "short"}
    assert record.licence == "MIT"
    with pytest.raises(DataError, match="has no column scan; it has"):
        run(tmp_path / "rows.parquet", tmp_path / "other", mapping=("target=scan",))
    with pytest.raises(ValueError, match="takes ROLE=FIELD"):
        run(tmp_path / "rows.parquet", tmp_path / "other", mapping=("image",))
    with pytest.raises(ValueError, match="--map is for table and webdataset"):
        run(captioned_folder(tmp_path / "f", 1), tmp_path / "o", "folder", mapping=("target=a",))


def test_shards_of_this_package_are_read_back_as_a_webdataset(tmp_path: Path) -> None:
    from tests.data.sets import edits, imported

    first = imported(edits(tmp_path / "source", 3), tmp_path / "first")
    (tmp_path / "tars").mkdir()
    (tmp_path / "first" / "mine-000000.tar").rename(tmp_path / "tars" / "mine-000000.tar")
    run(tmp_path / "tars", tmp_path / "second", "webdataset")
    second = DataSet.open(tmp_path / "second")
    for row in range(3):
        before, after = first.record(row), second.record(row)
        assert after.prompts == before.prompts
        assert [each.hash for each in after.images] == [each.hash for each in before.images]
