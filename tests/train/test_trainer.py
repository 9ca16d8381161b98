import json
import resource
import shutil
import signal
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deepgen.config.train import CheckpointConfig, LoggingConfig
from deepgen.errors import CheckpointError, TrainingError
from deepgen.train.checkpoints import Checkpoint, Checkpoints
from deepgen.train.ema import Ema
from deepgen.train.identity import FROZEN_PRECISION, PRECISION, RunIdentity
from deepgen.train.loop import LoopConfig, Monitoring
from deepgen.train.monitor.report import StepReport
from deepgen.train.objective import Loss
from deepgen.train.optim import AdamW, MatrixOptimizer, warmup_then_cosine
from deepgen.train.stream import ByStep
from deepgen.train.trainer import Trainer
from tests.train.test_checkpoints import flip

STEPS = 12
TENSORS = ("ema", "model", "optimizer")
Run = Trainer[nn.Sequential, Tensor]


def model(width: int = 8) -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, width, 3),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(width * 4, 2),
        nn.Linear(2, 2),
    )
    layers[-1].requires_grad_(False)
    # Convolutions train in this layout, in which a kernel's flat patch is a copy, not a view.
    kernel = layers.get_parameter("0.weight")
    kernel.data = kernel.data.contiguous(memory_format=torch.channels_last)
    return layers


def batches(step: int) -> list[Tensor]:
    rng = torch.Generator().manual_seed(step)
    return [torch.randn(2, 3, 4, 4, generator=rng) for _ in range(2)]


def noisy_square(layers: nn.Module, batch: Tensor, generator: torch.Generator) -> Loss:
    target = torch.randn(len(batch), 2, generator=generator)
    samples = (layers(batch) - target).square().mean(dim=1)
    total = samples.sum() / 4
    names = [f"sample {value:.3f}" for value in batch[:, 0, 0, 0].tolist()]
    return Loss(
        total=total, parts={"loss": total.detach()}, samples=samples.detach(), sample_ids=names
    )


def trainer(layers: nn.Sequential | None = None, *, muon: bool = False, **options: Any) -> Run:
    layers = layers or model()
    named = list(layers.named_parameters())
    steps = options.pop("steps", STEPS)
    return Trainer(
        layers,
        options.pop("objective", noisy_square),
        options.pop("stream", None) or ByStep(options.pop("batches", batches)),
        MatrixOptimizer(named, lr=1e-2) if muon else AdamW(named, lr=1e-2),
        LoopConfig(
            steps=steps,
            schedule=partial(warmup_then_cosine, steps=steps, warmup=3),
            max_grad_norm=options.pop("max_grad_norm", 1.0),
        ),
        ema=Ema({name: value for name, value in named if value.requires_grad}),
        monitoring=Monitoring(**options.pop("monitoring", {})),
        **options,
    )


def everything(run: Run) -> dict[str, Tensor]:
    assert run.ema is not None
    optimizer = {f"optimizer.{name}": value for name, value in run.optimizer.tensors().items()}
    return {**run.model.state_dict(), **run.ema.weights, **optimizer}


def assert_same(one: Run, other: Run) -> None:
    mine, expected = everything(one), everything(other)
    assert mine.keys() == expected.keys()
    for name, value in mine.items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.filterwarnings("ignore:.* is damaged")
def test_a_flipped_bit_in_any_file_of_a_checkpoint_makes_the_one_before_be_used(
    tmp_path: Path,
) -> None:
    run = trainer(identity=RunIdentity(settings={"side": 64}))
    run.run(tmp_path / "whole", checkpoint=CheckpointConfig(every=6))
    whole = tmp_path / "whole" / "checkpoints"
    names = sorted(each.name for each in (whole / "step_00000012").iterdir())
    plain = ["config.json", "manifest.json", "trainer.json"]
    assert names == sorted([*plain, *(f"{each}.safetensors" for each in TENSORS)])
    for name in names:
        for place in (0, 0.3, 0.6, 1):
            damaged = tmp_path / f"{name} {place}"
            shutil.copytree(whole, damaged)
            flip(damaged / "step_00000012" / name, place)
            found = Checkpoints(damaged).newest()
            assert found is not None and found.step == 6, damaged.name
    # And from there the run ends as it would have.
    shutil.copytree(damaged, tmp_path / "again" / "checkpoints")
    again = trainer(identity=RunIdentity(settings={"side": 64}))
    again.run(tmp_path / "again")
    assert_same(again, run)


