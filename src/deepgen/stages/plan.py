"""What a stage would do, before it does it: parameters, memory, batches, epochs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from deepgen.checkpoint.folder import compute_dtype, outline_folder
from deepgen.checkpoint.hub import resolve
from deepgen.config.stage import StageConfig
from deepgen.config.train import Sharding
from deepgen.model import DeepGen
from deepgen.stages.activations import activation_bytes, largest_sample
from deepgen.stages.build import is_mixed, open_data
from deepgen.stages.microbatches import split_microbatches, task_plans
from deepgen.train.parallel.sharding import chosen_sharding, gathered_units, never_divided
from deepgen.train.trainable import make_trainable

FLOAT32_BYTES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Bytes on each process, without activations; on the first, which may hold a row more."""

    weights: int
    """Trained, in float32."""
    gradients: int
    """Of these."""
    moments: int
    """Two of AdamW."""
    average: int
    frozen: int
    """The VAE in float32."""
    buffers: int
    """Of the DiT's positions above all."""
    passing: int
    """Copies of weights to compute with, gathered or in bfloat16, and gradients not yet added up,
    at their most."""

    @property
    def static(self) -> int:
        """What is held all the time."""
        learning = self.weights + self.gradients + self.moments + self.average
        return learning + self.frozen + self.buffers


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Figures of a run; memory of each process, without activations."""

    trained: dict[str, int]
    """Parameters that are trained, by part."""
    frozen: dict[str, int]
    """Parameters that stay, by part."""
    static_bytes: int
    """What is held all the time: trained weights with gradients, moments and average, frozen
    weights, and buffers."""
    passing_bytes: int
    """Copies that come and go in every update, of weights and of what processes divide."""
    activation_bytes: int
    """Of a micro-batch of the largest samples; an estimate, see :mod:`deepgen.stages.activations`.
    """
    sharding: str
    """What they divide."""
    processes: int
    microbatches: dict[str, int]
    """Forward passes of an update, of all processes together, by task."""
    passes_per_process: tuple[int, int]
    """Forward passes that a process makes for an update: the fewest and the most."""
    idle_share: float
    """Of all processes' time in forward and backward passes, if each takes equally long: what those
    with fewer wait for the others."""
    samples_per_update: dict[str, int]
    """By task."""
    samples: dict[str, int]
    """In the data, by task."""
    epochs: dict[str, float]
    """How often each sample is visited, by task."""
    updates: int


def plan(config: StageConfig, *, device: torch.device, world_size: int = 1) -> Plan:
    """Count what a stage trains, needs and visits; no weight is read.

    Args:
        config: The stage, its micro-batches settled by :func:`deepgen.stages.resume.settle`.
        device: Of a process.
        world_size: Processes that train together.

    Raises:
        CheckpointError: The model cannot be used.
        DataError: The data cannot be used.
        ValueError: An update cannot be divided among so many processes.
    """
    data = open_data(config)
    model = outline_folder(resolve(config.model))
    make_trainable(model, config.stage, lora=config.adapters, seed=config.seed)
    trained, frozen = _parameters(model)
    dtype = torch.float32 if config.compute.precision == "float32" else compute_dtype(None, device)
    sharding = chosen_sharding(config.parallel.sharding, config.stage, device, world_size)
    computed_bytes = 2 if is_mixed(config.compute.precision, device) else FLOAT32_BYTES
    memory = plan_memory(
        model,
        sharding,
        world_size,
        has_average=config.ema_decay is not None,
        frozen_bytes=dtype.itemsize,
        gathered_bytes=computed_bytes,
    )
    tasks = task_plans(config, data, world_size)
    side = config.data.side or round((model.defaults.height * model.defaults.width) ** 0.5)
    longest = largest_sample(model, data.bucket_keys(side)[0], tasks)
    activations = activation_bytes(model, config, longest, bytes_each=computed_bytes)
    shared = split_microbatches(tasks, world_size)
    per_update = {task: each.microbatch_size * each.microbatches for task, each in tasks.items()}
    samples = {task: len(data.rows(task=task, split="train")) for task in tasks}
    return Plan(
        trained=trained,
        frozen=frozen,
        static_bytes=memory.static,
        passing_bytes=memory.passing,
        activation_bytes=config.microbatch_size * activations,
        sharding=sharding,
        processes=world_size,
        microbatches={str(task): each.microbatches for task, each in tasks.items()},
        passes_per_process=(shared.fewest, shared.most),
        idle_share=round(shared.idle_share, 4),
        samples_per_update={str(task): count for task, count in per_update.items()},
        samples={str(task): count for task, count in samples.items()},
        epochs={
            str(task): round(config.steps * per_update[task] / samples[task], 2) for task in tasks
        },
        updates=config.steps,
    )


def _parameters(model: DeepGen) -> tuple[dict[str, int], dict[str, int]]:
    """How many are trained and how many stay, by part; parts without any are left out."""
    parts = {
        "think tokens and bridge": model.conditioner.bridge,
        "language model": model.conditioner.vlm.language_model,
        "DiT": model.dit,
        "VAE": model.vae,
    }
    trained, frozen = {}, {}
    for name, part in parts.items():
        counts = [(each.requires_grad, each.numel()) for each in part.parameters()]
        trained[name] = sum(count for learns, count in counts if learns)
        frozen[name] = sum(count for learns, count in counts if not learns)
    return (
        {name: count for name, count in trained.items() if count},
        {name: count for name, count in frozen.items() if count},
    )


def plan_memory(
    model: DeepGen,
    sharding: Sharding,
    world_size: int,
    *,
    has_average: bool,
    frozen_bytes: int,
    gathered_bytes: int,
) -> Memory:
    """Count what each process holds of a model that is ready for training.

    Args:
        model: Its weights may have no values.
        sharding: ``none``, ``optimizer`` or ``full``.
        world_size: Processes that train together.
        has_average: Whether an average of the weights is kept.
        frozen_bytes: Of a number of what is not trained.
        gathered_bytes: Of a number of what is computed with, and gathered for it.
    """
    divided = world_size if sharding != "none" else 1
    whole = {id(value) for value in never_divided(model)}
    autoencoder = {id(value) for value in model.vae.parameters()}
    trained = frozen = 0
    for value in model.parameters():
        if value.requires_grad:
            trained += _share(value, divided)
        else:
            is_divided = sharding == "full" and id(value) not in whole
            each = FLOAT32_BYTES if id(value) in autoencoder else frozen_bytes
            frozen += each * _share(value, divided if is_divided else 1)
    return Memory(
        weights=trained * FLOAT32_BYTES,
        gradients=trained * FLOAT32_BYTES,
        moments=2 * trained * FLOAT32_BYTES,
        average=trained * FLOAT32_BYTES if has_average else 0,
        frozen=frozen,
        buffers=frozen_bytes * sum(value.numel() for value in model.buffers()),
        passing=_passing(model, sharding, gathered_bytes),
    )


def _share(value: Tensor, divided: int) -> int:
    """Numbers of the largest share of a tensor, which is cut between rows."""
    return math.ceil(value.shape[0] / divided) * math.prod(value.shape[1:])


def _passing(model: DeepGen, sharding: Sharding, gathered_bytes: int) -> int:
    """Bytes of copies to compute with and of gradients that are still those of one process."""
    if sharding == "none":
        # Of float32 weights autocast keeps what they are in bfloat16.
        return gathered_bytes * _numbers(model) if gathered_bytes < FLOAT32_BYTES else 0
    if sharding == "optimizer":
        return (gathered_bytes + FLOAT32_BYTES) * _numbers(model)
    units, roots = gathered_units(model, with_frozen=True)
    whole = {id(value) for value in never_divided(model)}
    inside = {id(value) for unit in units for value in unit.parameters()}
    kept = [
        value
        for root in roots
        for value in root.parameters()
        if id(value) not in inside and id(value) not in whole
    ]
    # One unit at work and the next on its way.
    largest = sorted(sum(value.numel() for value in unit.parameters()) for unit in units)[-2:]
    learning = sum(value.numel() for value in kept if value.requires_grad)
    return gathered_bytes * (sum(value.numel() for value in kept) + sum(largest)) + (
        FLOAT32_BYTES * (learning + sum(largest))
    )


def _numbers(model: DeepGen) -> int:
    return sum(value.numel() for value in model.parameters() if value.requires_grad)
