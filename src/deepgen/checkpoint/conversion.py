"""Native training checkpoints to model folders, and back.

A native checkpoint has the DiT, the bridge and the VLM's adapters, or its full weights; everything
else is taken from base folders. Every tensor is accounted for.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
from safetensors import safe_open
from torch import Tensor

from deepgen.checkpoint.bases import Bases, copy_files
from deepgen.checkpoint.configs import (
    DIT_CLASS,
    PIPELINE_CLASS,
    SCHEDULER_CLASS,
    VAE_CLASS,
    VLM_CLASS,
)
from deepgen.checkpoint.files import (
    CONFIG_NAMES,
    INDEX_NAME,
    TEMPLATE_NAME,
    WEIGHT_STEMS,
    listed,
    read_json,
    stored_weights,
)
from deepgen.checkpoint.folder import load_on_meta
from deepgen.checkpoint.headers import StoredTensor
from deepgen.checkpoint.native import AdapterNames, adapter_names, base_names
from deepgen.checkpoint.pickles import CONVERTED_SHARD_BYTES, unpack
from deepgen.checkpoint.weights import is_finite
from deepgen.checkpoint.writing import atomic_folder, write_json, write_shards
from deepgen.conditioning.prompts import PromptTemplate
from deepgen.conditioning.vlm_layers import used_layers
from deepgen.errors import CheckpointError

HEAD = "lm_head.weight"
EMBEDDING = "language_model.embed_tokens.weight"

UNPACKED = ".native"
"""Folder for what was read from a pickle, inside the one that is being written."""


@dataclass(frozen=True, slots=True)
class Converted:
    """What a conversion did."""

    tensors: Mapping[str, int]
    """Number of tensors of the source, by component."""
    taken: Mapping[str, Path]
    """Components that came from a base, and from which."""
    adapters: int
    """Adapters merged into the VLM; those that change nothing are not counted."""


def native_to_folder(
    source: Path,
    target: Path,
    *,
    bases: Sequence[Path] = (),
    lora_alpha: float | None = None,
    overwrite: bool = False,
) -> Converted:
    """Make a model folder of a native checkpoint.

    Tensors keep the dtype that they are stored in; merged ones get the base's.

    Args:
        source: A file of ``torch.save``.
        target: The folder; it appears complete or not at all.
        bases: Where to find what the checkpoint lacks, searched in order.
        lora_alpha: Alpha of the adapters, which the checkpoint does not hold.
        overwrite: Replace an existing model folder.

    Raises:
        CheckpointError: The checkpoint is unusable, something is missing, or does not fit.
    """
    found = Bases(bases)
    with atomic_folder(target, overwrite=overwrite) as folder:
        unpack(source, folder / UNPACKED)
        tensors, taken = {}, {}
        for component in WEIGHT_STEMS:
            own = folder / UNPACKED / component
            stored = stored_weights(own, WEIGHT_STEMS[component]) if own.is_dir() else {}
            tensors[component] = len(stored)
            base = found.require(component)
            if not stored:
                copy_files(base, folder / component, component)
                taken[component] = base
            elif component != "vlm":
                own.rename(folder / component)
                shutil.copyfile(base / "config.json", folder / component / "config.json")
        adapters = 0
        if tensors["vlm"]:
            stored = stored_weights(folder / UNPACKED / "vlm", WEIGHT_STEMS["vlm"])
            adapters = _write_vlm(stored, folder, found, lora_alpha)
            taken["vlm"] = found.require("vlm")
        shutil.rmtree(folder / UNPACKED)
        taken |= copy_rest(found, folder)
        # Names and shapes of all tensors, and what all configurations say.
        load_on_meta(folder)
    return Converted(tensors, taken, adapters)


def copy_rest(bases: Bases, folder: Path) -> dict[str, Path]:
    """What has no weights: scheduler, tokenizer, template and index."""
    taken = {}
    for component in ("scheduler", "tokenizer"):
        taken[component] = bases.require(component)
        copy_files(taken[component], folder / component, component)
    write_json(folder / TEMPLATE_NAME, bases.template() or PromptTemplate().to_json())
    tokenizer = read_json(folder / "tokenizer" / CONFIG_NAMES["tokenizer"], "tokenizer_config.json")
    write_json(
        folder / INDEX_NAME,
        {
            "_class_name": PIPELINE_CLASS,
            "_diffusers_version": diffusers.__version__,
            "transformer": ["diffusers", DIT_CLASS],
            "vae": ["diffusers", VAE_CLASS],
            "scheduler": ["diffusers", SCHEDULER_CLASS],
            "vlm": ["transformers", VLM_CLASS],
            "tokenizer": ["transformers", str(tokenizer.get("tokenizer_class", "Qwen2Tokenizer"))],
            "connector": [None, None],
            **bases.defaults(),
        },
    )
    return taken


def _write_vlm(
    stored: Mapping[str, StoredTensor], folder: Path, bases: Bases, lora_alpha: float | None
) -> int:
    """Write the VLM, merged or in full; the number of adapters that change it.

    Raises:
        CheckpointError: Adapters are incomplete, fit nothing, or have no alpha.
    """
    base = bases.require("vlm")
    values = read_json(base / "config.json", "vlm/config.json")
    adapters, full = adapter_names(stored), base_names(stored)
    if adapters and lora_alpha is None:
        raise CheckpointError(
            f"the checkpoint has {len(adapters)} adapters and does not say their alpha; add "
            "--lora-alpha (128 for the released model)"
        )
    if full:
        weights = {key: stored[name] for key, name in full.items()}
    else:
        named = stored_weights(base, WEIGHT_STEMS["vlm"])
        weights = {key: named[name] for key, name in base_names(named).items()}
    names = _file_names(weights)
    if HEAD in adapters and HEAD not in weights:
        # Tied to the embedding until now, whose own adapter must not reach it (or the reverse).
        weights[HEAD], names[HEAD] = weights[EMBEDDING], HEAD
        values = _untied(values)
    if adapters:
        _check_adapters(adapters, weights, _depth(values, folder))
    merge = _Merge(weights, stored, adapters, lora_alpha or 0.0)
    (folder / "vlm").mkdir()
    write_json(folder / "vlm" / "config.json", values)
    keys = {name: key for key, name in names.items()}
    write_shards(
        folder / "vlm",
        "vlm",
        {name: weights[key].bytes for name, key in keys.items()},
        lambda name: merge(keys[name]),
        shard_bytes=CONVERTED_SHARD_BYTES,
    )
    return merge.changed


def _file_names(weights: Mapping[str, StoredTensor]) -> dict[str, str]:
    """Names for a file that every version of transformers reads, as 4.56 wrote them."""
    return {key: key.replace("language_model.", "model.", 1) for key in weights}


def _untied(values: Mapping[str, Any]) -> dict[str, Any]:
    untied = {**values, "tie_word_embeddings": False}
    if isinstance(values.get("text_config"), dict):
        untied["text_config"] = {**values["text_config"], "tie_word_embeddings": False}
    return untied


def _depth(values: Mapping[str, Any], folder: Path) -> tuple[int, int]:
    """Decoder layers of the VLM, and how many of them the bridge reads."""
    text = values.get("text_config")
    layers = (text if isinstance(text, dict) else values).get("num_hidden_layers")
    if type(layers) is not int or layers < 1:
        raise CheckpointError(f"vlm/config.json: num_hidden_layers cannot be {layers!r}")
    stored = stored_weights(folder / "connector", WEIGHT_STEMS["connector"])
    width = stored["meta_queries"].shape[-1] if "meta_queries" in stored else 0
    features = stored["projector_1.weight"].shape[-1] if "projector_1.weight" in stored else 0
    count = features // width if width else 1
    return layers, used_layers(layers, "last" if count <= 1 else "stacked", max(count, 1))


def _check_adapters(
    adapters: Mapping[str, AdapterNames],
    weights: Mapping[str, StoredTensor],
    depth: tuple[int, int],
) -> None:
    """Refuse adapters of other layers than training makes: all of the VLM, or those it reads.

    Raises:
        CheckpointError: Some fit nothing, or some are missing.
    """
    layers, read = depth
    every = {key for key, tensor in weights.items() if len(tensor.shape) == 2} | {HEAD}
    foreign = adapters.keys() - every
    if foreign:
        raise CheckpointError(f"{len(foreign)} adapters fit no layer of the VLM: {listed(foreign)}")
    dead = tuple(f"language_model.layers.{layer}." for layer in range(read, layers))
    live = {key for key in every if key.startswith("language_model.") and not key.startswith(dead)}
    missing = every - adapters.keys()
    if missing and adapters.keys() != live:
        raise CheckpointError(
            f"{len(missing)} layers of the VLM have no adapter ({listed(missing)}), but training "
            "adapts all of them, or exactly those that the bridge reads"
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
        self.changed = 0

    def __call__(self, key: str) -> Tensor:
        """One weight in its stored dtype.

        Raises:
            CheckpointError: Its adapter has another shape, or it is not finite.
        """
        weight = read_one(self.weights[key])
        if key not in self.names:
            return weight
        names = self.names[key]
        down, up = (read_one(self.adapters[name]).float() for name in (names.down, names.up))
        if (down.ndim, up.ndim) != (2, 2) or down.shape[0] != up.shape[1] or 0 in down.shape:
            raise CheckpointError(f"the adapter of {key!r} is no pair of matrices of one rank")
        rank = down.shape[0]
        # The rows of an embedding are its outputs: (B A)^T.
        delta = down.T @ up.T if names.is_embedding else up @ down
        if delta.shape != weight.shape:
            raise CheckpointError(
                f"the adapter of {key!r} is for {list(delta.shape)}, the base has "
                f"{list(weight.shape)}; it is for another model"
            )
        if not delta.any():
            return weight
        self.changed += 1
        # In place, since a table of embeddings takes a gigabyte.
        merged = delta.mul_(self.alpha / rank).add_(weight).to(weight.dtype)
        if not is_finite(merged):
            raise CheckpointError(f"{key!r} is not finite once its adapter is merged")
        return merged


def read_one(tensor: StoredTensor) -> Tensor:
    """One tensor of a file, in its stored dtype."""
    with safe_open(tensor.file, "pt") as file:
        value: Tensor = file.get_tensor(tensor.name)
    return value
