"""The files of a model folder, checked before they are opened; no torch in here.

Only JSON, the tokenizer's texts and safetensors are ever read.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepgen import reading
from deepgen.checkpoint.headers import StoredTensor, read_header
from deepgen.errors import CheckpointError, reason_of, shown
from deepgen.reading import walk

WEIGHT_STEMS = {
    "transformer": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "vlm": "model",
    "connector": "model",
}
"""File names of each component's weights, as in diffusers and transformers."""

CONFIG_NAMES = {
    "transformer": "config.json",
    "vae": "config.json",
    "vlm": "config.json",
    "connector": "config.json",
    "scheduler": "scheduler_config.json",
    "tokenizer": "tokenizer_config.json",
}

INDEX_NAME = "model_index.json"
TEMPLATE_NAME = "prompt_template.json"
CARD_NAME = "model_card.json"
"""Record of the training; nothing is loaded from it."""

PICKLE_SUFFIXES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}

VOCABULARY_NAMES = ("vocab.json", "merges.txt")
"""The files of a tokenizer without ``tokenizer.json``."""

LARGEST_NUMBER = 10**38
"""transformers writes 10^30 for a tokenizer without a maximum length."""

LISTED_NAMES = 4
"""How many names a message lists; the rest is counted."""


class ModelFolder:
    """A model folder in the layout of diffusers.

    Raises:
        CheckpointError: It is not a model folder, has no files of the variant, or a link in it
            leads out of it.
    """

    def __init__(self, path: Path, variant: str | None = None) -> None:
        self.path = path
        self.variant = variant
        self.replaced: Mapping[str, Mapping[str, StoredTensor]] = {}
        """Tensors of other files in place of the folder's own, by component."""
        if not path.is_dir():
            raise CheckpointError(f"{path} is not a folder")
        if not (path / INDEX_NAME).is_file():
            raise CheckpointError(f"{path} is not a model folder: it has no {INDEX_NAME}")
        refuse_links_outside(path)
        if variant is not None:
            check_variant(variant)
            if not any(_variant_file(path / e, s, variant) for e, s in WEIGHT_STEMS.items()):
                raise CheckpointError(f"{path} has no weights of the variant {variant}")

    def missing(self) -> list[str]:
        """Required files that this folder lacks."""
        needed = [f"{component}/{name}" for component, name in CONFIG_NAMES.items()]
        # One file, or two for Qwen's older tokenizers. Without them every text would be empty.
        split = [f"tokenizer/{name}" for name in VOCABULARY_NAMES]
        if not all((self.path / name).is_file() for name in split):
            needed.append("tokenizer/tokenizer.json")
        return [name for name in (*needed, TEMPLATE_NAME) if not (self.path / name).is_file()]

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object of the folder, as plain values.

        Raises:
            CheckpointError: It is missing or damaged.
        """
        return read_json(self.path / name, name)

    def config(self, component: str) -> dict[str, Any]:
        """A component's configuration."""
        return self.json(f"{component}/{CONFIG_NAMES[component]}")

    def stored(self, component: str) -> dict[str, StoredTensor]:
        """All tensors of a component by name, from one file or several.

        Raises:
            CheckpointError: Files are missing, damaged, pickles, or differ from their index.
        """
        if component in self.replaced:
            return dict(self.replaced[component])
        return stored_weights(self.path / component, WEIGHT_STEMS[component], self.variant)


def read_json(path: Path, name: str) -> dict[str, Any]:
    """A JSON object, as plain values.

    Args:
        path: The file.
        name: What messages call it.

    Raises:
        CheckpointError: It is missing or damaged.
    """
    if not path.is_file():
        raise CheckpointError(f"{name} is missing")
    try:
        values = reading.read_json(path)
        _refuse_odd_numbers(values)
    except (OSError, ValueError) as cause:
        raise CheckpointError(f"{name} cannot be read: {reason_of(cause)}") from cause
    if not isinstance(values, dict):
        raise CheckpointError(f"{name} must hold a JSON object")
    return values


