"""A model sharded among processes learns what a whole one does."""

import json
import resource
import shutil
import signal
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

from deepgen.config.train import CheckpointConfig, LoggingConfig, Sharding
from deepgen.errors import StoppedError
from deepgen.model import DeepGen
from deepgen.train.checkpoints import Checkpoints
from deepgen.train.objective import FlowBatch
from deepgen.train.parallel.distributed import SINGLE_PROCESS, Processes
from deepgen.train.parallel.sharding import full_tensor
from deepgen.train.sample_rng import SampleKey
from deepgen.train.stream import ByStep
from deepgen.types import Prompt
from tests.train import killing
from tests.train.parallel.together import STOPPED, Together
from tests.train.test_checkpoints import flip

STEPS = 4

WAYS: list[Sharding] = ["optimizer", "full"]


def uneven(step: int) -> list[FlowBatch]:
    """Three micro-batches: an edit and a drawing of two sizes, which are two passes of the DiT."""
    rng = torch.Generator().manual_seed(100 + step)
    return [
        *killing.batches(step),
        FlowBatch(
            latents=[torch.randn(16, 4, side, generator=rng) for side in (4, 8, 4)],
            prompts=[Prompt(text=each) for each in killing.WORDS[:3]],
            reference_latents=[[], [], []],
            keys=[SampleKey(sample=f"third {step} {place}") for place in range(3)],
            weights=torch.full((3,), 1 / 6),
        ),
    ]


def train_a_little(
    processes: Processes, folder: str, mixed: bool, ways: Sequence[Sharding]
) -> None:
    """The first updates of a run, sharded in one way after another."""
    for sharding in ways:
        run = killing.trainer(processes, STEPS, sharding, uneven, mixed=mixed)
        reports = [run.step() for _ in range(STEPS)]
        assert run.ema is not None
        weights = {name: full_tensor(value.detach()) for name, value in run.trained.items()}
        averages = {name: full_tensor(value) for name, value in run.ema.weights.items()}
        if processes.is_rank_zero:
            torch.save((reports, weights, averages), Path(folder, f"{sharding}.pt"))


