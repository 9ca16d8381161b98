from __future__ import annotations

from collections import Counter
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deepgen.config.sizes import fix_pixels
from deepgen.data.collate import MicroBatch, draw_text
from deepgen.data.dataset import DataSet
from deepgen.data.loader import Loader, LoaderOptions, Replacement, TaskPlan
from deepgen.data.records import PromptVariant
from deepgen.data.transforms import decode_at
from deepgen.errors import DataError
from deepgen.images.tensors import to_pixels
from tests.data.sets import batches_of, captioned_folder, edits, image, imported, table

BOTH = {
    "t2i": TaskPlan(microbatch_size=2, microbatches=3),
    "edit": TaskPlan(microbatch_size=2, microbatches=2),
}


def options(**changes: object) -> LoaderOptions:
    return replace(
        LoaderOptions(tasks={"t2i": BOTH["t2i"]}, seed=1, side=64, workers=2),
        **changes,  # type: ignore[arg-type]
    )


@pytest.fixture
def drawings(tmp_path: Path) -> DataSet:
    return imported(captioned_folder(tmp_path / "source", 20), tmp_path / "data")


@pytest.fixture
def both(tmp_path: Path) -> DataSet:
    """Twelve drawings and nine edits in one table."""
    source = tmp_path / "source"
    edits(source, 9)
    rows = (source / "edits.jsonl").read_text()
    captioned_folder(source, 12)
    path = table(
        source / "all.jsonl",
        [{"image_path": f"{number:03d}.png", "txt": f"text {number}"} for number in range(12)],
    )
    path.write_text(path.read_text() + rows)
    return imported(path, tmp_path / "data")


def targets(batch: MicroBatch) -> list[torch.Tensor]:
    return [each.target for each in batch.samples if each.target is not None]


def same(first: list[MicroBatch], second: list[MicroBatch]) -> bool:
    """Whether two lists of micro-batches hold the same samples, texts and pixels."""
    return len(first) == len(second) and all(
        mine.sample_ids == other.sample_ids
        and [each.text for each in mine.prompts] == [each.text for each in other.prompts]
        and all(map(torch.equal, targets(mine), targets(other)))
        for mine, other in zip(first, second, strict=True)
    )


def test_a_target_is_the_image_resized_whole_to_its_bucket(drawings: DataSet) -> None:
    loader = Loader(drawings, options())
    for batch in batches_of(loader, 0):
        for sample in batch.samples:
            source = drawings.folder.parent / "source" / sample.record.sample_id.split("/")[1]
            image = Image.open(source)
            height, width = fix_pixels(image.height, image.width, 64)
            expected = to_pixels(image.resize((width, height), Image.Resampling.BICUBIC))
            assert sample.target is not None
            assert torch.equal(sample.target, expected)


def test_every_reference_of_an_edit_is_used_in_its_own_size(both: DataSet) -> None:
    loader = Loader(both, options(tasks=BOTH))
    found = [e for step in range(9) for batch in batches_of(loader, step) for e in batch.samples]
    counts = Counter(len(e.prompt.references) for e in found if e.record.task == "edit")
    assert counts[1] > 0
    assert counts[2] > 0
    for sample in found:
        for pixels, own in zip(sample.prompt.references, sample.record.references, strict=True):
            assert pixels.shape[1:] == fix_pixels(own.height, own.width, 64)


def test_edits_come_before_drawings(both: DataSet) -> None:
    batches = batches_of(Loader(both, options(tasks=BOTH)), 5)
    assert [batch.task for batch in batches] == ["edit"] * 2 + ["t2i"] * 3
    assert [len(batch.samples) for batch in batches] == [2] * 5


