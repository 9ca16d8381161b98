import json
import signal
import time
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.distributed_c10d import _set_pg_timeout

from deepgen.config.train import CheckpointConfig, LoggingConfig
from deepgen.errors import CheckpointError, DataError, TrainingError
from deepgen.train.checkpoints import Checkpoints
from deepgen.train.ema import Ema
from deepgen.train.loop import LoopConfig, Monitoring
from deepgen.train.objective import Loss
from deepgen.train.optim import AdamW, warmup_then_cosine
from deepgen.train.parallel.distributed import Processes, checksum
from deepgen.train.parallel.sharding import Parallelism
from deepgen.train.stream import ByStep
from deepgen.train.trainer import Trainer
from tests.train.parallel.together import STOPPED, TIMEOUT_SECONDS, Together

MICROBATCHES = 3
"""Neither two nor four processes share them evenly, and of four one has none."""


def microbatches(step: int) -> list[Tensor]:
    rng = torch.Generator().manual_seed(step)
    return [torch.randn(2, 6, generator=rng) for _ in range(MICROBATCHES)]


def noisy_square(model: nn.Module, batch: Tensor, generator: torch.Generator) -> Loss:
    target = torch.randn(len(batch), 2, generator=generator)
    samples = (model(batch) - target).square().mean(dim=1)
    total = samples.sum() / (2 * MICROBATCHES)
    names = [f"sample {value:.3f}" for value in batch[:, 0].tolist()]
    return Loss(
        total=total,
        parts={"loss": total.detach()},
        samples=samples.detach(),
        sample_ids=names,
        groups=[("positive" if value > 0 else "negative", "all") for value in batch[:, 1].tolist()],
    )


def trainer(
    processes: Processes,
    *,
    steps: int = 9,
    poison: tuple[int, ...] = (),
    seen: Any = None,
    replacement_source: Any = None,
) -> Trainer[nn.Module, Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.Dropout(0.2), nn.GELU(), nn.Linear(16, 2))
    # Trained, but used by no sample: its weights must not even decay.
    model.register_parameter("unused", nn.Parameter(torch.ones(3, 3)))

    def own(step: int) -> list[Tensor]:
        every = microbatches(step)
        if step in poison:
            every[1][0, 0] = torch.nan
        mine = every[processes.rank :: processes.world_size]
        if seen is not None:
            seen(step, mine)
        return mine

    return Trainer(
        model,
        noisy_square,
        ByStep(own),
        AdamW(model.named_parameters(), lr=1e-2),
        LoopConfig(steps=steps, schedule=partial(warmup_then_cosine, steps=steps, warmup=2)),
        ema=Ema(dict(model.named_parameters())),
        parallel=Parallelism(processes=processes),
        monitoring=Monitoring(replacement_source=replacement_source),
    )


def train_until(processes: Processes, folder: str, until: int) -> None:
    """Train to a step and save there, noting which samples were seen."""

    def note(step: int, mine: list[Tensor]) -> None:
        lines = [json.dumps([step, each[:, 0].tolist()]) + "\n" for each in mine]
        with Path(folder, f"seen_{processes.rank}.jsonl").open("a") as log:
            log.writelines(lines)

    run = trainer(processes, seen=note)
    if until < run.loop.steps:
        step = run.step

        def stop_in_time() -> dict[str, float]:
            if run.done == until - 1:
                run.stop()
            return step()

        run.step = stop_in_time  # type: ignore[method-assign]
    run.run(Path(folder), checkpoint=CheckpointConfig(every=100), logging=LoggingConfig(every=1))


def evaluate_slowly(processes: Processes, folder: str) -> None:
    """A run whose first process evaluates for longer than the others wait for messages."""
    for group in (None, processes.object_group):
        _set_pg_timeout(timedelta(seconds=2), group)
    trainer(processes, steps=1).run(
        Path(folder),
        checkpoint=CheckpointConfig(every=100),
        logging=LoggingConfig(sample_every=1),
        evaluate=lambda model, step: time.sleep(3),
    )