@pytest.mark.parametrize("muon", [False, True])
@pytest.mark.parametrize("cut", [1, 5, 11])
def test_a_run_that_was_cut_ends_as_the_unbroken_one(tmp_path: Path, cut: int, muon: bool) -> None:
    unbroken = trainer(muon=muon)
    unbroken.run(tmp_path / "unbroken", logging=LoggingConfig(every=2))
    first = trainer(muon=muon)
    for _ in range(cut):
        first.step()
    first.save(Checkpoints(tmp_path / "cut" / "checkpoints"))
    torch.rand(3)
    second = trainer(muon=muon)
    second.run(tmp_path / "cut")
    assert second.done == STEPS
    assert_same(second, unbroken)


@pytest.mark.filterwarnings("ignore:.*is damaged")
def test_a_run_without_a_whole_checkpoint_never_loses_its_log(tmp_path: Path) -> None:
    trainer(steps=2).run(tmp_path, logging=LoggingConfig(every=1))
    flip(next(tmp_path.glob("checkpoints/*/model.safetensors")), 0.5)
    log = (tmp_path / "metrics.jsonl").read_bytes()
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"no checkpoint in .* is intact"):
            trainer(steps=2).run(tmp_path, logging=LoggingConfig(every=1))
        assert (tmp_path / "metrics.jsonl").read_bytes() == log


def test_only_what_is_trained_is_stored(tmp_path: Path) -> None:
    path = trainer().save(Checkpoints(tmp_path))
    stored = Checkpoints(tmp_path).newest()
    assert path is not None
    assert stored is not None
    assert stored.tensors("model").keys() == {"0.weight", "0.bias", "3.weight", "3.bias"}
    assert {each.suffix for each in path.iterdir()} == {".json", ".safetensors"}


def test_an_update_is_that_of_one_batch_of_all_its_samples() -> None:
    def whole(step: int) -> list[Tensor]:
        return [torch.cat(batches(step))]

    def square(layers: nn.Module, batch: Tensor, generator: torch.Generator) -> Loss:
        total = layers.eval()(batch).square().mean(dim=1).sum() / 4
        return Loss(total=total, parts={"loss": total.detach()})

    one, two = trainer(objective=square), trainer(objective=square, batches=whole)
    for _ in range(3):
        mine, expected = one.step(), two.step()
        assert mine["loss"] == pytest.approx(expected["loss"], rel=1e-5)
        assert mine["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-5)


def test_gradients_are_clipped_to_the_norm() -> None:
    seen = []
    run = trainer(max_grad_norm=1e-3)
    step = run.optimizer.step

    def record(lr: float) -> None:
        gradients = [value.grad for value in run.trained.values()]
        seen.append(torch.stack([each.norm() for each in gradients if each is not None]).norm())
        step(lr)

    run.optimizer.step = record  # type: ignore[method-assign]
    assert run.step()["grad_norm"] > 1e-2
    assert seen[0].item() == pytest.approx(1e-3, rel=1e-3)


def test_training_lowers_the_loss() -> None:
    def square(module: nn.Module, batch: Tensor, generator: torch.Generator) -> Loss:
        total = (module.eval()(batch) - 1).square().mean() / 2
        return Loss(total=total, parts={"loss": total.detach()})

    run = trainer(objective=square, batches=lambda step: batches(0), steps=150)
    losses = [run.step()["loss"] for _ in range(150)]
    assert losses[-1] < 0.1 * losses[0]


def poisoned(steps: Sequence[int]) -> Any:
    """Batches whose second micro-batch has a bad sample at these steps."""

    def make(step: int) -> list[Tensor]:
        first, second = batches(step)
        if step in steps:
            second[1, 0, 0, 0] = torch.nan
        return [first, second]

    return make


def test_an_update_without_a_finite_loss_changes_nothing_and_is_counted() -> None:
    run = trainer(batches=poisoned([1]))
    run.step()
    before = {name: value.clone() for name, value in everything(run).items()}
    with pytest.warns(UserWarning, match="step 2 was skipped, as it had no finite .* 'sample nan'"):
        report = run.step()
    assert report == {"skipped": 1}
    assert run.skipped == 1
    for name, value in everything(run).items():
        assert torch.equal(value, before[name])
    assert run.step()["skipped"] == 0
    assert run.done == 3


@pytest.mark.filterwarnings("ignore:step")
def test_three_such_updates_in_a_row_end_the_run_and_name_the_samples(tmp_path: Path) -> None:
    run = trainer(batches=poisoned([2, 5, 6, 7]))
    with pytest.raises(
        TrainingError, match=r"up to 8 .* samples: sample nan, sample nan, sample nan"
    ):
        run.run(tmp_path, checkpoint=CheckpointConfig(every=1))
    assert run.skipped == 4
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "skipped_samples" in line] == [3, 6, 7]
    # Resumed, it still knows of the two before the last checkpoint.
    again = trainer(batches=poisoned([7]))
    with pytest.raises(TrainingError, match="up to 8"):
        again.run(tmp_path)


