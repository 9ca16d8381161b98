"""What a trainer writes down beside its checkpoints, and what it does about bad updates."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deepgen.config.train import CheckpointConfig, LoggingConfig
from deepgen.errors import CheckpointError, StoppedError, TrainingError
from deepgen.train.checkpoints import Checkpoints, open_checkpoint
from deepgen.train.identity import RunIdentity
from deepgen.train.monitor.speed import DeviceRates
from deepgen.train.monitor.spikes import MIN_HISTORY
from deepgen.train.objective import Loss
from tests.train.test_trainer import STEPS, assert_same, batches, everything, noisy_square, trainer

LONG = MIN_HISTORY + 8


def lines(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "speed"} for line in found]


def kinds(layers: nn.Module, batch: Tensor, generator: torch.Generator) -> Loss:
    """Every second sample is of another kind, and every batch is some work."""
    loss = noisy_square(layers, batch, generator)
    names = [("even", "all") if place % 2 else ("odd", "all") for place in range(len(batch))]
    return replace(loss, groups=names, work={"images": float(len(batch)), "flops": 8.0})


def test_a_line_has_losses_by_kind_norms_by_part_and_speed(tmp_path: Path) -> None:
    parts = {"0.weight": "front", "0.bias": "front", "3.weight": "back"}
    run = trainer(objective=kinds, monitoring={"parts": parts})
    run.run(tmp_path, logging=LoggingConfig(every=3), rates=DeviceRates(peak=1e12))
    found = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert len(found) == STEPS / 3
    for line in found:
        assert line["loss/all"] == pytest.approx((line["loss/odd"] + line["loss/even"]) / 2)
        # The update's loss is the sum over four samples, a quarter each.
        assert line["loss/all"] == pytest.approx(line["loss"])
        assert 0 < line["grad_norm/front"] < line["grad_norm"]
        assert 0 < line["grad_norm/back"] < line["grad_norm"]
        assert line["lr"] > 0 and line["skipped"] == line["replaced"] == 0
        speed = line["speed"]
        assert speed["images_per_second"] == pytest.approx(4 * speed["steps_per_second"])
        assert speed["mfu"] == pytest.approx(speed["flops_per_second"] / 1e12)
        assert {"data", "forward", "backward", "optimizer", "communication"} <= speed["time"].keys()


def test_losses_by_kind_of_a_cut_run_are_those_of_the_unbroken_one(tmp_path: Path) -> None:
    trainer(objective=kinds).run(tmp_path / "unbroken", logging=LoggingConfig(every=4))
    cut = trainer(objective=kinds, batches=lambda step: batches(step) if step < 10 else exit())
    with pytest.raises(SystemExit):
        cut.run(
            tmp_path / "cut", checkpoint=CheckpointConfig(every=3), logging=LoggingConfig(every=4)
        )
    trainer(objective=kinds).run(
        tmp_path / "cut", checkpoint=CheckpointConfig(every=3), logging=LoggingConfig(every=4)
    )
    assert lines(tmp_path / "cut") == lines(tmp_path / "unbroken")
    assert "loss/even" in lines(tmp_path / "cut")[0]


def steep(steps: Sequence[int], factor: float) -> Any:
    """Losses that are far too large at these steps, though finite."""

    def objective(layers: nn.Module, batch: Tensor, generator: torch.Generator) -> Loss:
        loss = noisy_square(layers, batch, generator)
        is_steep = any(torch.equal(batch, each) for step in steps for each in batches(step))
        return replace(loss, total=loss.total * factor) if is_steep else loss

    return objective


def test_a_gradient_out_of_all_proportion_is_left_out_also_after_a_resume(tmp_path: Path) -> None:
    bad = MIN_HISTORY + 2
    options: dict[str, Any] = {"objective": steep([bad], 1e6), "steps": LONG}
    unbroken = trainer(**options)
    with pytest.warns(
        UserWarning,
        match=f"step {bad + 1} was skipped, as it had a gradient .* 50 times",
    ):
        unbroken.run(tmp_path / "unbroken", logging=LoggingConfig(every=1))
    assert unbroken.skipped == 1
    cut = trainer(**options)
    for _ in range(bad - 1):
        cut.step()
    cut.save(Checkpoints(tmp_path / "cut" / "checkpoints"))
    # Without the norms of the updates before, the next start would not know what is usual.
    resumed = trainer(**options)
    with pytest.warns(UserWarning, match="was skipped"):
        resumed.run(tmp_path / "cut", logging=LoggingConfig(every=1))
    assert resumed.skipped == 1
    assert_same(resumed, unbroken)
    assert [line for line in lines(tmp_path / "unbroken") if "skipped_samples" in line] == [
        line for line in lines(tmp_path / "cut") if "skipped_samples" in line
    ]


def test_a_large_gradient_is_clipped_and_noted(tmp_path: Path) -> None:
    bad = MIN_HISTORY + 2
    run = trainer(objective=steep([bad], 20.0), steps=LONG)
    run.run(tmp_path)
    assert run.skipped == 0
    noted = {line["step"]: line for line in lines(tmp_path) if "spike" in line}
    assert noted[bad + 1]["spike"] > 6 * noted[bad + 1]["usual"]


@pytest.mark.filterwarnings("ignore:step")
def test_too_many_updates_left_out_end_a_run_though_they_are_far_apart(tmp_path: Path) -> None:
    def poisoned(step: int) -> list[Tensor]:
        first, second = batches(step)
        if step % 2:
            second[1, 0, 0, 0] = torch.nan
        return [first, second]

    run = trainer(batches=poisoned)
    with pytest.raises(TrainingError, match=r"4 of 8 steps were skipped.*at most 0.1% may"):
        run.run(tmp_path)


class Replacing:
    """Batches of which some samples cannot be read."""

    def __init__(self, bad: Sequence[int]) -> None:
        self.bad = bad
        self.known: list[dict[str, Any]] = []
        self.recent: list[dict[str, Any]] = []

    def __call__(self, step: int) -> list[Tensor]:
        known = [each for each in self.known if each["step"] == step]
        if step in self.bad and not known:
            known = [{"step": step, "sample_id": f"s{step}", "message": f"s{step} is not an image"}]
        self.recent += known
        return [each + len(known) for each in batches(step)]

    def take_replacements(self) -> list[dict[str, Any]]:
        recent, self.recent = self.recent, []
        return recent

    def count_replacements(self, entries: Sequence[dict[str, Any]]) -> None:
        """As many as there are."""

    def replay(self, entries: Sequence[dict[str, Any]]) -> None:
        self.known = list(entries)


def test_samples_that_were_replaced_are_counted_listed_and_replaced_again(tmp_path: Path) -> None:
    def run(folder: str, bad: Sequence[int], stop_at: int = STEPS) -> Any:
        stream = Replacing(bad)

        def until(step: int) -> list[Tensor]:
            return stream(step) if step < stop_at else exit()

        made = trainer(batches=until, monitoring={"replacement_source": stream})
        made.run(
            tmp_path / folder, checkpoint=CheckpointConfig(every=3), logging=LoggingConfig(every=2)
        )
        return made

    with pytest.warns(UserWarning, match="s1 is not an image; another sample replaces") as seen:
        unbroken = run("unbroken", [1, 4, 7])
    assert len(seen) == 1
    assert [line["replaced"] for line in lines(tmp_path / "unbroken")] == [1, 1, 2, 3, 3, 3]
    with pytest.warns(UserWarning, match="s1"), pytest.raises(SystemExit):
        run("cut", [1, 4, 7], stop_at=8)
    # The checkpoint is of step 6. The file of step 7 has been mended since, but was not usable
    # when this run first came there.
    resumed = run("cut", [])
    assert_same(resumed, unbroken)
    assert lines(tmp_path / "cut") == lines(tmp_path / "unbroken")
    logs = [(tmp_path / name / "replacements.jsonl").read_text() for name in ("cut", "unbroken")]
    assert logs[0] == logs[1] and logs[0].count("\n") == 3


@pytest.mark.filterwarnings("ignore:s[12] is not an image")
def test_a_run_cut_before_its_first_checkpoint_begins_its_record_anew(tmp_path: Path) -> None:
    def run(folder: str, bad: int, stop_at: int) -> None:
        stream = Replacing([bad])
        trainer(
            batches=lambda step: stream(step) if step < stop_at else exit(),
            monitoring={"replacement_source": stream},
        ).run(tmp_path / folder, logging=LoggingConfig(every=1))

    with pytest.raises(SystemExit):
        run("cut", 1, stop_at=5)
    assert [line["step"] for line in lines(tmp_path / "cut")] == [1, 2, 3, 4, 5]
    # What could not be read then can be read now, and the other way round.
    for folder in ("cut", "unbroken"):
        run(folder, 2, stop_at=STEPS)
    assert lines(tmp_path / "cut") == lines(tmp_path / "unbroken")
    logs = [(tmp_path / name / "replacements.jsonl").read_text() for name in ("cut", "unbroken")]
    assert logs[0] == logs[1] and logs[0].count("\n") == 1


def test_a_run_begins_from_a_checkpoint_of_another_folder(tmp_path: Path) -> None:
    settings = {"save_every": 4, "lr": 1e-2}
    whole = trainer(identity=RunIdentity(settings=settings))
    whole.run(tmp_path / "whole", checkpoint=CheckpointConfig(every=4))
    start = open_checkpoint(tmp_path / "whole" / "checkpoints" / "step_00000004")
    assert start.values("config") == settings
    second = trainer(batches=lambda step: batches(step) if step >= 4 else exit())
    second.run(tmp_path / "second", start=start)
    assert second.done == STEPS
    assert_same(second, whole)
    # Once it has a checkpoint of its own, it resumes from there.
    third = trainer(batches=lambda step: exit())
    third.run(tmp_path / "second", start=start)
    assert_same(third, whole)


def test_the_newest_whole_checkpoint_of_a_run_is_opened_and_nothing_is_touched(
    tmp_path: Path,
) -> None:
    trainer().run(tmp_path, checkpoint=CheckpointConfig(every=4))
    kept = tmp_path / "checkpoints"
    partial = kept / ".step_00000009.0123abcd.partial"
    partial.mkdir()
    assert open_checkpoint(tmp_path).step == STEPS
    weights = kept / "step_00000012" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    before = sorted(kept.rglob("*"))
    with pytest.warns(UserWarning, match="step_00000012 is damaged"):
        assert open_checkpoint(tmp_path).step == 8
    with pytest.warns(UserWarning), pytest.raises(CheckpointError, match="is intact"):
        open_checkpoint(kept / "step_00000012")
    assert sorted(kept.rglob("*")) == before
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        open_checkpoint(kept)
    for path in kept.glob("step_*"):
        path.rename(kept / f"damaged_{path.name}_0123abcd")
    with pytest.raises(CheckpointError, match="is intact"):
        open_checkpoint(tmp_path)


def test_a_checkpoint_to_begin_from_can_be_refused_before_anything_changes(tmp_path: Path) -> None:
    trainer().run(tmp_path, checkpoint=CheckpointConfig(every=STEPS))
    other = trainer(steps=20)
    before = {name: value.clone() for name, value in everything(other).items()}
    with pytest.raises(CheckpointError, match="steps 12, this one has 20; use the same steps"):
        other.check(open_checkpoint(tmp_path))
    for name, value in everything(other).items():
        assert torch.equal(value, before[name])


def test_images_come_as_often_as_asked_for_and_at_the_end(tmp_path: Path) -> None:
    seen: list[int] = []
    trainer().run(
        tmp_path,
        checkpoint=CheckpointConfig(every=4),
        logging=LoggingConfig(sample_every=5),
        evaluate=lambda model, step: seen.append(step),
    )
    assert seen == [5, 10, 12]


def test_a_run_killed_right_behind_a_save_has_shown_that_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    write = Checkpoints.write

    def write_and_die(self: Checkpoints, step: int, *rest: Any) -> None:
        write(self, step, *rest)
        raise KeyboardInterrupt

    def watch(model: nn.Module, step: int) -> None:
        seen.append(step)

    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(Checkpoints, "write", write_and_die)
        trainer().run(tmp_path, checkpoint=CheckpointConfig(every=4), evaluate=watch)
    trainer().run(tmp_path, checkpoint=CheckpointConfig(every=4), evaluate=watch)
    assert seen == [4, 8, 12]


def test_images_that_were_due_when_a_signal_came_are_made_on_resuming(tmp_path: Path) -> None:
    seen: list[int] = []
    run = trainer()
    step = run.step

    def stepped() -> Any:
        values = step()
        if run.done == 7:
            run.stop()
        return values

    options = {"checkpoint": CheckpointConfig(every=4)}
    run.step = stepped  # type: ignore[method-assign]
    with pytest.raises(StoppedError, match="saved at step 8"):
        run.run(tmp_path, evaluate=lambda model, step: seen.append(step), **options)
    assert seen == [4]
    trainer().run(tmp_path, evaluate=lambda model, step: seen.append(step), **options)
    assert seen == [4, 8, 12]


def test_a_run_that_waits_for_its_samples_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    from deepgen.train.monitor.speed import SlowDataAlarm

    monkeypatch.setattr(SlowDataAlarm, "STEPS", 6)

    def late(step: int) -> list[Tensor]:
        time.sleep(0.02)
        return batches(step)

    with pytest.warns(UserWarning, match="of the time the run waits for samples") as seen:
        trainer(batches=late).run(tmp_path, logging=LoggingConfig(every=2))
    assert len(seen) == 1