def test_workers_prefetch_and_where_one_starts_change_nothing(drawings: DataSet) -> None:
    plain = Loader(drawings, options(workers=1, prefetch=0))
    ahead = Loader(drawings, options(workers=4, prefetch=3))
    stream = ahead.stream(first_step=2)
    for step in range(2, 8):
        assert same(batches_of(plain, step), next(stream))
    stream.close()


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_ranks_together_see_what_one_process_sees(both: DataSet, world_size: int) -> None:
    alone = batches_of(Loader(both, options(tasks=BOTH)), 3)
    shared = [
        batches_of(Loader(both, options(tasks=BOTH)), 3, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    mine = sorted(tuple(batch.sample_ids) for batches in shared for batch in batches)
    assert mine == sorted(tuple(batch.sample_ids) for batch in alone)


def test_an_epoch_shows_every_sample_once(drawings: DataSet) -> None:
    plan = {"t2i": TaskPlan(microbatch_size=2, microbatches=2)}
    loader = Loader(drawings, options(tasks=plan))
    for epoch in range(2):
        seen = [
            name
            for step in range(5 * epoch, 5 * epoch + 5)
            for batch in batches_of(loader, step)
            for name in batch.sample_ids
        ]
        assert len(set(seen)) == len(seen) == 20


def test_most_batches_need_no_padding(drawings: DataSet) -> None:
    batches = [
        batch for step in range(6) for batch in batches_of(Loader(drawings, options()), step)
    ]
    uniform = sum(len({each.shape for each in targets(batch)}) == 1 for batch in batches)
    assert uniform > len(batches) / 2


def test_prompts_are_drawn_by_their_weights(drawings: DataSet) -> None:
    record = drawings.record(0)
    variants = [
        PromptVariant(text=text, kind="caption_short", weight=weight)
        for text, weight in (("a", 1.0), ("b", 3.0), ("c", 4.0))
    ]
    record = record.model_copy(update={"prompts": variants})
    drawn = Counter(draw_text(record, epoch, seed=1) for epoch in range(4000))
    for text, fraction in (("a", 1 / 8), ("b", 3 / 8), ("c", 4 / 8)):
        assert abs(drawn[text] / 4000 - fraction) < 0.03


def damage(data: DataSet, row: int) -> str:
    """Flip one byte of a target; returns the sample's id."""
    record = data.record(row)
    shard = data.folder / record.target.shard
    content = bytearray(shard.read_bytes())
    content[record.target.offset + record.target.length // 2] ^= 0xFF
    shard.write_bytes(content)
    return record.sample_id


def test_a_damaged_sample_is_replaced_by_one_of_its_size_and_noted(drawings: DataSet) -> None:
    whole = Loader(drawings, options())
    before = {step: batches_of(whole, step) for step in range(4)}
    lost = damage(drawings, before[1][0].samples[0].occurrence.row)
    first, second = Loader(drawings, options(workers=1)), Loader(drawings, options(workers=4))
    for step in range(4):
        assert same(batches_of(first, step), batches_of(second, step))
        for mine, then in zip(batches_of(first, step), before[step], strict=True):
            assert [t.shape for t in targets(mine)] == [t.shape for t in targets(then)]
    assert first.replacements == second.replacements
    assert {each.sample_id for each in first.replacements} == {lost}
    assert "has changed since its import" in first.replacements[0].message


def test_a_log_of_replacements_keeps_its_substitutes_when_the_file_is_repaired(
    drawings: DataSet,
) -> None:
    shard = drawings.folder / "mine-000000.tar"
    healthy = shard.read_bytes()
    step, batch = 1, batches_of(Loader(drawings, options()), 1)
    damage(drawings, batch[0].samples[0].occurrence.row)
    broken = Loader(drawings, options())
    replaced = batches_of(broken, step)
    shard.write_bytes(healthy)
    assert same(
        batches_of(Loader(drawings, options(), replacements=broken.replacements), step), replaced
    )
    assert same(batches_of(Loader(drawings, options()), step), batch)


def test_a_data_set_that_is_gone_stops_the_run_with_a_name(
    drawings: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("deepgen.data.loader.time.sleep", pauses.append)
    (drawings.folder / "mine-000000.tar").unlink()
    with pytest.raises(DataError, match=r"mine-000000\.tar cannot be read"):
        batches_of(Loader(drawings, options(workers=1)), 0)
    assert pauses[:2] == [0.2, 0.8]


def test_a_sample_alone_of_its_size_is_replaced_by_one_of_another(tmp_path: Path) -> None:
    source = captioned_folder(tmp_path / "source", 3)
    data = imported(source, tmp_path / "data")
    lost = damage(data, 0)
    loader = Loader(data, options())
    for step in range(2):
        batches_of(loader, step)
    assert {each.sample_id for each in loader.replacements} == {lost}


def test_nothing_readable_left_stops_the_run(tmp_path: Path) -> None:
    source = tmp_path / "source"
    image(source / "a.png", 0)
    (source / "a.txt").write_text("alone")
    data = imported(source, tmp_path / "data")
    damage(data, 0)
    with pytest.raises(DataError, match="no other sample can be read instead"):
        batches_of(Loader(data, options()), 0)


def test_a_sample_whose_references_fill_the_prompt_is_replaced_and_noted(
    both: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    # At this side a single reference has 4 tokens, and the two of every third edit have more.
    monkeypatch.setattr("deepgen.data.loader.MAX_REFERENCE_TOKENS", 4)
    loader = Loader(both, options(tasks=BOTH))
    for step in range(4):
        for batch in batches_of(loader, step):
            assert all(len(each.references) <= 1 for each in batch.prompts)
    assert {each.reason for each in loader.replacements} == {"prompt_too_long"}
    first = loader.replacements[0]
    assert f"the references of {first.sample_id} have" in first.message
    assert first.replacement_id != first.sample_id


def test_edits_none_of_which_leaves_room_for_words_are_refused(
    both: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepgen.data.loader.MAX_REFERENCE_TOKENS", 3)
    with pytest.raises(DataError, match=r"every edit sample .* more than 3 tokens at side 64"):
        Loader(both, options(tasks=BOTH))


def test_a_damaged_image_among_twenty_does_not_stop_a_run(drawings: DataSet) -> None:
    lost = {damage(drawings, row) for row in (3, 7)}
    loader = Loader(drawings, options())
    # Twenty epochs, and 40 occurrences of the two.
    for step in range(70):
        batches_of(loader, step)
    assert {each.sample_id for each in loader.replacements} == lost


def test_too_many_damaged_samples_stop_the_run_by_their_names(drawings: DataSet) -> None:
    lost = [damage(drawings, row) for row in (3, 7, 11)]
    loader = Loader(drawings, options())
    noted = []
    with pytest.raises(DataError, match="3 of 20 samples cannot be read, at most 2") as caught:
        for step in range(40):
            batches_of(loader, step)
            noted += loader.take_replacements()
    assert all(each in str(caught.value) for each in lost)
    # All of them had been handed out to be written down.
    assert noted == loader.replacements
    patient = Loader(drawings, options(max_bad_fraction=0.15))
    for step in range(20):
        batches_of(patient, step)
    assert {each.sample_id for each in patient.replacements} == set(lost)


def test_ranks_that_tell_each_other_what_is_damaged_stop_together(drawings: DataSet) -> None:
    lost = {damage(drawings, row) for row in (3, 7, 11)}
    ranks = [Loader(drawings, options()) for _ in range(2)]
    stopped: list[str] = []
    for step in range(40):
        told: list[Replacement] = []
        for rank, loader in enumerate(ranks):
            try:
                batches_of(loader, step, rank=rank, world_size=2)
            except DataError as error:
                stopped.append(str(error))
            told += loader.take_replacements()
        if stopped:
            break
        for loader in ranks:
            loader.count_replacements(told)
    assert len(stopped) == 2
    assert all("3 of 20 samples cannot be read" in each for each in stopped)
    assert all({each.sample_id for each in loader.replacements} == lost for loader in ranks)


def test_a_run_that_is_started_again_still_counts_damage_unless_it_is_repaired(
    drawings: DataSet,
) -> None:
    shard = drawings.folder / "mine-000000.tar"
    healthy = shard.read_bytes()
    for row in (3, 7, 11):
        damage(drawings, row)
    first = Loader(drawings, options(max_bad_fraction=1.0))
    for step in range(8):
        batches_of(first, step)
    again = Loader(drawings, options(), replacements=first.replacements)
    with pytest.raises(DataError, match="3 of 20 samples"):
        for step in range(20):
            batches_of(again, step)
    shard.write_bytes(healthy)
    repaired = Loader(drawings, options(), replacements=first.replacements)
    for step in range(20):
        batches_of(repaired, step)


def test_a_task_without_samples_is_refused_before_training(drawings: DataSet) -> None:
    with pytest.raises(DataError, match="no train samples of task edit"):
        Loader(drawings, options(tasks=BOTH))
    with pytest.raises(DataError, match="no val samples"):
        Loader(drawings, options(split="val"))


def test_buckets_are_the_exact_sizes_of_target_and_references(tmp_path: Path) -> None:
    source = captioned_folder(tmp_path / "source", 9)
    rows: list[dict[str, object]] = [
        {
            "output_image": "000.png",
            "text": "t",
            "input_image": [f"{one:03d}.png" for one in chosen],
        }
        for chosen in ([1], [2, 4], [], [5], [3, 8], [8, 3], [], [4, 5, 6], [7])
    ]
    data = imported(table(source / "rows.jsonl", rows), tmp_path / "data")
    assert len(data) == 9
    keys, numbers = data.bucket_keys(64)
    for row in range(len(data)):
        record = data.record(row)
        sizes = [fix_pixels(each.height, each.width, 64) for each in record.images]
        assert keys[numbers[row]] == (sizes[0], tuple(sizes[1:]))
    assert len(set(keys)) == len(keys)


def test_an_image_already_of_its_size_is_untouched() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    found = decode_at(buffer.getvalue(), (64, 96))
    assert torch.equal(found, to_pixels(Image.fromarray(pixels)))