def test_a_gradient_that_is_not_finite_counts_too() -> None:
    def steep(layers: nn.Module, batch: Tensor, generator: torch.Generator) -> Loss:
        values = layers(batch).flatten()
        total = (values * 0).sqrt().sum()
        return Loss(total=total, parts={}, samples=torch.zeros(2), sample_ids=["a", "b"])

    with pytest.warns(UserWarning, match="samples: 'a', 'a', 'b', 'b'"):
        assert trainer(objective=steep).step() == {"skipped": 1}


def test_a_checkpoint_of_another_model_is_refused_in_one_line(tmp_path: Path) -> None:
    trainer().run(tmp_path, checkpoint=CheckpointConfig(every=STEPS))
    other = trainer(model(width=9))
    with pytest.raises(CheckpointError, match=r"another model .* differs in '0.bias'") as caught:
        other.run(tmp_path)
    assert "\n" not in str(caught.value)
    frozen = model()
    frozen.get_parameter("4.weight").data += 1
    with pytest.raises(CheckpointError, match="other frozen weights"):
        trainer(frozen).run(tmp_path)


def test_a_model_that_loaded_a_part_on_the_way_is_the_same_model(tmp_path: Path) -> None:
    run = trainer()
    run.step()
    run.model.append(nn.Identity())
    run.model[-1].register_buffer("late", torch.ones(3))
    run.save(Checkpoints(tmp_path / "checkpoints"))
    trainer().run(tmp_path)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"steps": 20}, "steps 12, this one has 20"),
        ({"identity": RunIdentity(compared={"data": "cats"})}, "data None, this one has cats"),
        ({"muon": True}, "optimizer AdamW, this one has MatrixOptimizer"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(
    tmp_path: Path, options: dict[str, Any], expected: str
) -> None:
    trainer().run(tmp_path, checkpoint=CheckpointConfig(every=STEPS))
    other = trainer(**options)
    before = {name: value.clone() for name, value in everything(other).items()}
    with pytest.raises(CheckpointError, match=expected):
        other.run(tmp_path)
    for name, value in everything(other).items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize(
    ("began", "goes_on", "expected"),
    [
        # On a CPU, then on a GPU; both ways by themselves, and then as asked.
        (("float32", "float32"), ("bfloat16", "bfloat16"), "use --precision float32$"),
        (("bfloat16", "bfloat16"), ("float32", "float32"), "in bfloat16, which are in float32 on"),
        (("bfloat16", "float32"), ("bfloat16", "bfloat16"), "in float32, which are in bfloat16 on"),
        # On the same device.
        (("bfloat16", "float32"), ("float32", "float32"), "use --precision bfloat16$"),
    ],
)
def test_another_precision_is_told_from_other_weights(
    tmp_path: Path, began: tuple[str, str], goes_on: tuple[str, str], expected: str
) -> None:
    def run(found: tuple[str, str]) -> None:
        layers = model()
        layers[-1] = nn.Identity()
        layers[-1].register_buffer("frozen", torch.ones(3, dtype=getattr(torch, found[1])))
        compared = dict(zip((PRECISION, FROZEN_PRECISION), found, strict=True))
        trainer(layers, identity=RunIdentity(compared=compared), steps=2).run(tmp_path)

    run(began)
    with pytest.raises(CheckpointError, match=expected):
        run(goes_on)


def altered(monkeypatch: pytest.MonkeyPatch, alter: Callable[[dict[str, Any]], None]) -> None:
    """Have checkpoints say something else than they do."""
    read = Checkpoint.values

    def values(self: Checkpoint, name: str) -> dict[str, Any]:
        found = read(self, name)
        alter(found)
        return found

    monkeypatch.setattr(Checkpoint, "values", values)


def test_a_run_that_resumes_with_other_libraries_or_devices_says_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere(values: dict[str, Any]) -> None:
        if "identity" in values:
            values["identity"]["environment"] |= {"torch": "2.9.1", "device": "NVIDIA H200"}

    trainer().run(tmp_path, checkpoint=CheckpointConfig(every=STEPS))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer().run(tmp_path)
    altered(monkeypatch, elsewhere)
    with pytest.warns(UserWarning) as seen:
        trainer().run(tmp_path)
    [line] = [str(each.message) for each in seen]
    now = trainer().identity.environment
    assert line.endswith(
        f"is resumed with torch {now['torch']} (was 2.9.1), device {now['device']} (was NVIDIA "
        "H200): equal in distribution, not bit for bit"
    )
    assert {"numpy", "transformers", "world size"} < now.keys()


@pytest.mark.parametrize("missing", ["gradient_norms", "totals", "compared"])
def test_a_checkpoint_of_an_older_trainer_is_refused_in_one_line(
    tmp_path: Path, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def as_before(self: Checkpoint, name: str) -> dict[str, Any]:
        known: dict[str, Any] = json.loads((self.path / f"{name}.json").read_text())
        for values in (known, known.get("log", {}), known.get("identity", {})):
            values.pop(missing, None)
        return known

    trainer().run(tmp_path, checkpoint=CheckpointConfig(every=STEPS))
    monkeypatch.setattr(Checkpoint, "values", as_before)
    other = trainer()
    before = {name: value.clone() for name, value in everything(other).items()}
    with pytest.raises(CheckpointError, match=f"{missing}'; finish its run with") as caught:
        other.run(tmp_path)
    assert "\n" not in str(caught.value)
    for name, value in everything(other).items():
        assert torch.equal(value, before[name])


def test_the_last_updates_of_a_run_are_logged_however_few(tmp_path: Path) -> None:
    trainer().run(tmp_path, logging=LoggingConfig(every=5))
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [5, 10, STEPS]


def test_metrics_of_a_cut_run_are_those_of_the_unbroken_one(tmp_path: Path) -> None:
    trainer().run(tmp_path / "unbroken", logging=LoggingConfig(every=4))
    cut = trainer(batches=lambda step: batches(step) if step < 10 else exit())
    with pytest.raises(SystemExit):
        cut.run(
            tmp_path / "cut", checkpoint=CheckpointConfig(every=3), logging=LoggingConfig(every=4)
        )
    log = tmp_path / "cut" / "metrics.jsonl"
    log.write_text(log.read_text() + '{"step": 10, "lo')
    trainer().run(
        tmp_path / "cut", checkpoint=CheckpointConfig(every=3), logging=LoggingConfig(every=4)
    )
    mine, expected = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("cut", "unbroken")
    )
    for line in mine + expected:
        assert line.pop("speed")["steps_per_second"] > 0
    assert [line["step"] for line in mine] == [4, 8, 12]
    assert mine == expected


def test_the_average_is_shown_and_the_weights_come_back(tmp_path: Path) -> None:
    run = trainer()
    seen = []

    def watch(shown: nn.Module, step: int) -> None:
        assert run.ema is not None
        seen.append((step, shown.training))
        assert torch.equal(shown.get_parameter("3.weight"), run.ema.weights["3.weight"])

    run.run(tmp_path, checkpoint=CheckpointConfig(every=6), evaluate=watch)
    assert seen == [(6, False), (12, False)]
    assert run.ema is not None
    assert not torch.equal(run.model.get_parameter("3.weight"), run.ema.weights["3.weight"])
    assert run.model.training


def test_a_checkpoint_is_written_when_the_time_has_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trainer()
    # A minute an update.
    clock = SimpleNamespace(monotonic=lambda: 60.0 * run.done)
    monkeypatch.setattr("deepgen.train.saving.time", clock)
    run.run(tmp_path, checkpoint=CheckpointConfig(every=5, minutes=2.5, keep=99))
    steps = sorted(int(each.name[-2:]) for each in (tmp_path / "checkpoints").iterdir())
    assert steps == [4, 5, 9, 10, 12]
    # The clocks of several processes differ, and all of them save together.
    said = [StepReport(is_save_due=late) for late in (False, True)]
    assert StepReport.merged(said).is_save_due


def test_checkpoints_that_stay_are_written_at_their_own_updates(tmp_path: Path) -> None:
    trainer().run(tmp_path, checkpoint=CheckpointConfig(every=5, keep=1, keep_every=4))
    steps = sorted(int(each.name[-2:]) for each in (tmp_path / "checkpoints").iterdir())
    assert steps == [4, 8, 12]


def test_a_full_disc_costs_one_checkpoint_and_no_other(tmp_path: Path) -> None:
    big = trainer(model(width=2048))
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    calls = []

    def fill(step: int) -> list[Tensor]:
        # From step 5 on no file may be as large as the weights are.
        size = 2**16 if 5 <= step < 9 else limit[0]
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limit[1]))
        calls.append(step)
        return batches(step)

    big.stream = ByStep(fill)
    try:
        with pytest.warns(
            UserWarning, match="step_00000008 cannot be written: .*large.*tries again"
        ):
            big.run(tmp_path, checkpoint=CheckpointConfig(every=4))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    assert calls == list(range(STEPS))
    kept = sorted(each.name for each in (tmp_path / "checkpoints").iterdir())
    assert kept == ["step_00000004", "step_00000012"]
    newest = Checkpoints(tmp_path / "checkpoints").newest()
    assert newest is not None
    assert newest.step == STEPS


def test_a_run_that_can_never_save_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 100}))
    with (
        pytest.warns(UserWarning, match="training continues"),
        pytest.raises(TrainingError, match="100 are free; the run ends at step 6"),
    ):
        trainer().run(tmp_path, checkpoint=CheckpointConfig(every=2))
