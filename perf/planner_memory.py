"""The planner's memory estimate against FSDP2: 200 M parameters on 1, 2 and 4 processes.

``PYTHONPATH=. python perf/planner_memory.py``, by gloo on CPU, in float32; the result is in
``perf/results/planner_memory.json``. Every process makes a real step and then counts the bytes of
its weights, gradients, moments, EMA and frozen parts. The record also has the growth of its
resident memory since before the model was built, which includes what the allocator keeps of past
activations and gathered weights. It needs 12 GiB.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from measure import environment, write

from deepgen.config.model import BridgeConfig, DiTConfig
from deepgen.config.train import LoraConfig, Sharding
from deepgen.dit.model import DiT
from deepgen.flow.schedule import training_sigmas
from deepgen.model import DeepGen
from deepgen.stages.plan import Memory, plan_memory
from deepgen.train.ema import Ema
from deepgen.train.loop import LoopConfig
from deepgen.train.objective import FlowBatch, FlowObjective
from deepgen.train.optim import AdamW
from deepgen.train.parallel.distributed import Processes
from deepgen.train.parallel.sharding import Parallelism, local_bytes, shard
from deepgen.train.sample_rng import SampleRng
from deepgen.train.stream import ByStep
from deepgen.train.trainable import make_trainable
from deepgen.train.trainer import Trainer
from deepgen.vae import LatentCodec
from tests.checkpoint.models import tiny_autoencoder, tiny_model
from tests.conditioning.models import tiny_conditioner
from tests.train import killing
from tests.train.parallel.together import Together

BRIDGE = BridgeConfig(
    num_queries=4,
    llm_hidden_size=32,
    num_selected_layers=3,
    hidden_size=512,
    intermediate_size=2048,
    num_hidden_layers=4,
    num_attention_heads=8,
    pooled_projection_dim=512,
    joint_attention_dim=512,
)
DIT = DiTConfig(
    sample_size=32,
    num_layers=8,
    attention_head_dim=64,
    num_attention_heads=12,
    joint_attention_dim=512,
    caption_projection_dim=768,
    pooled_projection_dim=512,
    pos_embed_max_size=32,
    dual_attention_layers=(0, 1),
)

TOLERANCE = 0.05
"""Largest relative error of a plan."""


def large_model() -> DeepGen:
    """Random weights; VLM and VAE are toys, since sharding does not change them."""
    tiny = tiny_model()
    torch.manual_seed(0)
    return DeepGen(
        tiny_conditioner(BRIDGE),
        DiT(DIT),
        LatentCodec(tiny_autoencoder()),
        tiny.schedule,
        tiny.defaults,
        tiny.provenance,
    )


def count(processes: Processes, folder: str, sharding: Sharding) -> None:
    """Make a step on one process of several, and write down what it allocates."""
    if processes.world_size == 1:
        # FSDP2 needs a process group even for one process.
        dist.init_process_group("gloo", init_method=f"file://{folder}/alone", rank=0, world_size=1)
    before = _resident_bytes()
    model = large_model()
    make_trainable(model, "sft", lora=LoraConfig(rank=2), seed=1)
    planned = plan_memory(
        model,
        sharding,
        processes.world_size,
        has_ema=True,
        frozen_bytes=4,
        gathered_bytes=4,
    )
    shards = shard(model, sharding, processes, mixed=False)
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    numbers = sum(value.numel() for value in trained.values())
    optimizer = AdamW(trained.items(), lr=1e-4)
    ema = Ema(trained)
    gradients = []
    update = optimizer.step

    def step(lr: float) -> None:
        gradients.append(local_bytes(v.grad for v in trained.values() if v.grad is not None))
        update(lr)

    optimizer.step = step  # type: ignore[method-assign]

    def batches(index: int) -> list[FlowBatch]:
        every = killing.batches(index)
        return [every[processes.rank % len(every)]]

    trainer = Trainer(
        model,
        FlowObjective(training_sigmas(model.schedule), SampleRng(0, "sft")),
        ByStep(batches),
        optimizer,
        LoopConfig(steps=1, schedule=lambda index: 1.0),
        ema=ema,
        parallel=Parallelism(processes=processes, shards=shards),
    )
    trainer.step()
    held = {
        "weights": local_bytes(trained.values()),
        "gradients": gradients[-1],
        "moments": local_bytes(optimizer.tensors().values()),
        "ema": local_bytes(ema.weights.values()),
        "frozen": local_bytes(v for v in model.parameters() if not v.requires_grad),
        "buffers": local_bytes(model.buffers()),
    }
    record = {
        "trained_parameters": numbers,
        "planned": {name: getattr(planned, name) for name in Memory.__dataclass_fields__},
        "planned_static": planned.static,
        "held": held,
        "held_static": sum(held.values()),
        "resident_growth": _resident_bytes() - before,
    }
    Path(folder, f"{processes.rank}.json").write_text(json.dumps(record))


def compare(world_size: int, sharding: Sharding) -> dict[str, Any]:
    """The plan for a process and what each one allocates."""
    with tempfile.TemporaryDirectory() as folder:
        group = Together(count, world_size, folder, sharding, timeout_seconds=1200)
        codes = group.exit_codes()
        assert codes == [0] * world_size, f"the processes ended with {codes}"
        records = [json.loads(Path(folder, f"{r}.json").read_text()) for r in range(world_size)]
    planned = records[0]["planned_static"]
    errors = [planned / each["held_static"] - 1 for each in records]
    return {
        "processes": world_size,
        "sharding": sharding,
        "trained_parameters": records[0]["trained_parameters"],
        "planned": records[0]["planned"],
        "planned_static": planned,
        "held_on_each": [each["held"] for each in records],
        "held_static_on_each": [each["held_static"] for each in records],
        "resident_growth_on_each": [each["resident_growth"] for each in records],
        "planned_is_off_by": [round(each, 5) for each in errors],
        "within_tolerance": all(abs(each) <= TOLERANCE for each in errors),
    }


def main() -> None:
    """Compare for 1, 2 and 4 processes, and write the record."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    ways: list[tuple[int, Sharding]] = [
        (1, "optimizer"),
        (2, "optimizer"),
        (4, "optimizer"),
        (4, "full"),
    ]
    write(
        "planner_memory",
        {
            "environment": environment(),
            "tolerance": TOLERANCE,
            "runs": [compare(*way) for way in ways],
        },
    )


def _resident_bytes() -> int:
    """Memory of this process; Linux only."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


if __name__ == "__main__":
    main()
