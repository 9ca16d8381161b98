"""LoRA adapters, merged into the weights they were trained for (Hu et al., arXiv 2106.09685).

Read are the two layouts that people have: diffusers' (``pytorch_lora_weights.safetensors``, keys
``transformer.*.lora_A.weight``) and peft's (``adapter_model.safetensors`` beside
``adapter_config.json``, keys ``base_model.model.*.lora_A.weight``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from deepgen.checkpoint.files import listed
from deepgen.checkpoint.headers import read_header
from deepgen.checkpoint.weights import read_tensors
from deepgen.errors import CheckpointError
from deepgen.model import DeepGen

FILE_NAMES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")
WRAPPERS = ("base_model.model.", "module.", "_orig_mod.")
DOWN, UP, ALPHA = ".lora_A.weight", ".lora_B.weight", ".alpha"


@torch.no_grad()
def merge_lora(model: DeepGen, path: Path, scale: float = 1.0) -> int:
    """Add an adapter to the weights: ``W + scale * (alpha / r) * B A``, rounded once.

    Nothing is changed unless everything fits.

    Args:
        model: Changed in place.
        path: An adapter file, or a folder with one.
        scale: Strength on top of the adapter's own; the same call with ``-scale`` takes it back,
            up to rounding.

    Returns:
        How many layers were adapted.

    Raises:
        CheckpointError: A file that is no adapter, pairs that are incomplete, and layers that the
            model lacks or has in another shape.
    """
    file = _find(path)
    stored = read_header(file)
    tensors = dict(read_tensors("adapter", stored, dtype=torch.float32, device=torch.device("cpu")))
    alphas = _alphas(file)
    updates = []
    unused = dict.fromkeys(tensors)
    for key in tensors:
        if not key.endswith(DOWN):
            continue
        name = key.removesuffix(DOWN)
        if name + UP not in tensors:
            raise CheckpointError(f"{file.name} has {key} without its {name + UP}")
        for part in (DOWN, UP, ALPHA):
            unused.pop(name + part, None)
        down, up = tensors[key], tensors[name + UP]
        weight = _target(model, name, file)
        if (up.shape[0], down.shape[1]) != tuple(weight.shape) or up.shape[1] != down.shape[0]:
            raise CheckpointError(
                f"{file.name}: {name} adapts a layer of {up.shape[0]} x {down.shape[1]}, but this "
                f"model's is {' x '.join(map(str, weight.shape))}; it is for another model"
            )
        rank = down.shape[0]
        alpha = tensors[name + ALPHA].item() if name + ALPHA in tensors else alphas(name, rank)
        updates.append((weight, up @ down * (scale * alpha / rank)))
    if unused or not updates:
        kinds = listed(unused) if unused else "no lora_A weights"
        raise CheckpointError(f"{file.name} is no LoRA adapter that is understood: {kinds}")
    for weight, delta in updates:
        weight.copy_(weight.float() + delta.to(weight.device))
    model.conditioner.forget()
    return len(updates)


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    for name in FILE_NAMES:
        if (path / name).is_file():
            return path / name
    raise CheckpointError(f"{path} holds no adapter; expected {' or '.join(FILE_NAMES)}")


class _Alphas:
    """An adapter's alpha: as its configuration or file says, else its rank, which is scale 1."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def __call__(self, name: str, rank: int) -> float:
        patterns = self.values.get("alpha_pattern") or {}
        for pattern, alpha in patterns.items():
            if name == pattern or name.endswith(f".{pattern}"):
                return float(alpha)
        return float(self.values.get("lora_alpha", rank))


def _alphas(file: Path) -> _Alphas:
    config = file.parent / "adapter_config.json"
    try:
        if file.name == "adapter_model.safetensors" and config.is_file():
            return _Alphas(json.loads(config.read_text(encoding="utf-8")))
        with safe_open(file, "pt") as opened:
            metadata = opened.metadata() or {}
        values = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as cause:
        raise CheckpointError(f"the configuration of {file.name} cannot be read: {cause}") from None
    # diffusers writes the configuration of each component under its prefix.
    return _Alphas({key.removeprefix("transformer."): value for key, value in values.items()})


def _target(model: DeepGen, name: str, file: Path) -> Tensor:
    """The weight that an adapter's key speaks of."""
    roots: dict[str, nn.Module] = {
        "transformer.": model.dit,
        "vlm.": model.conditioner.vlm,
        "connector.": model.conditioner.bridge,
    }
    plain = name
    while wrapper := next((each for each in WRAPPERS if plain.startswith(each)), None):
        plain = plain.removeprefix(wrapper)
    root = next((each for each in roots if plain.startswith(each)), "transformer.")
    if plain.startswith("vlm.visual."):
        model.conditioner.vlm.require_vision()
    try:
        weight = roots[root].get_parameter(f"{plain.removeprefix(root)}.weight")
    except AttributeError:
        raise CheckpointError(
            f"{file.name} adapts {name}, which this model does not have; it is for another model"
        ) from None
    return weight