def outcome(folder: Path, sharding: Sharding) -> Any:
    return torch.load(folder / f"{sharding}.pt", weights_only=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    train_a_little(SINGLE_PROCESS, str(folder), False, ["none"])
    return folder


def _sampled_sum(model: DeepGen, batch: FlowBatch) -> float:
    """Sum of the velocities that sampling asks for."""
    conditions, _ = model.conditioner.encode(batch.prompts, [], padding="none", guided=False)
    noisy = [each for each in batch.latents if isinstance(each, Tensor)]
    sizes = [(each.shape[1], each.shape[2]) for each in noisy]
    prepared = model.dit.prepare(conditions, sizes, torch.tensor([500.0]), [[] for _ in noisy])
    return sum(each.square().sum().item() for each in model.dit.velocity(noisy, 0, prepared))


def look_on_the_way(processes: Processes, folder: str, ways: Sequence[Sharding]) -> None:
    """Runs in which the first process alone computes the loss of two passes now and then."""
    for sharding in ways:
        run = killing.trainer(processes, STEPS, sharding, uneven)
        seen = []

        def watch(model: DeepGen, step: int, run: Any = run, seen: list[float] = seen) -> None:
            batch = uneven(99)[-1]
            with torch.no_grad():
                seen.append(run.objective(model, batch, torch.Generator()).total.item())
                seen.append(_sampled_sum(model, batch))

        run.run(
            Path(folder, sharding),
            checkpoint=CheckpointConfig(every=100),
            logging=LoggingConfig(sample_every=2),
            evaluate=watch,
        )
        if processes.is_rank_zero:
            Path(folder, f"{sharding}.json").write_text(json.dumps(seen))


def train_and_look(processes: Processes, folder: str, ways: Sequence[Sharding]) -> None:
    """All that is compared with one process, in one start."""
    for name in ("float32", "mixed", "looking"):
        Path(folder, name).mkdir(exist_ok=True)
    train_a_little(processes, f"{folder}/float32", False, ways)
    train_a_little(processes, f"{folder}/mixed", True, ways)
    look_on_the_way(processes, f"{folder}/looking", ways)


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("by_two")
    assert Together(train_and_look, 2, str(folder), WAYS).exit_codes() == [0, 0]
    return folder


def test_a_sharded_model_learns_what_a_whole_one_does(whole: Path, by_two: Path) -> None:
    expected_reports, *expected_tensors = outcome(whole, "none")
    for sharding in WAYS:
        reports, *tensors = outcome(by_two / "float32", sharding)
        for report, expected in zip(reports, expected_reports, strict=True):
            assert report == pytest.approx(expected, rel=1e-6)
        for mine, theirs in zip(tensors, expected_tensors, strict=True):
            assert mine.keys() == theirs.keys()
            for name, value in mine.items():
                torch.testing.assert_close(value, theirs[name], rtol=1e-5, atol=1e-5)


def test_a_sharded_model_computes_in_bfloat16_and_keeps_float32(
    tmp_path: Path, by_two: Path
) -> None:
    train_a_little(SINGLE_PROCESS, str(tmp_path), True, ["none"])
    expected, *_ = outcome(tmp_path, "none")
    for sharding in WAYS:
        reports, *groups = outcome(by_two / "mixed", sharding)
        for report, other in zip(reports, expected, strict=True):
            assert report["loss"] == pytest.approx(other["loss"], rel=0.02)
        assert {value.dtype for each in groups for value in each.values()} == {torch.float32}


def test_one_process_may_look_at_a_sharded_model(tmp_path: Path, by_two: Path) -> None:
    look_on_the_way(SINGLE_PROCESS, str(tmp_path), ["none"])
    expected = json.loads((tmp_path / "none.json").read_text())
    assert len(expected) == STEPS
    for sharding in WAYS:
        losses = json.loads((by_two / "looking" / f"{sharding}.json").read_text())
        assert losses == pytest.approx(expected, rel=1e-5)


def train_on(processes: Processes, folder: str, sharding: Sharding, until: int) -> None:
    """Train to a step and save there, noting which samples were seen."""
    run = killing.trainer(processes, STEPS, sharding, uneven)
    mine, step = run.stream, run.step

    def noted(done: int) -> Sequence[FlowBatch]:
        own = mine.batches(run.model, done)
        names = [key.sample for each in own for key in each.keys]
        with Path(folder, f"seen_{processes.rank}").open("a") as log:
            log.writelines(f"{name}\n" for name in names)
        return own

    def stop_in_time() -> dict[str, float]:
        if run.done == until - 1 and until < STEPS:
            run.stop()
        return step()

    run.stream = ByStep(noted)
    run.step = stop_in_time  # type: ignore[method-assign]
    run.run(Path(folder), checkpoint=CheckpointConfig(every=100), logging=LoggingConfig(every=1))


@pytest.fixture(scope="module")
def changing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run resumed with other processes and another sharding after every step."""
    folder = tmp_path_factory.mktemp("changing")
    ways: list[tuple[int, Sharding]] = [
        (2, "optimizer"),
        (1, "none"),
        (4, "optimizer"),
        (2, "full"),
    ]
    for until, (world_size, sharding) in enumerate(ways, start=1):
        if world_size == 1:
            with pytest.raises(StoppedError):
                train_on(SINGLE_PROCESS, str(folder), sharding, until)
            continue
        group = Together(train_on, world_size, str(folder), sharding, until)
        assert group.exit_codes() == [0 if until == STEPS else STOPPED] * world_size
    return folder


def test_a_run_may_be_sharded_otherwise_after_every_restart(whole: Path, changing: Path) -> None:
    lines = [json.loads(line) for line in (changing / "metrics.jsonl").read_text().splitlines()]
    reports, weights, averages = outcome(whole, "none")
    assert [line["loss"] for line in lines] == pytest.approx(
        [each["loss"] for each in reports], rel=1e-6
    )
    newest = Checkpoints(changing / "checkpoints").newest()
    assert newest is not None
    for name, expected in (("model", weights), ("ema", averages)):
        for key, value in newest.tensors(name).items():
            torch.testing.assert_close(value, expected[key], rtol=1e-5, atol=1e-5)
    seen = [line for each in changing.glob("seen_*") for line in each.read_text().splitlines()]
    every = [key for step in range(STEPS) for each in uneven(step) for key in each.keys]
    assert sorted(seen) == sorted(each.sample for each in every)


def test_a_flipped_bit_in_any_file_makes_the_one_before_be_used(
    changing: Path, tmp_path: Path
) -> None:
    newest = changing / "checkpoints" / f"step_{STEPS:08}"
    names = sorted(each.name for each in newest.iterdir())
    shards = [f"shard-0000{place}-model-00001-of-00001.safetensors" for place in (1, 2)]
    assert names == ["config.json", "manifest.json", *shards, "trainer.json"]
    for name in names:
        for place in (0, 0.5, 1):
            copy = tmp_path / f"{name} {place}"
            shutil.copytree(changing / "checkpoints", copy)
            flip(copy / newest.name / name, place)
            with pytest.warns(UserWarning, match=f"step_{STEPS:08} is damaged"):
                found = Checkpoints(copy).newest()
            assert found is not None
            assert found.step == STEPS - 1
            shutil.rmtree(copy)


def train_on_a_disc_that_is_full_once(processes: Processes, folder: str) -> None:
    """The second process may write nothing large at its second save."""
    write = HuggingFaceStorageWriter.write_data
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    calls: list[None] = []

    def fill(writer: HuggingFaceStorageWriter, *plans: Any) -> Any:
        calls.append(None)
        if processes.rank == 1 and len(calls) == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2**14, limit[1]))
        try:
            return write(writer, *plans)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    setattr(HuggingFaceStorageWriter, "write_data", fill)  # noqa: B010
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        killing.trainer(processes, STEPS, "optimizer", uneven).run(
            Path(folder), checkpoint=CheckpointConfig(every=1)
        )
    if processes.is_rank_zero:
        messages = [str(each.message) for each in caught]
        Path(folder, "said.json").write_text(json.dumps(messages))


def test_a_disc_that_is_full_for_one_process_costs_one_checkpoint(tmp_path: Path) -> None:
    assert Together(train_on_a_disc_that_is_full_once, 2, str(tmp_path)).exit_codes() == [0, 0]
    said = json.loads((tmp_path / "said.json").read_text())
    failures = [each for each in said if "training continues and tries again" in each]
    assert len(failures) == 1
    assert "step_00000002 cannot be written: " in failures[0]
    kept = sorted(each.name for each in (tmp_path / "checkpoints").iterdir())
    assert kept == ["step_00000001", "step_00000003", "step_00000004"]
