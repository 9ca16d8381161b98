"""Rows of ``tables`` about training: whole steps of both stages at the released size.

Micro-batches as published, of 512 px, with posteriors of latents at hand, as from a cache, and
prompts of different lengths. Weights that are trained are float32, products bfloat16.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from measure import synchronize

from deepgen.config.stage import STAGES, Stage
from deepgen.config.train import LoraConfig
from deepgen.errors import TrainingError
from deepgen.flow.schedule import training_sigmas
from deepgen.model import DeepGen
from deepgen.train.loop import LoopConfig, Monitoring
from deepgen.train.monitor.flops import SampleCost
from deepgen.train.monitor.speed import Clock
from deepgen.train.objective import FlowBatch, FlowObjective
from deepgen.train.optim import AdamW
from deepgen.train.sample_rng import SampleKey, SampleRng
from deepgen.train.stream import ByStep
from deepgen.train.trainable import make_trainable
from deepgen.train.trainer import Trainer
from deepgen.types import Prompt
from deepgen.vae import Posterior
from gpu.loop import DTYPE
from gpu.models import new_model, prompt_text, random_pixels, sizes_of
from gpu.plan import Context, Row
from gpu.rates import matrix_rate, peak_gib, reset_peak
from gpu.result import either, goal

T2I_TOKENS = (96, 128, 150, 190)
"""Lengths of the prompts of a text-to-image micro-batch: long captions in their template."""

EDIT_TOKENS = (30, 36, 40, 48)
"""Lengths of the instructions of edits, besides their images."""

REPEATS = 5

H200_IMAGES_PER_SECOND: dict[Stage, float] = {"pretrain": 35, "sft": 26}

SHARE = 0.5
"""Share of the measured matrix rate: the goal on any other card."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingRow:
    """A row: steps of a stage."""

    stage: Stage
    compiled: bool = False

    def __call__(self, context: Context) -> Row:
        """Measure; if memory is short, with activation checkpointing."""
        try:
            return measure_training(self, context, checkpointing=False)
        except (torch.OutOfMemoryError, TrainingError) as error:
            if "memory" not in str(error):
                raise
        # Not before the error is gone, since it holds the model by its traceback.
        gc.collect()
        if context.device.type == "cuda":
            torch.cuda.empty_cache()
        return measure_training(self, context, checkpointing=True)


def measure_training(row: TrainingRow, context: Context, *, checkpointing: bool) -> Row:
    """Time steps, and relate their operations to the matrix rate."""
    trainer = new_trainer(row, context, checkpointing=checkpointing)
    images = sum(len(each.prompts) for each in trainer.stream.batches(trainer.model, 0))
    reset_peak(context)
    first = _step(trainer)
    _step(trainer)
    trainer.monitoring.clock.take()
    seconds = [_step(trainer) for _ in range(1 if context.toy else REPEATS)]
    phases = trainer.monitoring.clock.take()
    median = statistics.median(seconds)
    rate = matrix_rate(context)
    speed, share = images / median, trainer._work["flops"] / median / rate
    return {
        "stage": row.stage,
        "compiled": row.compiled,
        "checkpointed_activations": checkpointing,
        "images_per_step": images,
        "first_step_seconds": round(first, 2),
        "median_seconds": round(median, 4),
        "seconds": [round(each, 4) for each in seconds],
        "images_per_second": round(speed, 2),
        "flops_per_step": trainer._work["flops"],
        "matrix_flops_per_second": rate,
        "share_of_matrix_rate": round(share, 4),
        "phase_seconds_per_step": {
            name: round(each / len(seconds), 4) for name, each in phases.items()
        },
        "peak_gib": peak_gib(context),
        "goals": [
            either(
                goal("images_per_second", speed, at_least=H200_IMAGES_PER_SECOND[row.stage]),
                goal("share_of_matrix_rate", share, at_least=SHARE),
            )
        ],
    }


def _step(trainer: Trainer[DeepGen, FlowBatch]) -> float:
    synchronize()
    started = time.perf_counter()
    if trainer.step()["skipped"]:
        raise ValueError("a step was skipped, so its time means nothing; its loss is not finite")
    synchronize()
    return time.perf_counter() - started


def new_trainer(
    row: TrainingRow, context: Context, *, checkpointing: bool
) -> Trainer[DeepGen, FlowBatch]:
    """The stage as ``deepgen train`` assembles it, with batches made here."""
    model = new_model(sizes_of(context), context.device, DTYPE)
    make_trainable(model, row.stage, lora=LoraConfig())
    model.checkpoint_activations(checkpointing)
    model.pack(True, attention_by_row=not row.compiled)
    if row.compiled and not context.toy:
        model.dit.compile_each_block()
    trained = [(name, each) for name, each in model.named_parameters() if each.requires_grad]
    batches = _batches(row.stage, model, context)
    return Trainer(
        model,
        FlowObjective(
            training_sigmas(model.schedule),
            SampleRng(0, row.stage),
            padding=model.defaults.padding,
            autocast=DTYPE,
            cost=SampleCost(model, row.stage),
        ),
        ByStep(lambda step: batches),
        # So small that random weights stay as they are.
        AdamW(trained, lr=1e-8),
        LoopConfig(steps=1000, schedule=lambda step: 1.0),
        monitoring=Monitoring(clock=Clock(context.device)),
    )


def _batches(stage: Stage, model: DeepGen, context: Context) -> list[FlowBatch]:
    """The micro-batches of a step of one process."""
    t2i, edit = STAGES[stage].microbatches(1)
    total = (t2i + edit) * len(T2I_TOKENS)
    return [
        *(_batch(f"t2i {place}", model, context, T2I_TOKENS, total, 0) for place in range(t2i)),
        *(_batch(f"edit {place}", model, context, EDIT_TOKENS, total, 1) for place in range(edit)),
    ]


def _batch(
    name: str,
    model: DeepGen,
    context: Context,
    lengths: Sequence[int],
    total: int,
    references: int,
) -> FlowBatch:
    side, count = sizes_of(context).side, len(lengths)

    def posterior() -> Posterior:
        mean = torch.randn(16, side // 8, side // 8, device=context.device)
        return Posterior(mean, torch.full_like(mean, 0.1))

    pixels: list[Any] = random_pixels(side, references * count)
    return FlowBatch(
        latents=[posterior() for _ in range(count)],
        prompts=[
            Prompt(
                text=prompt_text(model, tokens, place),
                references=tuple(pixels[place : place + references]),
            )
            for place, tokens in enumerate(lengths)
        ],
        reference_latents=[[posterior() for _ in range(references)] for _ in range(count)],
        keys=[SampleKey(sample=f"{name} {place}") for place in range(count)],
        weights=torch.full((count,), 1 / total),
    )
