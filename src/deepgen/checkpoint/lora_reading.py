"""Adapters as changes of a model's weights: LoRA, LoHa and LoKr.

LoRA is ``B A`` (arXiv 2106.09685), LoHa the elementwise product of two such (2108.06098), LoKr a
Kronecker product of two matrices, each of which may be such a product (2212.10650).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from deepgen.checkpoint.files import listed
from deepgen.checkpoint.headers import StoredTensor, read_header
from deepgen.checkpoint.lora_alpha import PEFT_FILE, Alphas, number, read_alphas
from deepgen.checkpoint.lora_names import (
    ALPHA,
    EMBEDDING,
    LOHA,
    LOKR,
    LORA,
    LayerNames,
    Target,
    find_weight,
    own_name,
    split_key,
)
from deepgen.checkpoint.merging import low_rank_product
from deepgen.checkpoint.weights import read_tensors
from deepgen.config.model import MAX_LORA_RANK
from deepgen.errors import CheckpointError, shown
from deepgen.model import DeepGen

DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"
FILE_NAMES = (DIFFUSERS_FILE, PEFT_FILE)

Roles = dict[str, StoredTensor]
"""The tensors of one adapted layer, by what they are in it."""


@dataclass(frozen=True, slots=True)
class Change:
    """What one layer of an adapter adds to a weight."""

    layer: str
    """In the adapter's file."""
    target: Target
    parts: Mapping[str, Tensor]
    """Its matrices by their role, in float32."""
    factor: float
    """``alpha / r``."""

    def matrix(self, device: torch.device | str = "cpu") -> Tensor:
        """The change at scale 1, in float32 and the weight's shape."""
        part = {role: value.to(device) for role, value in self.parts.items()}
        if "down" in part:
            change = low_rank_product(part["down"], self._rows(part["up"]), is_embedding=False)
        elif "embedding_down" in part:
            down, up = part["embedding_down"], part["embedding_up"]
            change = low_rank_product(down, up, is_embedding=True)
        elif "hada_w1_a" in part:
            first, second = (
                self._rows(part[f"hada_{each}_a"]) @ part[f"hada_{each}_b"] for each in ("w1", "w2")
            )
            change = first * second
        else:
            first, second = (
                part[name] if name in part else part[f"{name}_a"] @ part[f"{name}_b"]
                for name in ("lokr_w1", "lokr_w2")
            )
            change = self._rows(torch.kron(first, second))
        if self.target.is_swapped:
            change = torch.cat(change.chunk(2)[::-1])
        return change * self.factor

    def largest(self) -> float:
        """No value of the change at scale 1 exceeds this."""
        found = abs(self.factor)
        for role, value in self.parts.items():
            found *= float(value.abs().max())
            # Each product sums as many values as its rank; the other factor of a pair is counted
            # by itself.
            if role in ("down", "embedding_down") or role.endswith("_b"):
                found *= value.shape[0]
        return found

    def _rows(self, value: Tensor) -> Tensor:
        """The rows of a joined layer that are the target's."""
        return value if self.target.third is None else value.chunk(3)[self.target.third]


def find_file(path: Path, name: str | None = None) -> Path:
    """The adapter's file: this one, or one in this folder.

    Raises:
        CheckpointError: There is none.
    """
    if path.is_file() and name is None:
        return path
    names = FILE_NAMES if name is None else (name,)
    for each in names:
        if (path / each).is_file():
            return path / each
    raise CheckpointError(f"{path} holds no adapter; expected {' or '.join(names)}")


@torch.no_grad()
def read_adapter(model: DeepGen, file: Path) -> list[Change]:
    """The changes that an adapter makes to a model.

    Names, shapes and numbers are checked before a weight is read: a file of no bytes on disk can
    state gigabytes.

    Raises:
        CheckpointError: The file is not an adapter, has incomplete layers, or adapts layers that
            the model lacks or has in another shape; or values are not finite.
    """
    stored = read_header(file)
    layers = _layers(stored, file)
    targets = _targets(model, layers, file)
    alphas = read_alphas(file)
    tensors = dict(read_tensors("adapter", stored, dtype=torch.float32, device=torch.device("cpu")))
    changes = []
    for layer, roles in layers.items():
        parts = {role: tensors[each.name] for role, each in roles.items()}
        alpha = parts.pop(ALPHA, None)
        factor = _factor(layer, roles, None if alpha is None else alpha.item(), alphas, file)
        changes += [Change(layer, target, parts, factor) for target in targets[layer]]
    return changes


def _factor(layer: str, roles: Roles, stored: float | None, alphas: Alphas, file: Path) -> float:
    """``alpha / r`` of a layer."""
    rank = _rank(roles)
    if rank is None:
        # LoKr of two full matrices: only peft scales it, by the rank it was asked for.
        rank = alphas.rank
        if rank is None:
            return 1.0
    alpha = alphas(own_name(layer), rank) if stored is None else number(stored, file)
    return alpha / rank


