from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from deepgen.errors import BenchmarkError, ImageError
from deepgen.eval.benchmark import Item
from deepgen.eval.registry import BENCHMARKS
from deepgen.eval.run.folder import RunFolder, RunManifest
from deepgen.eval.run.layout import find_issues, read_stored_image, register_images
from deepgen.images.io import read_image
from tests.eval.generating import (
    BENCHMARK,
    IMAGES_PER_PROMPT,
    files_of,
    make_items,
    make_manifest,
    planned,
    run,
)

ITEMS = make_items(3)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Images in the official layout, with nothing of ours beside them."""
    run(tmp_path / "ours", ITEMS)
    return (tmp_path / "ours" / "images").rename(tmp_path / "images")


def foreign(images: Path) -> RunManifest:
    return make_manifest(
        ITEMS, base_seed=None, model="unknown", weights_sha256="unknown", images=str(images)
    )


def taken(images: Path, folder: Path) -> dict[tuple[str, int], Image.Image]:
    """What a run over the folder sees of each image."""
    run_folder, manifest = RunFolder(folder), foreign(images)
    register_images(BENCHMARK, ITEMS, manifest, run_folder)
    by_id = {item.id: item for item in ITEMS}
    whole = planned(folder, ITEMS, manifest=manifest)
    return {
        image: read_stored_image(whole, by_id[image[0]], line)
        for image, line in whole.finished().items()
    }


def test_images_of_others_are_taken_as_they_lie_and_none_is_copied(
    images: Path, tmp_path: Path
) -> None:
    before = files_of(images)
    seen = taken(images, tmp_path / "run")
    assert len(seen) == len(ITEMS) * IMAGES_PER_PROMPT
    assert files_of(images) == before
    assert sorted(files_of(tmp_path / "run")) == ["images.jsonl", "run.json"]
    manifest = RunFolder(tmp_path / "run").manifest()
    assert (manifest.base_seed, manifest.images) == (None, str(images))
    # Once more changes nothing.
    before = files_of(tmp_path / "run")
    taken(images, tmp_path / "run")
    assert files_of(tmp_path / "run") == before


def test_a_grid_is_cut_into_the_copies_that_made_it(images: Path, tmp_path: Path) -> None:
    alone = taken(images, tmp_path / "alone")
    shutil.rmtree(images / "tiles")
    cut = taken(images, tmp_path / "cut")
    assert cut.keys() == alone.keys()
    assert all(cut[each].tobytes() == alone[each].tobytes() for each in alone)
    grid = images / str(BENCHMARK.grid_path(ITEMS[0]))  # type: ignore[misc]
    read_image(grid).crop((0, 0, 63, 64)).save(grid)
    with pytest.raises(ImageError, match="is 63 x 64, expected a grid of 2 x 2"):
        taken(images, tmp_path / "odd")


def test_other_suffixes_and_numbers_of_digits_are_the_same_images(
    images: Path, tmp_path: Path
) -> None:
    numbered = replace(
        BENCHMARK,
        grid_path=None,
        image_path=lambda item, image_index: (
            BENCHMARK.image_path(item, 0).parent / item.id / f"{image_index:05d}.png"
        ),
    )
    folder = images / "tiles" / ITEMS[0].id
    folder.mkdir()
    Image.new("RGB", (8, 8)).save(folder / "2.jpg")
    run_folder, manifest = RunFolder(tmp_path / "run"), foreign(images)
    register_images(numbered, ITEMS, manifest, run_folder)
    assert list(run_folder.finished(numbered, manifest, ITEMS)) == [(ITEMS[0].id, 2)]


def test_a_half_filled_folder_is_no_whole_run_and_fills_up_later(
    images: Path, tmp_path: Path
) -> None:
    for item in ITEMS:
        (images / str(BENCHMARK.grid_path(item))).unlink()  # type: ignore[misc]
    late = images / str(BENCHMARK.image_path(ITEMS[0], 1))
    content = late.read_bytes()
    late.unlink()
    assert len(taken(images, tmp_path / "run")) == len(ITEMS) * IMAGES_PER_PROMPT - 1
    assert not (tmp_path / "run" / "images.jsonl").exists()
    late.write_bytes(content)
    assert len(taken(images, tmp_path / "run")) == len(ITEMS) * IMAGES_PER_PROMPT
    assert (tmp_path / "run" / "images.jsonl").exists()


def test_an_image_that_changes_is_another_image(images: Path, tmp_path: Path) -> None:
    first = taken(images, tmp_path / "run")
    image = (ITEMS[2].id, 3)
    Image.new("RGB", (32, 32), "red").save(images / str(BENCHMARK.image_path(ITEMS[2], 3)))
    second = taken(images, tmp_path / "run")
    assert second[image].getpixel((0, 0)) == (255, 0, 0)
    assert first.keys() == second.keys()


def test_missing_extra_damaged_and_odd_images_are_named_and_counted(
    images: Path, tmp_path: Path
) -> None:
    names = [str(BENCHMARK.image_path(ITEMS[0], image_index)) for image_index in range(3)]
    (images / str(BENCHMARK.grid_path(ITEMS[0]))).unlink()  # type: ignore[misc]
    (images / names[0]).unlink()
    (images / names[1]).write_bytes(b"no image")
    Image.new("RGB", (8, 16)).save(images / names[2])
    Image.new("RGB", (8, 8)).save(images / "holiday.jpeg")
    run_folder, manifest = RunFolder(tmp_path / "run"), foreign(images)
    register_images(BENCHMARK, ITEMS[:2], manifest, run_folder)
    # The third item is not of this run, but no stranger either.
    found = find_issues(planned(tmp_path / "run", ITEMS[:2], manifest=manifest), ITEMS)
    assert found.missing == (names[0],)
    assert found.extra == ("holiday.jpeg",)
    assert found.damaged == (names[1],)
    assert found.odd == (f"{names[2]} (8 x 16)",)
    first, *others = found.messages()
    assert first == (f"images missing: 1, {names[0]} the first; generate the rest, and score again")
    assert len(others) == 3


def test_unigenbench_images_of_the_reinforcement_code_are_found_too(tmp_path: Path) -> None:
    benchmark = BENCHMARKS["unigenbench/en"]
    names = ("7_0.png", "7.1.png", "7.2.png", "7.4.png")
    (tmp_path / "images").mkdir()
    for name in names:
        Image.new("RGB", (8, 8)).save(tmp_path / "images" / name)
    items = [Item(id="7", number=7, prompt="a cup", category="a")]
    manifest = make_manifest(items, base_seed=None, images=str(tmp_path / "images"))
    folder = RunFolder(tmp_path / "run")
    register_images(benchmark, items, manifest, folder)
    there = folder.finished(benchmark, manifest, items)
    assert {image_index: line.path for (_, image_index), line in there.items()} == dict(
        enumerate(names[:3])
    )
    whole = planned(tmp_path / "run", items, benchmark=benchmark, manifest=manifest)
    found = find_issues(whole, items)
    assert (found.missing, found.extra) == (("7_3.png",), ("7.4.png",))


def test_a_folder_that_holds_nothing_of_the_benchmark_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BenchmarkError, match=r"holds no image of dpg: expected names such as"):
        taken(tmp_path / "empty", tmp_path / "run")
    with pytest.raises(BenchmarkError, match="there is no folder"):
        taken(tmp_path / "nowhere", tmp_path / "run")
    assert not (tmp_path / "run").exists()
