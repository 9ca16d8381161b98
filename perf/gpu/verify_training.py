"""Rows of ``verify`` about training: the CPU, mixed precision, packing, FSDP2, checkpoints."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from deepgen.config.stage import Stage
from deepgen.config.train import LoraConfig, Sharding
from deepgen.flow.schedule import training_sigmas
from deepgen.model import DeepGen
from deepgen.train.checkpoints import Checkpoints
from deepgen.train.ema import Ema
from deepgen.train.loop import LoopConfig
from deepgen.train.objective import FlowBatch, FlowObjective
from deepgen.train.optim import AdamW
from deepgen.train.parallel.distributed import Processes
from deepgen.train.parallel.sharding import Parallelism, full_tensor, shard
from deepgen.train.sample_rng import SampleKey, SampleRng
from deepgen.train.stream import ByStep
from deepgen.train.trainable import make_trainable
from deepgen.train.trainer import Trainer
from deepgen.types import Prompt
from deepgen.vae import Posterior
from gpu.models import TOY, new_model
from gpu.plan import Context, Row, Task
from gpu.result import bounded, exact_float32, largest_error, relative_error
from gpu.verify_inference import compile_options
from gpu.waits import counted_waits

LOSS, GRADIENT = 1e-4, 1e-3
"""Float32 by other kernels: of the loss, and of all gradients in the Euclidean norm."""

MIXED_LOSS, MIXED_GRADIENT = 5e-3, 0.05
"""Products in bfloat16 against float32."""

AFTER_STEPS = 1e-2
"""Error of the loss after some updates, which magnify rounding."""

STAGES: tuple[Stage, ...] = ("pretrain", "sft")

TEXTS = ("a red cube", "two cats", "rain", "an old map of the coast")


def batches(step: int) -> list[FlowBatch]:
    """Micro-batches of a step: text-to-image with prompts of different lengths, and an edit."""
    generator = torch.Generator().manual_seed(step)

    def posterior() -> Posterior:
        mean = torch.randn(16, 8, 8, generator=generator)
        return Posterior(mean, torch.full_like(mean, 0.1))

    pixels = torch.rand(3, 64, 64, generator=generator) * 2 - 1
    keys = [SampleKey(sample=f"t2i {step} {place}") for place in range(3)]
    return [
        FlowBatch(
            latents=[posterior() for _ in keys],
            prompts=[Prompt(text=TEXTS[(step + place) % 4]) for place in range(3)],
            reference_latents=[[], [], []],
            keys=keys,
            weights=torch.full((3,), 0.25),
        ),
        FlowBatch(
            latents=[posterior()],
            prompts=[Prompt(text="make it blue", references=(pixels,))],
            reference_latents=[[posterior()]],
            keys=[SampleKey(sample=f"edit {step}")],
            weights=torch.full((1,), 0.25),
        ),
    ]


def _model(context: Context, stage: Stage) -> DeepGen:
    """A toy with equal weights on every device, ready for a stage.

    Dropout is off: its masks are drawn on the device.
    """
    model = new_model(TOY, torch.device("cpu"), torch.float32)
    make_trainable(model, stage, lora=LoraConfig(rank=2, dropout=0.0), seed=1)
    return model.to(context.device)


def _objective(model: DeepGen, autocast: torch.dtype | None = None) -> FlowObjective:
    return FlowObjective(
        training_sigmas(model.schedule), SampleRng(0, "verify"), padding="pair", autocast=autocast
    )


def _trainer(
    model: DeepGen, *, autocast: torch.dtype | None = None, parallel: Parallelism | None = None
) -> Trainer[DeepGen, FlowBatch]:
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    return Trainer(
        model,
        _objective(model, autocast),
        ByStep(batches),
        AdamW(trained.items(), lr=1e-3),
        LoopConfig(steps=100, schedule=lambda step: 1.0),
        ema=Ema(trained),
        parallel=parallel,
    )


def _gradients(
    model: DeepGen, autocast: torch.dtype | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients of the first step's micro-batches."""
    objective, total = _objective(model, autocast), torch.zeros((), device=model.device)
    for batch in batches(0):
        loss = objective(model, batch, torch.Generator()).total
        loss.backward()
        total = total + loss.detach()
    gradients = {
        name: value.grad.clone()
        for name, value in model.named_parameters()
        if value.grad is not None
    }
    model.zero_grad()
    return total, gradients


