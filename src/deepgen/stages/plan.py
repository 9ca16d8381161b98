"""The plan of a stage, before it runs: parameters, memory, micro-batches, epochs."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from deepgen.checkpoint.folder import compute_dtype, load_on_meta
from deepgen.checkpoint.hub import resolve
from deepgen.config.rl import RlStageConfig
from deepgen.config.stage import StageConfig
from deepgen.config.train import Sharding
from deepgen.data.records import Task
from deepgen.model import DeepGen
from deepgen.stages.activations import activation_bytes, largest_sample
from deepgen.stages.build import is_mixed, open_data
from deepgen.stages.microbatches import split_microbatches, task_plans
from deepgen.train.parallel.sharding import chosen_sharding, gathered_units, never_sharded
from deepgen.train.trainable import make_trainable

FLOAT32_BYTES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Bytes per process, without activations; of the first process, which may hold a row more."""

    trained: int
    """Trained weights with their gradients, two moments and EMA weights, all in float32."""
    frozen: int
    """Weights that are not trained; the VAE in float32."""
    buffers: int
    """Above all the DiT's position embeddings."""
    temporary: int
    """Peak of gathered or bfloat16 copies of weights, and of gradients before they are summed."""

    @property
    def static(self) -> int:
        """What is allocated all the time."""
        return self.trained + self.frozen + self.buffers


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Figures of a run; memory is per process."""

    trained: dict[str, int]
    """Parameters that are trained, by part."""
    frozen: dict[str, int]
    """Parameters that are not trained, by part."""
    static_bytes: int
    """Trained weights with gradients, moments and EMA, frozen weights, and buffers."""
    temporary_bytes: int
    """Peak of copies within a step, see :class:`Memory`."""
    activation_bytes: int
    """Activations of a micro-batch of the largest samples; an estimate, see
    :mod:`deepgen.stages.activations`.
    """
    sharding: str
    """What is sharded among processes: none, optimizer or full."""
    processes: int
    microbatches: dict[Task, int]
    """Per step, of all processes together, by task."""
    microbatches_per_process: tuple[int, int]
    """Per step: the fewest and the most of a process."""
    idle_fraction: float
    """Fraction of all processes' time spent waiting for those with more micro-batches, if each
    takes equally long."""
    samples_per_step: dict[Task, int]
    """By task."""
    samples: dict[Task, int]
    """In the data, by task."""
    epochs: dict[Task, float]
    """How often each sample is used, by task."""
    steps: int


def plan(config: StageConfig, *, device: torch.device, world_size: int = 1) -> Plan:
    """Compute the figures of a stage, after :func:`resolve_settings`.

    No weight is read.

    Raises:
        CheckpointError: The model cannot be used.
        DataError: The data cannot be used.
        ValueError: A step cannot be divided among so many processes.
    """
    rl = config if isinstance(config, RlStageConfig) else None
    data = open_data(config) if rl is None or rl.rl.policy.sft_weight else None
    model = load_on_meta(resolve(config.model))
    make_trainable(model, config.stage, lora=config.adapters, seed=config.seed)
    trained, frozen = _parameters(model)
    dtype = torch.float32 if config.compute.precision == "float32" else compute_dtype(None, device)
    sharding = chosen_sharding(config.parallel.sharding, config.stage, device, world_size)
    computed_bytes = 2 if is_mixed(config.compute.precision, device) else FLOAT32_BYTES
    memory = plan_memory(
        model,
        sharding,
        world_size,
        has_ema=config.ema_decay is not None,
        frozen_bytes=dtype.itemsize,
        gathered_bytes=computed_bytes,
    )
    tasks = {} if data is None else task_plans(config, data, world_size)
    side = config.data.side or round((model.defaults.height * model.defaults.width) ** 0.5)
    sizes = list(data.bucket_keys(side)[0]) if data is not None else []
    if rl is not None:
        own = rl.rl.rollout.side or model.defaults.height
        sizes.append(((own, own), ()))
    longest = largest_sample(model, sizes, {"t2i", *tasks} if rl is not None else tasks)
    activations = activation_bytes(model, config, longest, bytes_each=computed_bytes)
    shared = split_microbatches(tasks, world_size)
    per_step = {task: each.samples for task, each in tasks.items()}
    samples = {task: len(data.rows(task=task, split="train")) for task in tasks if data is not None}
    return Plan(
        trained=trained,
        frozen=frozen,
        static_bytes=memory.static,
        temporary_bytes=memory.temporary,
        activation_bytes=config.microbatch_size * activations,
        sharding=sharding,
        processes=world_size,
        microbatches={task: each.microbatches for task, each in tasks.items()},
        microbatches_per_process=(shared.fewest, shared.most),
        idle_fraction=round(shared.idle_fraction, 4),
        samples_per_step=per_step,
        samples=samples,
        epochs={task: round(config.steps * per_step[task] / samples[task], 2) for task in tasks},
        steps=config.steps,
    )


def _parameters(model: DeepGen) -> tuple[dict[str, int], dict[str, int]]:
    """Numbers of trained and of frozen parameters, by part; parts without any are omitted."""
    parts = {
        "think tokens and bridge": model.conditioner.bridge,
        "language model": model.conditioner.vlm.language_model,
        "DiT": model.dit,
        "VAE": model.vae,
    }
    trained: Counter[str] = Counter()
    frozen: Counter[str] = Counter()
    for name, part in parts.items():
        for each in part.parameters():
            (trained if each.requires_grad else frozen)[name] += each.numel()
    return dict(trained), dict(frozen)


def plan_memory(
    model: DeepGen,
    sharding: Sharding,
    world_size: int,
    *,
    has_ema: bool,
    frozen_bytes: int,
    gathered_bytes: int,
) -> Memory:
    """Compute the memory of each process for a model that is ready for training.

    Its weights may have no values.

    Args:
        has_ema: Whether EMA weights are kept.
        frozen_bytes: Per value of what is not trained.
        gathered_bytes: Per value of what is computed with, and gathered for it.
    """
    shards = world_size if sharding != "none" else 1
    whole = {id(value) for value in never_sharded(model)}
    autoencoder = {id(value) for value in model.vae.parameters()}
    trained = frozen = 0
    for value in model.parameters():
        if value.requires_grad:
            trained += _largest_shard(value, shards)
        else:
            is_sharded = sharding == "full" and id(value) not in whole
            each = FLOAT32_BYTES if id(value) in autoencoder else frozen_bytes
            frozen += each * _largest_shard(value, shards if is_sharded else 1)
    return Memory(
        trained=trained * FLOAT32_BYTES * (5 if has_ema else 4),
        frozen=frozen,
        buffers=frozen_bytes * sum(value.numel() for value in model.buffers()),
        temporary=_temporary(model, sharding, gathered_bytes),
    )


def _largest_shard(value: Tensor, shards: int) -> int:
    """Values in the largest shard of a tensor, which is split between rows."""
    return math.ceil(value.shape[0] / shards) * math.prod(value.shape[1:])


def _temporary(model: DeepGen, sharding: Sharding, gathered_bytes: int) -> int:
    """Peak bytes of copies to compute with, and of gradients before they are summed."""
    if sharding == "none":
        # Autocast caches bfloat16 copies of float32 weights.
        return gathered_bytes * _numbers(model) if gathered_bytes < FLOAT32_BYTES else 0
    if sharding == "optimizer":
        return (gathered_bytes + FLOAT32_BYTES) * _numbers(model)
    units, roots = gathered_units(model, with_frozen=True)
    whole = {id(value) for value in never_sharded(model)}
    inside = {id(value) for unit in units for value in unit.parameters()}
    kept = [
        value
        for root in roots
        for value in root.parameters()
        if id(value) not in inside and id(value) not in whole
    ]
    # One unit in use and the next being gathered.
    largest = sorted(sum(value.numel() for value in unit.parameters()) for unit in units)[-2:]
    learning = sum(value.numel() for value in kept if value.requires_grad)
    return gathered_bytes * (sum(value.numel() for value in kept) + sum(largest)) + (
        FLOAT32_BYTES * (learning + sum(largest))
    )


def _numbers(model: DeepGen) -> int:
    return sum(value.numel() for value in model.parameters() if value.requires_grad)
