"""Plan ``mini``: the recipe of ``deepgen train mini`` at the rate of a GPU.

Rates first, then the training itself, in as many starts as it takes. The run is in
``OUT/mini/run``; ``OUT/mini/run.safetensors`` is what is needed to continue it elsewhere (see
``deepgen.mini.training.transfer``). A run begun elsewhere continues here: put its packed file at
``OUT/mini/start.safetensors`` before the first start.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measure import synchronize

from deepgen.config.codec import read_yaml, write_yaml
from deepgen.config.mini import MiniConfig, plan_mini
from deepgen.mini.training.feed import ByStepAhead
from deepgen.mini.training.label_pretraining import (
    LabelBatches,
    LatentBatch,
    LatentBatches,
)
from deepgen.mini.training.model import new_autoencoder
from deepgen.mini.training.parts import Part, batch_sizes, label_part
from deepgen.mini.training.samples import SIDE
from deepgen.mini.training.transfer import pack, unpack
from deepgen.stages.run_folder import MODEL, SETTINGS
from deepgen.vae import LatentCodec
from gpu.plan import Context, Plan, Row, Task

GOAL_SIDE = 128
GOAL_RATE = 3000.0
"""Samples per second at ``GOAL_SIDE`` pixels, rendering included."""

# Larger steps than the recipe's, since 128 samples hardly keep a GPU busy, and as many as should
# fit half an hour: 2 million samples from labels, half a million in the joint stages.
SETTINGS_ON_GPU = MiniConfig(
    samples=40_000,
    autoencoder_steps=4_000,
    captioning_steps=1_500,
    label_steps=4_000,
    pretrain_steps=300,
    sft_steps=800,
    clip_steps=1_000,
    rl_steps=100,
    batch_size=512,
)
TOY = MiniConfig(
    samples=100,
    autoencoder_steps=1,
    captioning_steps=1,
    label_steps=1,
    pretrain_steps=1,
    sft_steps=1,
    clip_steps=1,
    rl_steps=1,
    rl_prompts=1,
    batch_size=4,
)

STOP_SECONDS = 60.0
"""Before the deadline: to finish a step, write a checkpoint and pack the run."""


def workers(context: Context) -> int:
    """Processes that render: one per core but that of the training."""
    return 1 if context.toy else max(1, (os.cpu_count() or 2) - 1)


def _rendering(context: Context) -> Row:
    """Samples per second that the processor's cores render, without any training."""
    size = 4 if context.toy else 512
    batches = LabelBatches(sizes=batch_sizes(size), side=GOAL_SIDE)
    ahead = ByStepAhead(batches, workers(context))
    steps = itertools.count()
    rate = _rate(context, lambda: ahead(next(steps)), size, warmup=1 if context.toy else 32)
    return {"side": GOAL_SIDE, "workers": workers(context), "samples_per_second": rate}


def _step(context: Context, size: int, side: int) -> Row:
    """Label-conditioned training steps on samples that are rendered and encoded beforehand."""
    size = 4 if context.toy else size
    part = _label_part(context, size)
    rendered = _rendered(context, size, side)
    part_batches = [rendered(number) for number in range(1 if context.toy else 4)]
    return _training_rate(context, part, lambda step: part_batches[step % len(part_batches)], size)


def _whole(context: Context, size: int) -> Row:
    """The same with rendering and encoding: as ``deepgen train mini`` runs it."""
    size = 4 if context.toy else size
    part = _label_part(context, size)
    ahead = ByStepAhead(
        LabelBatches(sizes=batch_sizes(size), side=GOAL_SIDE), workers=workers(context)
    )
    batches = LatentBatches(ahead, _codec(context))
    row = _training_rate(context, part, batches, size)
    return row | {"goal": GOAL_RATE, "is_met": row["samples_per_second"] >= GOAL_RATE}


def _rendered(context: Context, size: int, side: int) -> Callable[[int], list[LatentBatch]]:
    return LatentBatches(LabelBatches(sizes=batch_sizes(size), side=side), _codec(context))


def _codec(context: Context) -> LatentCodec:
    return LatentCodec(new_autoencoder(0).to(context.device).requires_grad_(False))


def _label_part(context: Context, size: int) -> Part:
    return label_part(_codec(context), MiniConfig(batch_size=size), context.device)