def test_an_evaluation_may_take_longer_than_processes_wait_for_messages(tmp_path: Path) -> None:
    assert Together(evaluate_slowly, 2, str(tmp_path)).exit_codes() == [0, 0]
    assert not list(tmp_path.glob("error_*"))


def losses(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        del line["speed"]
    return lines


def seen(folder: Path) -> list[Any]:
    lines = [line for each in folder.glob("seen_*") for line in each.read_text().splitlines()]
    return sorted(json.loads(line) for line in lines)


def test_two_then_one_then_four_processes_make_one_run(tmp_path: Path) -> None:
    alone, changing = tmp_path / "alone", tmp_path / "changing"
    for folder in (alone, changing):
        folder.mkdir()
    train_until(Processes(), str(alone), 9)
    for world_size, until, code in ((2, 3, STOPPED), (1, 6, STOPPED), (4, 9, 0)):
        group = Together(train_until, world_size, str(changing), until)
        assert group.exit_codes() == [code] * world_size
    assert seen(changing) == seen(alone)
    assert len(seen(alone)) == 9 * MICROBATCHES
    mine, expected = losses(changing), losses(alone)
    assert [line["step"] for line in mine] == list(range(1, 10))
    for one, other in zip(mine, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-6)
        # Of the samples of all processes, every one counted once.
        assert one["loss/all"] == pytest.approx(one["loss"], rel=1e-6)
    weights = [Checkpoints(each / "checkpoints").newest() for each in (changing, alone)]
    for group_name in ("model", "ema"):
        first, second = (each.tensors(group_name) for each in weights if each is not None)
        for name, value in first.items():
            torch.testing.assert_close(value, second[name], rtol=1e-5, atol=1e-6)
        assert torch.equal(first["unused"], torch.ones(3, 3))


def train_poisoned(processes: Processes, folder: str) -> None:
    trainer(processes, poison=(1, 4, 5, 6)).run(
        Path(folder), checkpoint=CheckpointConfig(every=3), logging=LoggingConfig(every=1)
    )


def test_a_bad_loss_on_one_process_is_left_out_by_all_and_named(tmp_path: Path) -> None:
    assert Together(train_poisoned, 2, str(tmp_path)).exit_codes() == [1, 1]
    for rank in range(2):
        error = (tmp_path / f"error_{rank}.txt").read_text()
        assert error.startswith("TrainingError: 3 steps in a row up to 7")
        assert "samples: sample nan, sample nan, sample nan." in error
    lines = losses_and_skips(tmp_path)
    assert [line["step"] for line in lines if "skipped_samples" in line] == [2, 5, 6]
    assert [line["step"] for line in lines if line.get("skipped") == 1] == [2, 5, 6]
    # The loss of an update that counts is that of both processes.
    alone = trainer(Processes())
    assert lines[0]["loss"] == pytest.approx(alone.step()["loss"], rel=1e-6)


class GoingBad:
    """Batches of which those of the last process have a sample replaced at every update."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.step = 0
        self.counted: list[dict[str, Any]] = []

    def __call__(self, step: int) -> list[Tensor]:
        self.step = step
        if len(self.counted) > 2:
            raise DataError(f"{len(self.counted)} samples cannot be read")
        return microbatches(step)[self.processes.rank :: self.processes.world_size]

    def take_replacements(self) -> list[dict[str, Any]]:
        is_bad = self.processes.rank == self.processes.world_size - 1
        return [{"step": self.step, "message": "it is not an image"}] if is_bad else []

    def count_replacements(self, entries: Sequence[dict[str, Any]]) -> None:
        self.counted += entries

    def replay(self, entries: Sequence[dict[str, Any]]) -> None:
        self.counted = list(entries)


def train_on_what_goes_bad(processes: Processes, folder: str) -> None:
    going_bad = GoingBad(processes)
    run = trainer(processes, replacement_source=going_bad)
    run.stream = ByStep(going_bad)
    run.run(Path(folder))


def test_what_one_process_cannot_read_ends_all_at_the_same_update(tmp_path: Path) -> None:
    assert Together(train_on_what_goes_bad, 2, str(tmp_path)).exit_codes() == [1, 1]
    for rank in range(2):
        error = (tmp_path / f"error_{rank}.txt").read_text()
        assert error == "DataError: 3 samples cannot be read"


def losses_and_skips(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def train_slowly(processes: Processes, folder: str) -> None:
    def wait(step: int, mine: list[Tensor]) -> None:
        time.sleep(0.02)

    trainer(processes, steps=5000, seen=wait).run(
        Path(folder), checkpoint=CheckpointConfig(every=10_000), logging=LoggingConfig(every=1)
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_one_process_saves_once_and_stops_all(
    tmp_path: Path, number: signal.Signals
) -> None:
    group = Together(train_slowly, 2, str(tmp_path))
    deadline = time.perf_counter() + TIMEOUT_SECONDS
    while not (tmp_path / "metrics.jsonl").exists():
        assert time.perf_counter() < deadline, group.exit_codes()
        time.sleep(0.01)
    group.send(number, rank=1)
    assert group.exit_codes() == [STOPPED, STOPPED]
    newest = Checkpoints(tmp_path / "checkpoints").newest()
    assert newest is not None
    assert newest.step == losses(tmp_path)[-1]["step"] < 5000


def train_apart(processes: Processes, folder: str) -> None:
    run = trainer(processes)
    if processes.rank == 1:
        run.trained["3.bias"].data[0] = torch.nextafter(
            run.trained["3.bias"].data[0], torch.tensor(9.0)
        )
    run.run(Path(folder))


def test_processes_whose_weights_differ_in_a_bit_save_nothing(tmp_path: Path) -> None:
    assert Together(train_apart, 2, str(tmp_path)).exit_codes() == [1, 1]
    for rank in range(2):
        error = (tmp_path / f"error_{rank}.txt").read_text()
        assert error.startswith("TrainingError: at step 0 the weights of ranks [1] differ")
    assert not list((tmp_path / "checkpoints").glob("step_*"))


def train_on_a_full_disc(processes: Processes, folder: str) -> None:
    Path(folder, "checkpoints").write_text("a file where a folder should be")
    trainer(processes).run(Path(folder), checkpoint=CheckpointConfig(every=2))


def test_what_only_the_first_process_finds_out_ends_all(tmp_path: Path) -> None:
    assert Together(train_on_a_full_disc, 2, str(tmp_path)).exit_codes() == [1, 1]
    for rank in range(2):
        assert "cannot be written" in (tmp_path / f"error_{rank}.txt").read_text()


def read_by_first(processes: Processes, folder: str) -> None:
    def read() -> str:
        # Only the first one's file counts; another may see none.
        assert processes.is_rank_zero
        raise ValueError("config.yaml is not valid YAML")

    processes.on_rank_zero(read)


def test_settings_that_the_first_process_cannot_read_end_all(tmp_path: Path) -> None:
    assert Together(read_by_first, 2, str(tmp_path)).exit_codes() == [1, 1]
    for rank in range(2):
        said = (tmp_path / f"error_{rank}.txt").read_text()
        assert said == "ValueError: config.yaml is not valid YAML"


def test_alone_nothing_is_sent_and_errors_come_as_they_are() -> None:
    alone = Processes()
    assert alone.gather("fact") == ["fact"]
    assert alone.on_rank_zero(lambda: 3) == 3

    def fail() -> None:
        raise CheckpointError("no")

    with pytest.raises(CheckpointError, match="no"):
        alone.on_rank_zero(fail)


def test_a_checksum_sees_one_bit_and_the_place_of_a_tensor() -> None:
    one, other = torch.randn(3, 4), torch.randn(3, 4)
    changed = one.clone()
    changed[1, 2] = torch.nextafter(changed[1, 2], torch.tensor(9.0))
    assert checksum([one, other]) == checksum([one.clone(), other.clone()])
    assert len({checksum(each) for each in ([one, other], [changed, other], [other, one])}) == 3


def test_a_run_that_is_asked_to_stop_says_that_it_can_go_on(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="saved at step 3 of 9; run the same command to resume"):
        train_until(Processes(), str(tmp_path), 3)
