"""LoRA adapters: saving, and merging into weights (arXiv 2106.09685).

Two layouts are read and written: diffusers'
(``pytorch_lora_weights.safetensors``, keys ``transformer.*.lora_A.weight``) and peft's
(``adapter_model.safetensors`` next to ``adapter_config.json``, keys
``base_model.model.*.lora_A.weight``).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from deepgen.checkpoint.files import CARD_NAME, listed
from deepgen.checkpoint.headers import StoredTensor, read_header
from deepgen.checkpoint.weights import is_finite, read_tensors
from deepgen.checkpoint.writing import atomic_folder, write_json
from deepgen.conditioning.vlm import VisionLanguageModel
from deepgen.conditioning.vlm_layers import module_key
from deepgen.config.checks import check_within
from deepgen.config.model import MAX_LORA_ALPHA, MAX_LORA_RANK, MAX_LORA_SCALE
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
PATTERN_SECONDS = 1.0
"""For matching all patterns of an adapter with all layers, which takes some milliseconds."""
MAX_PATTERN = 500
MAX_PATTERNS = 1000
SHOWN = 80
QWEN = ("model.language_model.", "language_model.", "model.visual.", "visual.")


@torch.no_grad()
def merge_lora(model: DeepGen, path: Path, scale: float = 1.0) -> int:
    """Add an adapter to the weights in place: ``W + scale * (alpha / r) * B A``, rounded once.

    If anything does not fit, nothing is changed. Names, shapes and numbers are checked before a
    weight is read: a file of no bytes on disk can state gigabytes.

    Args:
        path: An adapter file, or a folder with one.
        scale: Factor on top of the adapter's alpha; the same call with ``-scale`` undoes it, up to
            rounding.

    Returns:
        The number of adapted layers.

    Raises:
        CheckpointError: The file is not an adapter, has incomplete pairs, or adapts layers that
            the model lacks or has in another shape; or merged weights would not be finite.
        ValueError: The scale is no number, or beyond ``MAX_LORA_SCALE``.
    """
    check_within("scale", scale, -MAX_LORA_SCALE, MAX_LORA_SCALE)
    file = _find(path)
    stored = read_header(file)
    layers = _layers(model, stored, file)
    alphas = _alphas(file)
    tensors = dict(read_tensors("adapter", stored, dtype=torch.float32, device=torch.device("cpu")))
    updates = []
    for name, ends, weight in layers:
        down, up = (tensors[name + end] for end in ends)
        if ends == EMBEDDING:
            # The rows of an embedding are its outputs: W + (B A)^T.
            down, up = up.T, down.T
        rank = down.shape[0]
        own = tensors.get(name + ALPHA)
        alpha = alphas(_own_name(name), rank) if own is None else _number(own.item(), file)
        update = _Update(weight, down, up, scale * alpha / rank)
        if not update.is_finite():
            raise CheckpointError(
                f"{file.name}: {name} would have values that are not finite in "
                f"{str(weight.dtype).removeprefix('torch.')}; merge it with a smaller scale"
            )
        updates.append(update)
    for update in updates:
        update.weight.copy_(update.merged())
    return len(updates)


@dataclass(frozen=True, slots=True)
class _Update:
    """A weight and what is added to it, ``factor * up @ down``."""

    weight: Tensor
    down: Tensor
    up: Tensor
    factor: float

    def merged(self) -> Tensor:
        """The weight with the update, in its own type."""
        delta = self.up @ self.down * self.factor
        merged: Tensor = (self.weight.float() + delta.to(self.weight.device)).to(self.weight.dtype)
        return merged

    def is_finite(self) -> bool:
        """Whether all merged values are finite; computed only where they might not be."""
        largest = float(self.up.abs().max()) * float(self.down.abs().max()) * abs(self.factor)
        largest = largest * self.down.shape[0] + float(self.weight.abs().max())
        return largest < torch.finfo(self.weight.dtype).max or is_finite(self.merged())


def _layers(
    model: DeepGen, stored: Mapping[str, StoredTensor], file: Path
) -> list[tuple[str, tuple[str, str], Tensor]]:
    """Each adapted layer: its name, the ends of its two matrices' keys, and the model's weight.

    Raises:
        CheckpointError: A key is unknown, or a shape does not fit.
    """
    found = []
    unused = dict.fromkeys(stored)
    for name, ends in _pairs(stored, file):
        for part in (*ends, ALPHA):
            unused.pop(name + part, None)
        down, up = (stored[name + end].shape for end in ends)
        if (len(down), len(up)) != (2, 2) or 0 in (*down, *up):
            raise CheckpointError(f"{file.name}: {name} has no two matrices of a rank above 0")
        if ends == EMBEDDING:
            down, up = up[::-1], down[::-1]
        weight = _target(model, name, file)
        if (up[0], down[1]) != tuple(weight.shape) or up[1] != down[0]:
            raise CheckpointError(
                f"{file.name}: {name} adapts a layer of {up[0]} x {down[1]}, but this "
                f"model's is {' x '.join(map(str, weight.shape))}; it is for another model"
            )
        if down[0] > MAX_LORA_RANK:
            raise CheckpointError(
                f"{file.name}: {name} has rank {down[0]}, but {MAX_LORA_RANK} is the limit"
            )
        if name + ALPHA in stored and stored[name + ALPHA].size != 1:
            raise CheckpointError(f"{file.name}: {name + ALPHA} must be one number")
        found.append((name, ends, weight))
    if unused or not found:
        kinds = listed(unused) if unused else "no lora_A weights"
        raise CheckpointError(f"{file.name} is not a supported LoRA adapter: {kinds}")
    return found


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


def _pairs(tensors: Mapping[str, object], file: Path) -> Iterator[tuple[str, tuple[str, str]]]:
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
        if len(patterns) > MAX_PATTERNS:
            raise CheckpointError(f"{file.name} has more than {MAX_PATTERNS} alpha patterns")
        self.patterns = [
            (_layer_pattern(name, file), _number(each, file)) for name, each in patterns.items()
        ]
        self.file = file
        self.seconds_left = PATTERN_SECONDS
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
        alpha = next(
            (value for pattern, value in self.patterns if self._match(pattern, name)), alpha
        )
        return alpha * rank**0.5 if self.by_root else alpha

    def _match(self, pattern: Any, name: str) -> bool:
        """Whether a pattern matches a name; some need more time than anybody has.

        Raises:
            CheckpointError: All together have taken ``PATTERN_SECONDS``.
        """
        began = time.monotonic()
        try:
            return bool(pattern.match(name, timeout=max(self.seconds_left, 1e-3)))
        except TimeoutError:
            raise CheckpointError(
                f"matching the alpha_pattern of {self.file.name} takes more than "
                f"{PATTERN_SECONDS:g} s; write out the layers' names"
            ) from None
        finally:
            self.seconds_left -= time.monotonic() - began


def _layer_pattern(pattern: str, file: Path) -> Any:
    """A key of ``alpha_pattern``, read as peft does: a regular expression for the end of a name."""
    # Imported here: few adapters have patterns. Unlike re, it can be stopped.
    import regex

    whole = rf"(.*\.)?({pattern})$"
    try:
        if len(pattern) > MAX_PATTERN:
            raise re.error(f"it has more than {MAX_PATTERN} characters")
        # What peft cannot read is no pattern either: regex knows more than re.
        re.compile(whole)
        return regex.compile(whole)
    except (re.error, regex.error, RecursionError, OverflowError) as cause:
        raise CheckpointError(
            f"{file.name}: {pattern[:SHOWN]!r} in alpha_pattern is no regular expression ({cause})"
        ) from None


def _number(value: object, file: Path) -> float:
    """An alpha of an adapter, within the range of all."""
    try:
        check_within(f"an alpha of {file.name}", value, -MAX_LORA_ALPHA, MAX_LORA_ALPHA)
    except ValueError as cause:
        raise CheckpointError(str(cause)) from None
    return float(value)  # type: ignore[arg-type]


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