def _whole(tensors: dict[str, Tensor]) -> Tensor:
    """All of them as one vector."""
    return torch.cat([tensors[name].flatten().cpu() for name in sorted(tensors)])


def _stage_and_cpu(context: Context) -> Row:
    """Loss, gradients and three steps of both stages in float32, against the CPU."""
    cpu = replace(context, device=torch.device("cpu"))
    found: dict[str, float] = {}
    bounds: dict[str, float] = {}
    with exact_float32():
        for stage in STAGES:
            true_loss, true = _gradients(_model(cpu, stage))
            loss, mine = _gradients(_model(context, stage))
            there, here = (_trainer(_model(each, stage)) for each in (cpu, context))
            for _ in range(3):
                expected, after = there.step(), here.step()
            found |= {
                f"{stage}_loss": largest_error(loss[None], true_loss[None]),
                f"{stage}_gradient": relative_error(_whole(mine), _whole(true)),
                f"{stage}_loss_after_steps": abs(after["loss"] / expected["loss"] - 1),
            }
            bounds |= {
                f"{stage}_loss": LOSS,
                f"{stage}_gradient": GRADIENT,
                f"{stage}_loss_after_steps": AFTER_STEPS,
            }
    return bounded(found, bounds)


def _ways(context: Context, autocast: torch.dtype | None) -> dict[str, tuple[Tensor, Tensor]]:
    """Loss and gradients of stage 2 by each way to compute rows of different lengths."""
    result = {}
    for name, packing, by_row in (
        ("masked", False, False),
        ("packed", True, False),
        ("packed_and_by_row", True, True),
    ):
        model = _model(context, "sft")
        model.pack(packing, attention_by_row=by_row)
        loss, gradients = _gradients(model, autocast)
        result[name] = loss, _whole(gradients)
    return result


def _mixed_precision(context: Context) -> Row:
    """Masks, packing and attention by row, in float32 and under autocast in bfloat16."""
    with exact_float32():
        exact, mixed = _ways(context, None), _ways(context, torch.bfloat16)
    loss, gradient = exact["masked"]
    found: dict[str, float] = {}
    bounds: dict[str, float] = {}
    for name in exact:
        if name != "masked":
            found[f"{name}_loss"] = largest_error(exact[name][0][None], loss[None])
            found[f"{name}_gradient"] = relative_error(exact[name][1], gradient)
            bounds |= {f"{name}_loss": LOSS, f"{name}_gradient": GRADIENT}
        found[f"{name}_bfloat16_loss"] = largest_error(mixed[name][0][None], loss[None])
        found[f"{name}_bfloat16_gradient"] = relative_error(mixed[name][1], gradient)
        bounds |= {
            f"{name}_bfloat16_loss": MIXED_LOSS,
            f"{name}_bfloat16_gradient": MIXED_GRADIENT,
        }
    return bounded(found, bounds)


def _same(context: Context, change: Callable[[DeepGen], object]) -> dict[str, float]:
    """Errors of loss and gradients of stage 2 after a change that should have no influence."""
    with exact_float32():
        loss, gradients = _gradients(_model(context, "sft"))
        model = _model(context, "sft")
        change(model)
        changed_loss, changed = _gradients(model)
    return {
        "loss": largest_error(changed_loss[None], loss[None]),
        "gradient": relative_error(_whole(changed), _whole(gradients)),
    }


def _compiled(context: Context) -> Row:
    """Compiled blocks have the same loss and gradients."""
    options = compile_options(context)
    found = _same(context, lambda model: model.dit.compile_each_block(**options))
    return bounded(found, {"loss": LOSS, "gradient": GRADIENT})


def _recomputed(context: Context) -> Row:
    """Activation checkpointing has the same loss and gradients."""
    found = _same(context, lambda model: model.checkpoint_activations())
    return bounded(found, {"loss": LOSS, "gradient": GRADIENT})