def check_variant(variant: str) -> None:
    """Refuse a variant, such as ``fp16``, that cannot be part of a file's name.

    Raises:
        CheckpointError: It is anything but letters, digits, ``_`` and ``-``.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", variant):
        raise CheckpointError(f"a variant is a word such as fp16, got {shown(variant)}")


def _variant_file(folder: Path, stem: str, variant: str) -> Path | None:
    """The single file of a variant, or its index, as diffusers and transformers name them."""
    names = f"{stem}.{variant}.safetensors", f"{stem}.safetensors.index.{variant}.json"
    return next((folder / name for name in names if (folder / name).is_file()), None)


def stored_weights(folder: Path, stem: str, variant: str | None = None) -> dict[str, StoredTensor]:
    """All tensors of a folder by name, from one file or several.

    Args:
        folder: Named in messages by its last part.
        stem: Of the files' names, see ``WEIGHT_STEMS``.
        variant: Taken where the folder has it, as diffusers does.

    Raises:
        CheckpointError: Files are missing, damaged, pickles, or differ from their index.
    """
    own = _variant_file(folder, stem, variant) if variant else None
    if own is not None:
        return _sharded(own) if own.suffix == ".json" else read_header(own)
    single = folder / f"{stem}.safetensors"
    if single.is_file():
        return read_header(single)
    index = folder / f"{stem}.safetensors.index.json"
    if index.is_file():
        return _sharded(index)
    if folder.is_dir():
        pickles = [each.name for each in folder.iterdir() if each.suffix in PICKLE_SUFFIXES]
        if pickles:
            raise CheckpointError(
                f"{folder.name}/ has {listed(sorted(pickles))} in place of {single.name}; "
                "pickles can run code and are never read, so save the model as safetensors"
            )
    raise CheckpointError(f"{folder.name}/{single.name} is missing")


def _sharded(index: Path) -> dict[str, StoredTensor]:
    folder = index.parent
    where = f"{folder.name}/{index.name}"
    weight_map = read_json(index, where).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{where} has no weight_map")
    odd = [name for name in weight_map.values() if not _is_shard_name(name)]
    if odd:
        raise CheckpointError(f"{where} names files that are not shards: {listed(odd)}")
    found: dict[str, StoredTensor] = {}
    for name in sorted(set(weight_map.values())):
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{folder.name}/{name} is missing")
        for tensor in read_header(path).values():
            if weight_map.get(tensor.name) != name:
                raise CheckpointError(
                    f"{folder.name}/{name} holds {tensor.name!r}, which {index.name} does not list"
                )
            found[tensor.name] = tensor
    absent = weight_map.keys() - found.keys()
    if absent:
        raise CheckpointError(f"{where} names tensors that no file has: {listed(absent)}")
    return found


def listed(names: Any) -> str:
    """The first few names, quoted since they come from files, and the number of the others."""
    ordered = sorted(map(shown, names))
    rest = len(ordered) - LISTED_NAMES
    return ", ".join(ordered[:LISTED_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def _is_shard_name(name: object) -> bool:
    return (
        isinstance(name, str)
        and name.endswith(".safetensors")
        and not set(name) & {"/", "\\", ":", "\0"}
    )


def _refuse_odd_numbers(values: Any) -> None:
    """Refuse NaN, infinity, and numbers that no floating-point type of a model can hold."""
    remaining = [values]
    while remaining:
        each = remaining.pop()
        if isinstance(each, dict):
            remaining.extend(each.values())
        elif isinstance(each, list):
            remaining.extend(each)
        elif isinstance(each, float) and not math.isfinite(each):
            raise ValueError(f"{each} is not a JSON number")
        elif isinstance(each, int) and abs(each) > LARGEST_NUMBER:
            raise ValueError("a whole number has more than 38 digits")


def refuse_links_outside(folder: Path) -> None:
    """Refuse links, except to files of the folder, or from a hub snapshot into the same cache.

    Raises:
        CheckpointError: A link leads elsewhere.
    """
    root = Path(os.path.realpath(folder))
    allowed = [root]
    if root.parent.name == "snapshots" and root.parent.parent.name.startswith("models--"):
        allowed.append(root.parent.parent / "blobs")
    # Not followed: the targets of links within the folder are visited anyway.
    for _, entries in walk(root):
        for entry in entries:
            if not entry.is_symlink():
                continue
            path = Path(entry.path)
            target = Path(os.path.realpath(path))
            if not any(target.is_relative_to(each) for each in allowed):
                raise CheckpointError(
                    f"{folder}: {path.relative_to(root)} is a link out of the folder; "
                    "replace it by the file itself"
                )
