"""The VLM of a native checkpoint: adapters merged into a base, or its full weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from deepgen.checkpoint.configs import read_bridge, read_depth
from deepgen.checkpoint.files import WEIGHT_STEMS, listed, read_json, stored_weights
from deepgen.checkpoint.headers import HasShape, StoredTensor
from deepgen.checkpoint.merging import low_rank_product, merged
from deepgen.checkpoint.native import AdapterNames, adapter_names, base_names
from deepgen.checkpoint.pickles import CONVERTED_SHARD_BYTES
from deepgen.checkpoint.weights import TensorReader, is_finite
from deepgen.checkpoint.writing import write_json, write_shards
from deepgen.conditioning.vlm_layers import used_layers
from deepgen.errors import CheckpointError, shown

HEAD = "lm_head.weight"
EMBEDDING = "language_model.embed_tokens.weight"


@dataclass(frozen=True, slots=True)
class VLMPlan:
    """How a VLM is made; all names and shapes have been checked."""

    values: Mapping[str, Any]
    """Its configuration."""
    full: Mapping[str, str]
    """Full weights of the checkpoint, by module key; empty if the base's are taken."""
    base: Mapping[str, StoredTensor]
    """Weights of the base, by module key."""
    adapters: Mapping[str, AdapterNames]
    alpha: float
    is_head_split: bool
    """Whether the head, tied to the embedding until now, becomes a tensor of its own."""

    def write(self, stored: Mapping[str, StoredTensor], folder: Path) -> int:
        """Write the VLM, merged or in full; the number of adapters that change it.

        Args:
            stored: The checkpoint's tensors of the VLM.
            folder: It is created.

        Raises:
            CheckpointError: Merged weights are not finite.
        """
        weights = {key: stored[name] for key, name in self.full.items()} or dict(self.base)
        if self.is_head_split:
            weights[HEAD] = weights[EMBEDDING]
        merge = _Merge(weights, stored, self.adapters, self.alpha)
        # Names that every version of transformers reads, as 4.56 wrote them.
        keys = {key.replace("language_model.", "model.", 1): key for key in weights}
        folder.mkdir()
        write_json(folder / "config.json", self.values)
        write_shards(
            folder,
            "vlm",
            {name: weights[key].bytes for name, key in keys.items()},
            lambda name: merge(keys[name]),
            shard_bytes=CONVERTED_SHARD_BYTES,
        )
        return merge.changed


def plan_vlm(
    own: Mapping[str, HasShape],
    base: Path,
    bridge: tuple[Mapping[str, Any], Mapping[str, HasShape]],
    lora_alpha: float | None,
) -> VLMPlan:
    """Check the VLM's tensors of a checkpoint, before any is read.

    Args:
        own: The tensors.
        base: Folder of the VLM that they are for; its configuration is enough for full weights.
        bridge: Configuration and tensors of the bridge.
        lora_alpha: Alpha of the adapters.

    Raises:
        CheckpointError: Adapters are incomplete, fit nothing, or have no alpha.
    """
    values = read_json(base / "config.json", "vlm/config.json")
    adapters, full = adapter_names(own), base_names(own)
    if adapters and lora_alpha is None:
        raise CheckpointError(
            f"the checkpoint has {len(adapters)} adapters and does not say their alpha; add "
            "--lora-alpha (128 for the released model)"
        )
    stored = {} if full else vlm_weights(base)
    shapes = {key: own[name].shape for key, name in full.items()} or {
        key: each.shape for key, each in stored.items()
    }
    if adapters:
        _check_layers(adapters, shapes, _depth(values, *bridge))
    # Merged in place, the tied matrix would get the adapters of both.
    is_head_split = HEAD in adapters and HEAD not in shapes
    if is_head_split:
        if EMBEDDING not in shapes:
            raise CheckpointError("the VLM has no embedding of tokens")
        shapes[HEAD] = shapes[EMBEDDING]
    _check_shapes(adapters, shapes, own)
    if HEAD in shapes and (full or is_head_split):
        values = _untied(values)
    return VLMPlan(values, full, stored, adapters, lora_alpha or 0.0, is_head_split)


