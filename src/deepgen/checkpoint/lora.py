"""LoRA adapters: saving, and merging into weights (arXiv 2106.09685).

Two layouts are read and written: diffusers'
(``pytorch_lora_weights.safetensors``, keys ``transformer.*.lora_A.weight``) and peft's
(``adapter_model.safetensors`` next to ``adapter_config.json``, keys
``base_model.model.*.lora_A.weight``).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from deepgen.checkpoint.files import CARD_NAME, listed
from deepgen.checkpoint.headers import read_header
from deepgen.checkpoint.weights import read_tensors
from deepgen.checkpoint.writing import atomic_folder, write_json
from deepgen.conditioning.vlm import VisionLanguageModel
from deepgen.conditioning.vlm_layers import module_key
from deepgen.dit.model import DiT
from deepgen.errors import CheckpointError
from deepgen.model import DeepGen
from deepgen.nn.lora import ADAPTER, lora_layers, lora_weights
from deepgen.reading import parse_json, read_json

DIFFUSERS_FILE, PEFT_FILE = "pytorch_lora_weights.safetensors", "adapter_model.safetensors"
FILE_NAMES = (DIFFUSERS_FILE, PEFT_FILE)
WRAPPERS = ("base_model.model.", "module.", "_orig_mod.")
LINEAR = (".lora_A.weight", ".lora_B.weight")
EMBEDDING = (".lora_embedding_A", ".lora_embedding_B")
ALPHA = ".alpha"
UNREAD_SWITCHES = ("use_dora", "fan_in_fan_out", "lora_bias", "use_qalora")
"""Settings of peft variants that change the arithmetic, none of which is supported."""
QWEN = ("model.language_model.", "language_model.", "model.visual.", "visual.")


@torch.no_grad()
def merge_lora(model: DeepGen, path: Path, scale: float = 1.0) -> int:
    """Add an adapter to the weights in place: ``W + scale * (alpha / r) * B A``, rounded once.

    If anything does not fit, nothing is changed.

    Args:
        path: An adapter file, or a folder with one.
        scale: Factor on top of the adapter's alpha; the same call with ``-scale`` undoes it, up to
            rounding.

    Returns:
        The number of adapted layers.

    Raises:
        CheckpointError: The file is not an adapter, has incomplete pairs, or adapts layers that
            the model lacks or has in another shape.
    """
    file = _find(path)
    stored = read_header(file)
    tensors = dict(read_tensors("adapter", stored, dtype=torch.float32, device=torch.device("cpu")))
    alphas = _alphas(file)
    updates = []
    unused = dict.fromkeys(tensors)
    for name, ends in _pairs(tensors, file):
        for part in (*ends, ALPHA):
            unused.pop(name + part, None)
        down, up = (tensors[name + end] for end in ends)
        if (down.ndim, up.ndim) != (2, 2) or 0 in (*down.shape, *up.shape):
            raise CheckpointError(f"{file.name}: {name} has no two matrices of a rank above 0")
        if ends == EMBEDDING:
            # The rows of an embedding are its outputs: W + (B A)^T.
            down, up = up.T, down.T
        weight = _target(model, name, file)
        if (up.shape[0], down.shape[1]) != tuple(weight.shape) or up.shape[1] != down.shape[0]:
            raise CheckpointError(
                f"{file.name}: {name} adapts a layer of {up.shape[0]} x {down.shape[1]}, but this "
                f"model's is {' x '.join(map(str, weight.shape))}; it is for another model"
            )
        rank = down.shape[0]
        stored_alpha = tensors.get(name + ALPHA)
        if stored_alpha is not None and stored_alpha.numel() != 1:
            raise CheckpointError(f"{file.name}: {name + ALPHA} must be one number")
        alpha = alphas(_own_name(name), rank) if stored_alpha is None else stored_alpha.item()
        updates.append((weight, up @ down * (scale * alpha / rank)))
    if unused or not updates:
        kinds = listed(unused) if unused else "no lora_A weights"
        raise CheckpointError(f"{file.name} is not a supported LoRA adapter: {kinds}")
    for weight, delta in updates:
        weight.copy_(weight.float() + delta.to(weight.device))
    return len(updates)


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
    :func:`merge_lora`.

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


def _pairs(tensors: Mapping[str, Tensor], file: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    """Names of the adapted layers, with the ends of their two matrices' keys."""
    for key in tensors:
        for ends in (LINEAR, EMBEDDING):
            if key.endswith(ends[0]):
                name = key.removesuffix(ends[0])
                if name + ends[1] not in tensors:
                    raise CheckpointError(f"{file.name} has {key} without its {name + ends[1]}")
                yield name, ends


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    for name in FILE_NAMES:
        if (path / name).is_file():
            return path / name
    raise CheckpointError(f"{path} holds no adapter; expected {' or '.join(FILE_NAMES)}")