def _training_rate(
    context: Context, part: Part, batches: Callable[[int], list[LatentBatch]], size: int
) -> Row:
    trainer = replace(part, batches=batches).trainer()
    rate = _rate(context, trainer.step, size, warmup=1 if context.toy else 10)
    peak = torch.cuda.max_memory_allocated() / 2**30 if context.device.type == "cuda" else None
    return {
        "batch_size": size,
        "samples_per_second": rate,
        "peak_gib": None if peak is None else round(peak, 2),
    }


def _rate(context: Context, step: Callable[[], Any], size: int, warmup: int) -> float:
    """Samples per second over 15 seconds, or two steps at toy size."""
    for _ in range(warmup):
        step()
    synchronize()
    started, count = time.perf_counter(), 0
    while count < 2 or (not context.toy and time.perf_counter() - started < 15):
        step()
        count += 1
    synchronize()
    return round(size * count / (time.perf_counter() - started), 1)


def _train(context: Context) -> Row:
    """``deepgen train mini`` until it is done or the time is over; then the run is packed."""
    run = context.folder / "run"
    start = context.folder / "start.safetensors"
    if not (run / SETTINGS).exists():
        run.mkdir(parents=True, exist_ok=True)
        if start.exists():
            unpack(start, run)
        else:
            write_yaml(run / SETTINGS, TOY if context.toy else SETTINGS_ON_GPU)
    command = [sys.executable, "-m", "deepgen", "train", "mini", "--output", str(run)]
    command += ["--config", str(run / SETTINGS), "--workers", str(workers(context))]
    command += ["--device", context.device.type]
    began = time.monotonic()
    with (context.folder / "train.txt").open("a") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            code = process.wait(timeout=max(1.0, context.left() - STOP_SECONDS))
            is_stopped = False
        except subprocess.TimeoutExpired:
            is_stopped = True
            code = _stop(process)
        finally:
            # Also when this process is interrupted: two trainings of one run would spoil it.
            process.kill()
    row: Row = {"seconds_here": round(time.monotonic() - began, 1), **progress(run)}
    packed = context.folder / "run.safetensors"
    row["packed_steps"] = pack(run, packed)
    row["packed_mib"] = round(packed.stat().st_size / 2**20, 1)
    if (run / MODEL / "model_index.json").exists():
        return row | {"model": str(Path("run") / MODEL)}
    # Between stages a signal ends it at once; what was finished is kept.
    if not is_stopped and code != 0:
        last = (context.folder / "train.txt").read_text().strip().splitlines()[-1:]
        raise RuntimeError(f"deepgen train mini ended with {code}: {' '.join(last)}")
    return row | {"state": "part"}


def _stop(process: subprocess.Popen[bytes]) -> int:
    """End the training after the step it is in, or by force; its exit code."""
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(timeout=STOP_SECONDS / 2)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def progress(run: Path) -> dict[str, Any]:
    """Steps done and samples per second of every stage of a run."""
    planned = plan_mini(read_yaml(run / SETTINGS, MiniConfig()))
    found: dict[str, Any] = {}
    for stage, plan in planned.items():
        metrics = run / stage / "metrics.jsonl"
        if not metrics.exists():
            continue
        lines = [json.loads(line) for line in metrics.read_text().splitlines()]
        lines = [line for line in lines if "speed" in line]
        if lines:
            rate = lines[-1]["speed"]["steps_per_second"] * plan["samples"] / plan["steps"]
            found[stage] = {
                "step": lines[-1]["step"],
                "steps": plan["steps"],
                "loss": lines[-1].get("loss"),
                "samples_per_second": round(rate, 1),
            }
    return {"stages": found}


PLAN = Plan(
    name="mini",
    tasks=(
        Task(name="rendering", run=_rendering, seconds=45),
        Task(name="steps_of_128", run=partial(_step, size=128, side=SIDE), seconds=45, gib=4),
        Task(name="steps_of_512", run=partial(_step, size=512, side=GOAL_SIDE), seconds=60, gib=16),
        Task(name="whole", run=partial(_whole, size=512), seconds=60, gib=16),
        Task(name="train", run=_train, seconds=150, gib=16),
    ),
)