def vlm_weights(folder: Path) -> dict[str, StoredTensor]:
    """Tensors of a VLM by module key."""
    stored = stored_weights(folder, WEIGHT_STEMS["vlm"])
    return {key: stored[name] for key, name in base_names(stored).items()}


def _untied(values: Mapping[str, Any]) -> dict[str, Any]:
    untied = {**values, "tie_word_embeddings": False}
    if isinstance(values.get("text_config"), dict):
        untied["text_config"] = {**values["text_config"], "tie_word_embeddings": False}
    return untied


def _depth(
    values: Mapping[str, Any], bridge: Mapping[str, Any], tensors: Mapping[str, HasShape]
) -> tuple[int, int]:
    """Decoder layers of the VLM, and how many of them the bridge reads."""
    layers = read_depth(values)
    config = read_bridge(bridge, tensors)
    try:
        return layers, used_layers(layers, config.kind, config.num_selected_layers)
    except ValueError as cause:
        raise CheckpointError(f"the bridge does not fit the VLM: {cause}") from cause


def _check_layers(
    adapters: Mapping[str, AdapterNames],
    weights: Mapping[str, tuple[int, ...]],
    depth: tuple[int, int],
) -> None:
    """Refuse adapters of other layers than training makes: all of the VLM, or those it reads.

    Raises:
        CheckpointError: Some fit nothing, or some are missing.
    """
    layers, read = depth
    every = {key for key, shape in weights.items() if len(shape) == 2} | {HEAD}
    foreign = adapters.keys() - every
    if foreign:
        raise CheckpointError(f"{len(foreign)} adapters fit no layer of the VLM: {listed(foreign)}")
    dead = tuple(f"language_model.layers.{layer}." for layer in range(read, layers))
    live = {key for key in every if key.startswith("language_model.") and not key.startswith(dead)}
    # Without one of its own, a tied head follows the embedding.
    missing = every - adapters.keys() - ({HEAD} - weights.keys())
    if missing and adapters.keys() != live:
        raise CheckpointError(
            f"{len(missing)} layers of the VLM have no adapter ({listed(missing)}), but training "
            "adapts all of them, or exactly those that the bridge reads"
        )


def _check_shapes(
    adapters: Mapping[str, AdapterNames],
    weights: Mapping[str, tuple[int, ...]],
    own: Mapping[str, HasShape],
) -> None:
    """Refuse adapters for weights of other shapes; a product of two rows can take terabytes.

    Raises:
        CheckpointError: The first that does not fit.
    """
    for key, names in adapters.items():
        down, up = own[names.down].shape, own[names.up].shape
        if (len(down), len(up)) != (2, 2) or down[0] != up[1] or 0 in down:
            raise CheckpointError(
                f"the adapter of {shown(key)} is no pair of matrices of one rank: {list(down)} and "
                f"{list(up)}"
            )
        product = (down[1], up[0]) if names.is_embedding else (up[0], down[1])
        if product != weights[key]:
            raise CheckpointError(
                f"the adapter of {shown(key)} is for {list(product)}, the base has "
                f"{list(weights[key])}; it is for another model"
            )


class _Merge:
    """Reads weights of the VLM with their adapters: ``W + alpha / r * B A``, rounded once."""

    def __init__(
        self,
        weights: Mapping[str, StoredTensor],
        adapters: Mapping[str, StoredTensor],
        names: Mapping[str, AdapterNames],
        alpha: float,
    ) -> None:
        self.weights, self.adapters, self.names, self.alpha = weights, adapters, names, alpha
        self.read = TensorReader()
        self.changed = 0

    def __call__(self, key: str) -> Tensor:
        """One weight in its stored dtype.

        Raises:
            CheckpointError: It is not finite.
        """
        weight = self.read(self.weights[key])
        if key not in self.names:
            return weight
        names = self.names[key]
        down, up = (self.read(self.adapters[name]).float() for name in (names.down, names.up))
        change = low_rank_product(down, up, is_embedding=names.is_embedding)
        if not change.any():
            return weight
        self.changed += 1
        result = merged(weight, [(change, self.alpha / down.shape[0])])
        if not is_finite(result):
            raise CheckpointError(f"{shown(key)} is not finite once its adapter is merged")
        return result