def _layers(stored: Mapping[str, StoredTensor], file: Path) -> dict[str, Roles]:
    """Adapted layers by name.

    Raises:
        CheckpointError: Keys are unknown, or matrices are missing.
    """
    layers: dict[str, Roles] = {}
    unknown = []
    for key, tensor in stored.items():
        found = split_key(key)
        if found is None or layers.get(found[0], {}).get(found[1]) is not None:
            unknown.append(key)
            continue
        layers.setdefault(found[0], {})[found[1]] = tensor
    without_matrices = [layer for layer, roles in layers.items() if roles.keys() == {ALPHA}]
    unknown += [layers.pop(layer)[ALPHA].name for layer in without_matrices]
    if unknown or not layers:
        kinds = listed(unknown) if unknown else "no lora_A weights"
        raise CheckpointError(f"{file.name} is not a supported LoRA adapter: {kinds}")
    for layer, roles in layers.items():
        if not _is_complete(roles.keys() - {ALPHA}):
            names = listed(each.name for role, each in roles.items() if role != ALPHA)
            raise CheckpointError(
                f"{file.name} has {names} of {shown(layer)} without its other half"
            )
    return layers


def _is_complete(roles: set[str]) -> bool:
    if roles in (set(LORA), set(EMBEDDING), set(LOHA)):
        return True
    # Each of the two matrices of LoKr is there in full, or as a product.
    full = [{"lokr_w1"}, {"lokr_w2"}]
    low = [{"lokr_w1_a", "lokr_w1_b"}, {"lokr_w2_a", "lokr_w2_b"}]
    return roles <= set(LOKR) and any(
        roles == first | second for first in (full[0], low[0]) for second in (full[1], low[1])
    )


def _targets(
    model: DeepGen, layers: Mapping[str, Roles], file: Path
) -> dict[str, tuple[Target, ...]]:
    """What each layer is in the model.

    Raises:
        CheckpointError: Some are not there, or have other shapes.
    """
    find = LayerNames(model)
    targets = {layer: find(layer) for layer in layers}
    absent = [layer for layer, found in targets.items() if not found]
    if absent:
        count = "none" if len(absent) == len(layers) else f"{len(layers) - len(absent)}"
        raise CheckpointError(
            f"{file.name} adapts {len(absent)} layers that this model does not have "
            f"({listed(absent)}) and {count} that it has; it is for another model"
        )
    misfits = []
    for layer, roles in layers.items():
        rows, columns = _shape(layer, roles, file)
        own = [tuple(find_weight(model, each.weight).shape) for each in targets[layer]]
        if own != [(rows // len(own), columns)] * len(own) or rows % len(own):
            sizes = " and ".join(sorted({" x ".join(map(str, each)) for each in own}))
            misfits.append(f"{layer} is {rows} x {columns}, here {sizes}")
    if misfits:
        raise CheckpointError(
            f"{file.name} adapts {len(misfits)} of {len(layers)} layers in other shapes than this "
            f"model's ({listed(misfits)}); it is for another model"
        )
    return targets


def _rank(roles: Roles) -> int | None:
    """Rank of a layer's matrices; None if none of them shows it."""
    for role in ("down", "embedding_down", "hada_w1_b", "lokr_w1_b", "lokr_w2_b"):
        if role in roles:
            return roles[role].shape[0]
    return None


def _shape(layer: str, roles: Roles, file: Path) -> tuple[int, int]:
    """Rows and columns of what a layer adds.

    Raises:
        CheckpointError: Its matrices do not fit each other, or are too large.
    """
    shapes = {role: each.shape for role, each in roles.items() if role != ALPHA}
    if any(len(shape) != 2 or 0 in shape for shape in shapes.values()):
        raise CheckpointError(f"{file.name}: {layer} has no two matrices of a rank above 0")
    if ALPHA in roles and roles[ALPHA].size != 1:
        raise CheckpointError(f"{file.name}: {roles[ALPHA].name} must be one number")
    if "down" in shapes:
        pairs = [(shapes["up"], shapes["down"])]
    elif "embedding_down" in shapes:
        pairs = [(shapes["embedding_down"][::-1], shapes["embedding_up"][::-1])]
    else:
        pairs = [
            (shapes[f"{name}_a"], shapes[f"{name}_b"])
            for name in ("hada_w1", "hada_w2", "lokr_w1", "lokr_w2")
            if f"{name}_a" in shapes
        ]
    for first, second in pairs:
        if first[1] != second[0]:
            raise CheckpointError(
                f"{file.name}: {layer} has matrices of the ranks {first[1]} and {second[0]}, one "
                "rank is expected"
            )
        if first[1] > MAX_LORA_RANK:
            raise CheckpointError(
                f"{file.name}: {layer} has rank {first[1]}, but {MAX_LORA_RANK} is the limit"
            )
    products = [(first[0], second[1]) for first, second in pairs]
    full = [shapes[name] for name in ("lokr_w1", "lokr_w2") if name in shapes]
    if "hada_w1_a" in shapes:
        if products[0] != products[1]:
            raise CheckpointError(f"{file.name}: {layer} has two products of different shapes")
        return products[0]
    sides = [*products, *full]
    rows, columns = sides[0]
    for more in sides[1:]:
        rows, columns = rows * more[0], columns * more[1]
    return rows, columns
