from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from PIL import Image

from deepgen.errors import BenchmarkError
from deepgen.eval.benchmark import Item
from deepgen.eval.benchmarks.gedit.benchmark import GEDIT_ENGLISH
from deepgen.eval.run.folder import RunFolder, hash_folder
from deepgen.eval.run.generation import Shard, check_run, generate, select_items
from tests.eval.generating import (
    IMAGES_PER_PROMPT,
    RULE,
    files_of,
    make_items,
    make_manifest,
    noise_of,
    planned,
    run,
)

ITEMS = make_items(6)


def start(folder: Path, rank: int, count: int, *, order: int = 0, pause: float = 0.0) -> str:
    return " ".join(map(str, (folder, rank, count, order, pause, len(ITEMS))))


def popen(arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "tests.eval.generating", *arguments.split(" ")])


def test_a_run_is_every_image_in_the_official_layout_with_its_grid(tmp_path: Path) -> None:
    progress = run(tmp_path / "run", ITEMS)
    assert progress.done
    files = files_of(tmp_path / "run")
    assert len(files) == len(ITEMS) * (IMAGES_PER_PROMPT + 2) + 2
    grid = Image.open(tmp_path / "run" / "images" / "p3.png")
    tile = Image.open(tmp_path / "run" / "images" / "tiles" / "p3_2.png")
    assert grid.size == (64, 64)
    assert grid.crop((0, 32, 32, 64)).tobytes() == tile.tobytes()
    assert files["images/tiles/p3_0.txt"] == b"prompt 3"
    assert files["images.jsonl"].count(b"\n") == len(ITEMS) * IMAGES_PER_PROMPT


@pytest.mark.parametrize("count", [2, 3])
def test_several_processes_in_any_order_leave_the_same_files(tmp_path: Path, count: int) -> None:
    run(tmp_path / "one", ITEMS)
    ranks = [popen(start(tmp_path / "many", r, count, order=r)) for r in range(count)]
    assert [each.wait(60) for each in ranks] == [0] * count
    assert files_of(tmp_path / "many") == files_of(tmp_path / "one")


def test_killed_at_any_moment_and_resumed_it_leaves_the_same_files(tmp_path: Path) -> None:
    run(tmp_path / "whole", ITEMS)
    times, folder = random.Random(3), tmp_path / "killed"
    killed = 0
    for attempt in range(8):
        process = popen(start(folder, 0, 1, order=attempt, pause=0.04))
        while not (folder / "run.json").exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(times.uniform(0.0, 0.25))
        process.send_signal(signal.SIGKILL)
        killed += process.wait(60) == -signal.SIGKILL
        if killed < 3:
            assert not (folder / "images.jsonl").exists()
    assert killed >= 3
    # A line cut in the middle, and a part that never got its name, are what a kill can leave.
    (folder / "generated-0-cut.jsonl").write_text('{"item": "p0", "co')
    (folder / ".parts").mkdir(exist_ok=True)
    (folder / ".parts" / "left").write_bytes(b"half")
    assert run(folder, ITEMS).done
    # What others may be writing stays until somebody has the folder alone.
    assert (folder / ".parts" / "left").exists()
    RunFolder(folder).tidy()
    assert files_of(folder) == files_of(tmp_path / "whole")
    assert check_run(planned(folder, ITEMS)).done


def test_what_is_there_is_not_drawn_again_and_what_was_altered_is(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(folder, ITEMS)
    before = files_of(folder)
    seeds: list[int] = []

    def count(*arguments: object) -> Image.Image:
        seeds.append(arguments[2])  # type: ignore[arg-type]
        return noise_of()(*arguments)  # type: ignore[arg-type]

    def resume() -> None:
        generate(planned(folder, ITEMS), count)

    resume()
    assert seeds == []
    (folder / "images/tiles/p1_1.png").write_bytes(before["images/tiles/p1_2.png"])
    (folder / "images/tiles/p2_0.png").unlink()
    progress = check_run(planned(folder, ITEMS))
    assert (progress.done, progress.finished) == (False, len(ITEMS) * IMAGES_PER_PROMPT - 2)
    resume()
    assert seeds == [7 + 1001, 7 + 2000]
    assert files_of(folder) == before


def test_a_share_alone_is_not_a_run(tmp_path: Path) -> None:
    first = run(tmp_path, ITEMS, Shard(rank=0, count=2))
    assert (first.finished, first.done) == (12, False)
    assert not (tmp_path / "images.jsonl").exists()
    assert run(tmp_path, ITEMS, Shard(rank=1, count=2)).done


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"weights_sha256": "1" * 64}, "weights_sha256"),
        ({"rule": replace(RULE, steps=50)}, "rule.steps 2, not 50"),
        ({"base_seed": 0}, "base_seed 7, not 0"),
        ({"settings": {"device": "cuda"}}, "settings.device cpu, not cuda"),
        ({"limit": 2}, "a run over all prompts, not 2"),
        ({"prompts_sha256": "2" * 64}, "prompts_sha256"),
    ],
)
def test_a_run_of_another_model_or_other_settings_is_refused(
    tmp_path: Path, change: dict[str, object], named: str
) -> None:
    RunFolder(tmp_path).begin(make_manifest(ITEMS))
    with pytest.raises(BenchmarkError, match=named):
        RunFolder(tmp_path).begin(make_manifest(ITEMS, **change))
    # The same weights under another name are the same model.
    RunFolder(tmp_path).begin(make_manifest(ITEMS, model="elsewhere"))


