"""Saving of LoRA adapters (arXiv 2106.09685), in two layouts: diffusers'
(``pytorch_lora_weights.safetensors``, keys ``transformer.*.lora_A.weight``) and peft's
(``adapter_model.safetensors`` next to ``adapter_config.json``, keys
``base_model.model.*.lora_A.weight``). What is read is in :mod:`deepgen.checkpoint.lora_names`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peft
from safetensors.torch import save_file
from torch import nn

from deepgen.checkpoint.files import CARD_NAME
from deepgen.checkpoint.lora_alpha import PEFT_FILE
from deepgen.checkpoint.lora_reading import DIFFUSERS_FILE
from deepgen.checkpoint.writing import atomic_folder, write_json
from deepgen.conditioning.vlm import VisionLanguageModel
from deepgen.dit.model import DiT
from deepgen.nn.lora import ADAPTER, lora_layers, lora_weights


def save_vlm_lora(
    vlm: VisionLanguageModel,
    path: Path,
    *,
    overwrite: bool = False,
    card: Mapping[str, Any] | None = None,
) -> None:
    """Write the adapters of the language model as a new folder in peft's layout.

    ``PeftModel.from_pretrained(qwen, path)`` applies them to transformers' whole Qwen2.5-VL.

    Raises:
        CheckpointError: ``path`` exists and is not to be overwritten, or cannot be written.
        ValueError: The VLM has no adapters.
    """
    settings = _settings(vlm)
    # Full names: layers of the vision tower have the same endings. Sorted: the order of a set
    # differs between processes, and equal adapters should be equal bytes.
    settings.target_modules = sorted(f"model.{name}" for name, _ in lora_layers(vlm))
    with _adapter_folder(path, PEFT_FILE, overwrite, card) as folder:
        settings.save_pretrained(folder)
        _save(vlm, "base_model.model.model.", folder / PEFT_FILE, {"format": "pt"})


def save_dit_lora(
    dit: DiT, path: Path, *, overwrite: bool = False, card: Mapping[str, Any] | None = None
) -> None:
    """Write the adapters of the DiT as a new folder in diffusers' layout.

    ``SD3Transformer2DModel.load_lora_adapter(path, use_safetensors=True)`` loads them, and so does
    :func:`deepgen.checkpoint.adapters.merge_lora`.

    Raises:
        CheckpointError: ``path`` exists and is not to be overwritten, or cannot be written.
        ValueError: The DiT has no adapters.
    """
    settings = _settings(dit)
    # diffusers writes the configuration of each component under its prefix.
    described = {
        "transformer.r": settings.r,
        "transformer.lora_alpha": settings.lora_alpha,
        "transformer.target_modules": sorted(name for name, _ in lora_layers(dit)),
        # diffusers 0.38 reads these without asking whether they are there.
        "transformer.rank_pattern": {},
        "transformer.alpha_pattern": {},
    }
    # A single entry: safetensors writes several in varying order.
    metadata = {"lora_adapter_metadata": json.dumps(described, sort_keys=True)}
    with _adapter_folder(path, DIFFUSERS_FILE, overwrite, card) as folder:
        _save(dit, "transformer.", folder / DIFFUSERS_FILE, metadata)


@contextmanager
def _adapter_folder(
    path: Path, file: str, overwrite: bool, card: Mapping[str, Any] | None
) -> Iterator[Path]:
    with atomic_folder(path, overwrite=overwrite, marker=file) as folder:
        if card is not None:
            write_json(folder / CARD_NAME, card)
        yield folder


def _save(module: nn.Module, prefix: str, file: Path, metadata: dict[str, str]) -> None:
    stored = {
        prefix + key: value.detach().cpu().contiguous()
        for key, value in lora_weights(module).items()
    }
    save_file(stored, file, metadata=metadata)


def _settings(module: nn.Module) -> peft.LoraConfig:
    """The settings of a module's adapters."""
    for _, layer in lora_layers(module):
        dropout = getattr(layer.lora_dropout[ADAPTER], "p", 0.0)
        rank, alpha = layer.r[ADAPTER], layer.lora_alpha[ADAPTER]
        return peft.LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, inference_mode=True)
    raise ValueError("the module has no adapters to save")
