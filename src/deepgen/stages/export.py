"""What a stage leaves behind: a model folder, and its adapters for users of peft."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deepgen.checkpoint.folder import compute_dtype, load_folder, save_folder
from deepgen.checkpoint.lora import save_dit_lora, save_vlm_lora
from deepgen.checkpoint.writing import remove_unfinished
from deepgen.config.stage import STAGES, StageConfig
from deepgen.model import DeepGen
from deepgen.nn.lora import merge_lora_layers
from deepgen.stages.run_folder import ADAPTERS, MODEL, RESULTS
from deepgen.train.trainable import make_trainable


def export(
    model: DeepGen,
    config: StageConfig,
    card: Mapping[str, Any],
    device: torch.device | None = None,
) -> Path:
    """Write the model and its adapters, which are folded into its weights.

    What is replaced is of an earlier end of the same run.

    Args:
        device: What it was trained on, if it is no longer there.

    Returns:
        The model folder.
    """
    description = STAGES[config.stage]
    adapters = config.output / ADAPTERS
    for each in RESULTS:
        remove_unfinished(config.output / each)
    adapted = None if config.adapters is None else description.adapters
    if adapted == "dit":
        save_dit_lora(model.dit, adapters, overwrite=True, card=card)
        merge_lora_layers(model.dit)
    elif adapted == "vlm":
        save_vlm_lora(model.conditioner.vlm, adapters, overwrite=True, card=card)
        merge_lora_layers(model.conditioner.vlm.language_model)
    changed = {
        "connector": description.trains_bridge,
        "transformer": description.trains_dit or adapted == "dit",
        "vlm": adapted == "vlm",
    }
    made_by = f"{config.stage}, {config.steps} steps"
    model.provenance.update({part: made_by for part, is_new in changed.items() if is_new})
    path = config.output / MODEL
    dtype = compute_dtype(None, device or model.device)
    save_folder(model, path, dtype=dtype, overwrite=True, card=card)
    return path


def export_trained(
    base: Path,
    trained: Mapping[str, Tensor],
    config: StageConfig,
    card: Mapping[str, Any],
    device: torch.device,
) -> Path:
    """Export a model that was sharded among processes, from its unsharded trained tensors.

    Returns:
        The model folder.
    """
    dtype = torch.float32 if config.compute.precision == "float32" else compute_dtype(None, device)
    model = load_folder(base, dtype=dtype, device=torch.device("cpu"))
    fresh = make_trainable(model, config.stage, lora=config.adapters, seed=config.seed)
    with torch.no_grad():
        for name, value in fresh.items():
            value.copy_(trained[name])
    return export(model, config, card, device)