def test_a_folder_of_something_else_or_a_damaged_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(BenchmarkError, match=r"not empty and has no run\.json"):
        RunFolder(tmp_path).begin(make_manifest(ITEMS))
    (tmp_path / "run.json").write_text('{"benchmark": "dpg"')
    with pytest.raises(BenchmarkError, match="is not what deepgen wrote"):
        RunFolder(tmp_path).begin(make_manifest(ITEMS))
    with pytest.raises(BenchmarkError, match="is not a run"):
        RunFolder(tmp_path / "absent").manifest()
    (tmp_path / "run.json").write_text('{"format": 1, "how": {}}')
    with pytest.raises(BenchmarkError, match=r"another version .* \(format 1, expected 3\)"):
        RunFolder(tmp_path).manifest()


@pytest.mark.parametrize("text", ["[" * 200_000, '{"format": ' + "[" * 500 + "]" * 500 + "}"])
def test_a_manifest_nested_without_end_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(BenchmarkError, match="nested more than 100 deep"):
        RunFolder(tmp_path).manifest()


@pytest.mark.parametrize("change", [{"images_per_item": 10**9}, {"steps": 10**9}, {"height": -1}])
def test_a_manifest_with_numbers_out_of_range_is_refused(
    tmp_path: Path, change: dict[str, int]
) -> None:
    RunFolder(tmp_path).begin(make_manifest(ITEMS))
    values = json.loads((tmp_path / "run.json").read_text())
    values["rule"].update(change)
    (tmp_path / "run.json").write_text(json.dumps(values))
    with pytest.raises(BenchmarkError, match="must be a number from"):
        RunFolder(tmp_path).manifest()


def test_sources_are_squashed_and_copied_beside_the_result(tmp_path: Path) -> None:
    Image.new("RGB", (40, 20), (200, 0, 0)).save(tmp_path / "source.png")
    item = Item(
        id="a",
        number=0,
        prompt="turn it green",
        category="ps_human",
        sources=(PurePosixPath("source.png"),),
        fields={"language": "en", "intersection": None},
    )
    shown: list[tuple[int, int]] = []

    def draw(prompt: str, images: list[Image.Image], *rest: object) -> Image.Image:
        shown.extend(each.size for each in images)
        return Image.new("RGB", (32, 32))

    rule = replace(RULE, images_per_item=1, resize_sources=True)
    manifest = make_manifest([item], rule=rule)
    edits = planned(
        tmp_path / "run", [item], benchmark=GEDIT_ENGLISH, manifest=manifest, sources=tmp_path
    )
    assert generate(edits, draw).done  # type: ignore[arg-type]
    assert shown == [(32, 32)]
    beside = edits.folder.images / "fullset/ps_human/en/a_SRCIMG.png"
    assert beside.read_bytes() == (tmp_path / "source.png").read_bytes()
    with pytest.raises(BenchmarkError, match="1 images to edit are missing"):
        generate(replace(edits, sources=tmp_path / "no"), draw)  # type: ignore[arg-type]


def test_a_limit_takes_equal_shares_and_a_longer_one_holds_a_shorter() -> None:
    items = make_items(20)
    chosen = select_items(items, 5)
    assert sorted(item.category for item in chosen) == ["a", "a", "a", "b", "b"]
    assert {item.id for item in chosen} < {item.id for item in select_items(items, 9)}
    assert [item.number for item in chosen] == sorted(item.number for item in chosen)
    assert select_items(items, 99) == tuple(items)
    with pytest.raises(ValueError, match="--limit must be at least 1"):
        select_items(items, 0)


def test_the_hash_of_a_model_sees_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = hash_folder(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    renamed = hash_folder(tmp_path)
    (tmp_path / "b").write_text("2")
    changed = hash_folder(tmp_path)
    assert len({first, renamed, changed}) == 3
    # The model card is no part of the weights.
    (tmp_path / "model_card.json").write_text("{}")
    assert hash_folder(tmp_path) == changed