def _fsdp(context: Context) -> Row:
    """Three steps by FSDP2 over one process, in both ways to shard, against none."""
    with exact_float32(), _process_group(context):
        plain = _trainer(_model(context, "sft"))
        losses = [plain.step()["loss"] for _ in range(3)]
        expected = _whole({name: value.detach() for name, value in plain.trained.items()})
        found: dict[str, float] = {}
        shardings: tuple[Sharding, ...] = ("optimizer", "full")
        for sharding in shardings:
            processes, model = Processes(), _model(context, "sft")
            shards = shard(model, sharding, processes, mixed=False)
            sharded = _trainer(model, parallel=Parallelism(processes=processes, shards=shards))
            own = [sharded.step()["loss"] for _ in range(3)]
            mine = _whole(
                {name: full_tensor(value.detach()) for name, value in sharded.trained.items()}
            )
            found[f"{sharding}_loss"] = max(
                abs(a / b - 1) for a, b in zip(own, losses, strict=True)
            )
            found[f"{sharding}_weights"] = relative_error(mine, expected)
    bounds = {name: AFTER_STEPS if name.endswith("loss") else GRADIENT for name in found}
    return bounded(found, bounds, backend=_backend(context))


def _backend(context: Context) -> str:
    return "nccl" if context.device.type == "cuda" else "gloo"


@contextmanager
def _process_group(context: Context) -> Iterator[None]:
    """A group of this process alone."""
    meeting = context.folder / "meeting"
    meeting.unlink(missing_ok=True)
    dist.init_process_group(
        _backend(context), init_method=f"file://{meeting.resolve()}", rank=0, world_size=1
    )
    try:
        yield
    finally:
        dist.destroy_process_group()
        meeting.unlink(missing_ok=True)


def _resume(context: Context) -> Row:
    """A run saved after two steps and loaded into a new one has the bits of one that was not.

    Under torch's deterministic algorithms, with attention as matrix products, since fused kernels
    add up gradients in any order; in the precision of training here.
    """
    autocast = torch.bfloat16 if context.device.type == "cuda" else None
    folder = context.folder / "checkpoints"
    shutil.rmtree(folder, ignore_errors=True)
    with _deterministic():
        first = _trainer(_model(context, "sft"), autocast=autocast)
        for _ in range(2):
            first.step()
        first.save(Checkpoints(folder))
        saved = _state(first)
        second = _trainer(_model(context, "sft"), autocast=autocast)
        newest = Checkpoints(folder).newest()
        if newest is None:
            raise ValueError(f"no checkpoint in {folder} after one was written")
        second.load(newest)
        loaded = _state(second)
        for each in (first, second):
            each.step()
            each.step()
    shutil.rmtree(folder)
    return bounded(
        {
            "tensors_with_other_bits_after_loading": _differing(saved, loaded),
            "tensors_with_other_bits_two_steps_later": _differing(_state(first), _state(second)),
        },
        {
            "tensors_with_other_bits_after_loading": 0,
            "tensors_with_other_bits_two_steps_later": 0,
        },
        tensors=len(saved),
    )


def _state(trainer: Trainer[DeepGen, FlowBatch]) -> dict[str, Tensor]:
    """Weights, moments and EMA."""
    tensors: dict[str, Tensor] = {
        f"weight.{name}": value for name, value in trainer.trained.items()
    }
    tensors |= trainer.optimizer.tensors()
    if trainer.ema is not None:
        tensors |= {f"ema.{name}": value for name, value in trainer.ema.weights.items()}
    return {name: value.detach().cpu().clone() for name, value in tensors.items()}


def _differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> int:
    return sum(not torch.equal(value, other[name]) for name, value in one.items())


@contextmanager
def _deterministic() -> Iterator[None]:
    # Only a warning: cuBLAS also wants a variable that must be set before it is loaded.
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.use_deterministic_algorithms(False)


def _waits(context: Context) -> Row:
    """Where the host waits for the GPU in a step; it may, once at its end."""
    trainer = _trainer(_model(context, "sft"), autocast=torch.bfloat16)
    trainer.step()
    where: dict[str, int] = {}
    with counted_waits(context.device, where):
        trainer.step()
    return {"ok": True, "waits": sum(where.values()), "where": where}


TASKS = (
    Task(name="stages_and_cpu", run=_stage_and_cpu, seconds=30),
    Task(name="mixed_precision", run=_mixed_precision, seconds=20),
    Task(name="compiled_training", run=_compiled, seconds=90),
    Task(name="recomputed_activations", run=_recomputed, seconds=10),
    Task(name="fsdp2_one_process", run=_fsdp, seconds=30),
    Task(name="checkpoint_and_resume", run=_resume, seconds=20),
    Task(name="waits_when_training", run=_waits, seconds=15),
)
