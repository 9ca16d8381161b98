from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from deepgen.cli.main import main
from deepgen.data.dataset import DataSet
from deepgen.data.exporting import ExportOptions, export
from deepgen.data.importers import megalith
from deepgen.data.importers.table import TableSource
from deepgen.data.importing import ImportOptions, import_source
from deepgen.data.loader import Loader, LoaderOptions, TaskPlan
from deepgen.data.measures import measure
from deepgen.data.mixed_order import BLOCK, PERIOD, MixedOrder, Share, draws_before, whole_counts
from deepgen.data.mixture import MixedData, open_data, read_mixture
from deepgen.data.mixture_presets import PRESETS, preset_text
from deepgen.data.stats import stats_of
from deepgen.errors import DataError
from tests.data.sets import captioned_folder, edits, image, imported, table

SIDE = 64


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three data sets of 4 and 8 images and 6 edits."""
    root = tmp_path_factory.mktemp("mixture")
    imported(captioned_folder(root / "s1", 4), root / "small", name="small")
    imported(captioned_folder(root / "s2", 8), root / "large", name="large", licence="MIT")
    imported(edits(root / "s3", 6), root / "edits", name="edits")
    return root


def mixture(root: Path, text: str) -> MixedData:
    path = root / "mix.yaml"
    path.write_text(text)
    found = open_data(path)
    assert isinstance(found, MixedData)
    return found


def loader(data: MixedData, *, microbatches: int = 2) -> Loader:
    plan = TaskPlan(microbatch_size=2, microbatches=microbatches)
    return Loader(data, LoaderOptions(tasks={"t2i": plan}, seed=3, side=SIDE, workers=1))


ALL = "sources: [{data: small}, {data: large}, {data: edits}]"


def test_a_mixture_is_a_data_set_whose_images_are_those_of_its_members(root: Path) -> None:
    data = mixture(root, ALL)
    assert len(data) == 18
    assert data.tasks == ["edit", "t2i"]
    for row in range(len(data)):
        record = data.record(row)
        source = {"small": "s1", "large": "s2", "edits": "s3"}[record.source]
        stored = {path.read_bytes() for path in (root / source).glob("*.png")}
        assert all(data.read(each) in stored for each in record.images)


def test_every_block_of_draws_has_the_stated_shares() -> None:
    sizes = (50, 3000, 7)
    starts = np.cumsum([0, *sizes])
    shares = [
        Share(source=str(number), rows=np.arange(starts[number], starts[number + 1]), share=share)
        for number, share in enumerate((0.25, 0.7499, 0.0001))
    ]
    order = MixedOrder(shares, seed=1, name="t2i", wanted=np.arange(starts[-1]))
    for block in range(3):
        rows, _ = order.between(block * BLOCK, (block + 1) * BLOCK)
        found = np.bincount(np.searchsorted(starts, rows, side="right") - 1)
        assert found.tolist() == [2500, 7499, 1]
    assert order.seen(2 * BLOCK) == {"0": 5000, "1": 14998, "2": 2}


def test_any_position_is_computed_without_those_before_it() -> None:
    shares = [
        Share(source="a", rows=np.arange(500), share=0.3),
        Share(source="b", rows=np.arange(500, 2500), share=0.7),
    ]
    order = MixedOrder(shares, seed=1, name="t2i", wanted=np.arange(2500))
    rows, epochs = order.between(0, 2 * BLOCK + 10)
    for first, end in ((0, 3), (BLOCK - 2, BLOCK + 2), (2 * BLOCK, 2 * BLOCK + 10)):
        part, passes = order.between(first, end)
        assert part.tolist() == rows[first:end].tolist()
        assert passes.tolist() == epochs[first:end].tolist()
    # Each pass over a source sees every sample of it once.
    small = rows[rows < 500][:2500].reshape(5, 500)
    assert all(sorted(each.tolist()) == list(range(500)) for each in small)
    other = MixedOrder(shares, seed=2, name="t2i", wanted=np.arange(2500))
    assert other.between(0, 50)[0].tolist() != rows[:50].tolist()


def test_counts_are_whole_and_no_source_is_forgotten() -> None:
    assert whole_counts([1 / 3, 1 / 3, 1 / 3], BLOCK).sum() == BLOCK
    tiny = whole_counts([1e-9] * 3 + [1 - 3e-9], BLOCK)
    assert tiny.tolist() == [1, 1, 1, BLOCK - 3]


def test_a_share_below_one_draw_of_a_block_is_carried_over_to_later_blocks() -> None:
    shares = [0.3 / BLOCK, 0.6 / BLOCK, 1 / 3, 2 / 3 - 0.9 / BLOCK]
    before = draws_before(shares)
    counts = np.diff(before, axis=0)
    assert (counts.sum(axis=1) == BLOCK).all()
    assert np.abs(counts - np.array(shares) * BLOCK).max() < 1
    assert before[-1][:2].tolist() == [300, 600]
    # Evenly: no stretch of blocks strays from the share.
    assert np.abs(before - np.arange(PERIOD + 1)[:, None] * np.array(shares) * BLOCK).max() < 4
    ends = np.array([1, 2, 5002, 10_002])
    rows = np.split(np.arange(ends[-1]), ends[:-1])
    sources = [
        Share(source=str(number), rows=rows[number], share=share)
        for number, share in enumerate(shares)
    ]
    order = MixedOrder(sources, seed=1, name="t2i", wanted=np.arange(ends[-1]))
    start = (PERIOD - 3) * BLOCK
    drawn, epochs = order.between(start, start + 6 * BLOCK)
    for number, own in enumerate(rows):
        mine = np.sort(epochs[np.isin(drawn, own)])
        first = order.seen(start)[str(number)]
        assert mine.tolist() == (np.arange(first, first + len(mine)) // len(own)).tolist()
    assert order.seen(2 * PERIOD * BLOCK)["1"] == 1200


def test_weights_decide_how_often_a_source_is_seen(root: Path) -> None:
    data = mixture(root, "sources: [{data: small, weight: 3}, {data: large, weight: 1}]")
    seen: Counter[str] = Counter()
    for plan in loader(data, microbatches=100).plan(0):
        seen.update(data.record(each.row).source for each in plan.occurrences)
    assert abs(seen["small"] / seen.total() - 0.75) < 0.1
    (small, large) = data.seen({"t2i": BLOCK})
    assert (small["seen"], large["seen"], large["passes"]) == (7500, 2500, 2500 / 8)


def test_sizes_and_repeats_are_the_default_weights(root: Path) -> None:
    shares = mixture(root, "sources: [{data: small, repeat: 2}, {data: large}]").shares("t2i")
    assert [each.share for each in shares] == [0.5, 0.5]
    shares = mixture(root, ALL).shares("t2i")
    assert [round(each.share * 12) for each in shares] == [4, 8]


def test_a_run_is_resumed_within_a_mixture_at_the_same_samples(root: Path) -> None:
    data = mixture(root, "sources: [{data: small, weight: 3}, {data: large, weight: 1}]")
    whole = [ids for _, ids in zip(range(5), stream(loader(data), 0), strict=False)]
    resumed = [ids for _, ids in zip(range(2), stream(loader(data), 3), strict=False)]
    assert resumed == whole[3:]


def stream(loader: Loader, first: int) -> Any:
    for batches in loader.stream(first):
        yield [each.record.sample_id for batch in batches for each in batch.samples]


def test_a_source_can_be_limited_by_task_skill_and_licence(root: Path) -> None:
    text = "sources: [{data: small, exclude: [general], optional: true}, {data: large}]"
    with pytest.warns(UserWarning, match="no sample of small is left"):
        data = mixture(root, text)
    assert {data.record(int(row)).source for row in data.rows()} == {"large"}
    data = mixture(root, "sources: [{data: small}, {data: large, licences: [MIT]}]")
    assert len(data.rows()) == 12
    data = mixture(root, "sources: [{data: small}, {data: large, task: t2i}]")
    assert len(data.rows(task="t2i")) == 12
    assert len(data.rows(task="edit")) == 0


def test_an_unknown_name_to_exclude_is_refused_with_those_there_are(root: Path) -> None:
    message = r"exclude of small names genral, which is .* samples \('general'\) nor a flag \(exact"
    with pytest.raises(DataError, match=message):
        mixture(root, "sources: [{data: small, exclude: [genral]}]")


def test_the_documented_mixture_filters_by_a_licence_that_its_importer_writes() -> None:
    text = (Path(__file__).parents[2] / "docs" / "data.md").read_text("utf-8")
    (example,) = re.findall("```yaml\n(ratio:.*?)```", text, re.DOTALL)
    sources = yaml.safe_load(example)["sources"]
    found = [(each["data"], each["licences"]) for each in sources if "licences" in each]
    assert found == [("megalith", [megalith.LAYOUT.licence])]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sources: []", "needs sources"),
        ("sources: [{data: small, weight: 0}]", "weight must be a number above 0, got 0"),
        ("sources: [{data: small, weight: -1}]", "weight must be a number above 0, got -1"),
        ("sources: [{data: small, repeat: 0}]", "repeat must be a number above 0"),
        ("sources: [{data: small, weight: .nan}]", "weight must be a number above 0"),
        ("sources: [{data: small, weigth: 1}]", "weigth"),
        ("sources: [{data: small}, {data: small}]", "small is there twice for task"),
        ("sources: [{data: small}, {data: absent}]", "names absent, which .* does not hold"),
        ("sources: [{data: absent, optional: true}]", "none of the data sets"),
        ("ratio: {t2i: 0}\nsources: [{data: small}]", "t2i must be at least 1"),
        ("sources: [{data: small, licences: [CC0]}]", "small is left; .* licences 'unknown'; the"),
        (
            "sources: [{data: small, task: edit}]",
            "no sample of small is left; it has the tasks t2i",
        ),
        ("sources: {", "is not a mixture: line 1"),
    ],
)
def test_a_mixture_that_cannot_be_meant_is_refused(root: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        mixture(root, text)


def test_weights_for_some_sources_only_are_refused(root: Path) -> None:
    data = mixture(root, "sources: [{data: small, weight: 1}, {data: large}]")
    with pytest.raises(DataError, match="small have a weight and large have none"):
        data.shares("t2i")


def test_absent_optional_sources_are_named(root: Path) -> None:
    with pytest.warns(UserWarning, match="optional sources of .* skipped, not in .*: absent"):
        data = mixture(root, "sources: [{data: small}, {data: absent, optional: true}]")
    assert data.absent == ["absent"]


def test_other_weights_are_another_identity(root: Path) -> None:
    first = mixture(root, "sources: [{data: small, weight: 1}, {data: large, weight: 1}]")
    second = mixture(root, "sources: [{data: small, weight: 2}, {data: large, weight: 1}]")
    assert first.manifest.identity != second.manifest.identity


@pytest.fixture
def measured(tmp_path: Path) -> DataSet:
    """Three images, of which the first is in a benchmark."""
    data = imported(captioned_folder(tmp_path / "s", 3), tmp_path / "measured", name="measured")
    measure(data, lambda prompts: "item" if prompts[0].endswith("0") else None, workers=1)
    return data


CLEAN = "sources: [{data: measured, exclude: [contaminated]}]"


def test_measuring_again_is_another_identity(measured: DataSet) -> None:
    first = mixture(measured.folder.parent, CLEAN)
    measure(measured, lambda _: None, workers=1)
    second = mixture(measured.folder.parent, CLEAN)
    assert (len(first.rows()), len(second.rows())) == (2, 3)
    assert first.manifest.identity != second.manifest.identity
    assert mixture(measured.folder.parent, CLEAN).manifest.identity == second.manifest.identity


def test_what_a_mixture_leaves_out_is_neither_counted_nor_exported(
    measured: DataSet, tmp_path: Path
) -> None:
    data = mixture(tmp_path, CLEAN)
    stats = stats_of(data, side=SIDE)
    assert (stats.samples, stats.images, stats.tasks) == (2, 2, {"t2i": 2})
    assert sum(stats.buckets.values()) == 2
    found = export(data, tmp_path / "out", ExportOptions(format="folder", restricted="include"))
    assert (found.samples, found.left_out) == (2, {"mixture": 1})


def test_too_many_passes_and_another_ratio_are_refused(root: Path) -> None:
    data = mixture(root, f"ratio: {{t2i: 3, edit: 1}}\nmax_passes: 2\n{ALL}")
    data.check_passes({"t2i": 24, "edit": 12})
    with pytest.raises(DataError, match=r"pass 2\.50 times over the 6 edit samples of edits"):
        data.check_passes({"t2i": 24, "edit": 15})
    assert data.split_samples(31) == {"t2i": 24, "edit": 7}
    data.check_ratio({"t2i": 6, "edit": 2})
    data.check_ratio({"t2i": 6})
    with pytest.raises(ValueError, match="has 3 text-to-image to 1 editing"):
        data.check_ratio({"t2i": 2, "edit": 1})


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_opens_where_its_data_sets_are(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.yaml"
    path.write_text(preset_text(name))
    sources = read_mixture(path).sources
    image(tmp_path / "source" / "a.png", 1)
    image(tmp_path / "source" / "b.png", 2)
    row = {"image_path": "a.png", "txt": "t"}
    edit = {"output_image": "a.png", "input_image": "b.png", "instruction": "do"}
    # What one of the presets leaves out.
    edit["skills"] = ["geneval_like"]
    rows = TableSource(table(tmp_path / "source" / "rows.jsonl", [row, edit]))
    for each in {each.data for each in sources if not each.optional}:
        import_source(rows, tmp_path / each, ImportOptions(name=each), workers=1)
    with pytest.warns(UserWarning, match="optional sources of .* skipped"):
        data = open_data(path)
    assert isinstance(data, MixedData)
    required = [each for each in sources if not each.optional]
    assert sum(len(data.shares(task)) for task in ("t2i", "edit")) == len(required)
    with pytest.raises(DataError, match="no mixture 'mine'; choose one of stage1_paper"):
        preset_text("mine")


def test_the_file_of_a_mixture_can_be_checked_and_shown(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(mixture(root, "max_passes: 1\nsources: [{data: small}, {data: large}]").folder)
    assert main(["data", "check", path]) == 0
    assert capsys.readouterr().out == f"{path}: 12 samples, all as imported\n"
    assert main(["data", "preview", path, str(tmp_path / "p.html"), "--html", "--count", "3"]) == 0
    assert "3 of 12 samples" in capsys.readouterr().err
    assert main(["data", "preview", path, str(tmp_path / "p.png"), "--count", "3"]) == 0
    assert main(["data", "stats", path, "--samples", "100"]) == 0
    assert "training refuses such a run: this run would pass 8.33" in capsys.readouterr().err