class _Alphas:
    """An adapter's alpha: from its configuration or file, else its rank, which means scale 1."""

    def __init__(self, values: object, file: Path) -> None:
        if not isinstance(values, dict):
            raise CheckpointError(f"the configuration of {file.name} must be a JSON object")
        unread = [name for name in UNREAD_SWITCHES if values.get(name)]
        if unread:
            raise CheckpointError(f"{file.name} needs {listed(unread)}, which is not supported")
        patterns = values.get("alpha_pattern") or {}
        if not isinstance(patterns, dict):
            raise CheckpointError(f"the alpha_pattern of {file.name} must be a JSON object")
        self.patterns = [
            (_layer_pattern(name, file), _number(each, file)) for name, each in patterns.items()
        ]
        self.alpha = _number(values["lora_alpha"], file) if "lora_alpha" in values else None
        self.by_root = bool(values.get("use_rslora"))

    def __call__(self, name: str, rank: int) -> float:
        """Alpha to be divided by the rank; rsLoRA (arXiv 2312.03732) divides by its square root.

        Args:
            name: The layer, in the model that the adapter was made for.
            rank: That of its matrices, which a ``rank_pattern`` can only confirm.
        """
        alpha = float(rank) if self.alpha is None else self.alpha
        # The first that matches counts, as in peft.
        alpha = next((value for pattern, value in self.patterns if pattern.match(name)), alpha)
        return alpha * rank**0.5 if self.by_root else alpha


def _layer_pattern(pattern: str, file: Path) -> re.Pattern[str]:
    """A key of ``alpha_pattern``, read as peft does: a regular expression for the end of a name."""
    try:
        return re.compile(rf"(.*\.)?({pattern})$")
    except re.error as cause:
        raise CheckpointError(
            f"{file.name}: {pattern!r} in alpha_pattern is no regular expression ({cause})"
        ) from None


def _number(value: object, file: Path) -> float:
    """A finite number of an adapter's configuration."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise CheckpointError(f"an alpha of {file.name} must be a finite number, got {value!r}")
    return float(value)


def _alphas(file: Path) -> _Alphas:
    config = file.parent / "adapter_config.json"
    try:
        if file.name == PEFT_FILE and config.is_file():
            return _Alphas(read_json(config), file)
        with safe_open(file, "pt") as opened:
            metadata = opened.metadata() or {}
        values = parse_json(metadata.get("lora_adapter_metadata", "{}"))
    except (ValueError, OSError) as cause:
        raise CheckpointError(f"the configuration of {file.name} cannot be read: {cause}") from None
    if isinstance(values, dict):
        # diffusers writes the configuration of each component under its prefix.
        values = {key.removeprefix("transformer."): value for key, value in values.items()}
    return _Alphas(values, file)


def _unwrapped(name: str) -> str:
    """A layer's name without the prefixes that wrappers of the whole model add."""
    while wrapper := next((each for each in WRAPPERS if name.startswith(each)), None):
        name = name.removeprefix(wrapper)
    return name


def _own_name(name: str) -> str:
    """A layer's name in the model that was adapted; diffusers writes it after its component."""
    return _unwrapped(name).removeprefix("transformer.")


def _target(model: DeepGen, name: str, file: Path) -> Tensor:
    """The weight that an adapter's key refers to."""
    roots: dict[str, nn.Module] = {
        "transformer.": model.dit,
        "vlm.": model.conditioner.vlm,
        "connector.": model.conditioner.bridge,
    }
    plain = _unwrapped(name)
    root = next((each for each in roots if plain.startswith(each)), "transformer.")
    if plain.startswith(QWEN):
        # Names of the whole Qwen2.5-VL, in any version of transformers.
        root, plain = "vlm.", module_key(plain)
    if plain.removeprefix("vlm.").startswith("visual."):
        model.conditioner.vlm.require_vision()
    try:
        weight = roots[root].get_parameter(f"{plain.removeprefix(root)}.weight")
    except AttributeError:
        raise CheckpointError(
            f"{file.name} adapts {name}, which this model does not have; it is for another model"
        ) from None
    return weight
