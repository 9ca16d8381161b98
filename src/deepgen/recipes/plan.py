"""What a stage would do, before it does it: parameters, memory, batches, epochs."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from deepgen.checkpoint.folder import compute_dtype, outline_folder
from deepgen.checkpoint.hub import resolve
from deepgen.config.stage import StageConfig
from deepgen.recipes.build import loader_options, open_data
from deepgen.train.trainable import make_trainable

# Of a trained weight in float32: itself, its gradient and AdamW's two moments.
BYTES_PER_TRAINED = 16
BYTES_PER_AVERAGED = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Figures of a run; memory without activations."""

    trained: dict[str, int]
    """Parameters that are trained, by part."""
    frozen: dict[str, int]
    """Parameters that stay, by part."""
    static_bytes: int
    """Weights, gradients, moments and average, on one device."""
    samples_per_update: dict[str, int]
    """By task."""
    samples: dict[str, int]
    """In the data, by task."""
    epochs: dict[str, float]
    """How often each sample is visited, by task."""
    updates: int


def plan(config: StageConfig, *, device: torch.device) -> Plan:
    """Count what a stage trains, needs and visits; no weight is read.

    Raises:
        CheckpointError: The model cannot be used.
        DataError: The data cannot be used.
    """
    data = open_data(config)
    model = outline_folder(resolve(config.model))
    lora = None if config.freeze_vlm else config.lora
    make_trainable(model, config.stage, lora=lora, seed=config.seed)
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
    dtype = torch.float32 if config.precision == "float32" else compute_dtype(None, device)
    per_trained = BYTES_PER_TRAINED + (BYTES_PER_AVERAGED if config.ema_decay is not None else 0)
    # The side does not matter for how many there are.
    tasks = loader_options(config, data, config.side or 512).tasks
    per_update = {task: each.microbatch_size * each.microbatches for task, each in tasks.items()}
    samples = {task: len(data.rows(task=task, split="train")) for task in tasks}
    return Plan(
        trained={name: count for name, count in trained.items() if count},
        frozen={name: count for name, count in frozen.items() if count},
        static_bytes=sum(trained.values()) * per_trained + sum(frozen.values()) * dtype.itemsize,
        samples_per_update={str(task): count for task, count in per_update.items()},
        samples={str(task): count for task, count in samples.items()},
        epochs={
            str(task): round(config.steps * per_update[task] / samples[task], 2) for task in tasks
        },
        updates=config.steps,
    )
