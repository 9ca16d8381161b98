"""Model folders to native training checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from deepgen.checkpoint.bases import Bases
from deepgen.checkpoint.files import ModelFolder, listed
from deepgen.checkpoint.folder import load_on_meta
from deepgen.checkpoint.headers import StoredTensor
from deepgen.checkpoint.native import native_key
from deepgen.checkpoint.vlm_merging import EMBEDDING, HEAD, read_one, vlm_weights
from deepgen.errors import CheckpointError
from deepgen.images.io import atomic_file

MAX_RANK = 256

TOLERANCE = 1e-6
"""Largest error of an adapter's product, relative to the largest value of its weight."""

SCALE = 2.0
"""alpha / rank of what is written, as published."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    tensors: Mapping[str, int]
    """Number of tensors by component."""
    rank: int | None
    """Of the adapters; None where the VLM was written in full."""

    @property
    def lora_alpha(self) -> float | None:
        """What ``--lora-alpha`` has to be when this is converted back."""
        return None if self.rank is None else SCALE * self.rank


def folder_to_native(
    source: Path, target: Path, *, bases: Sequence[Path] = (), overwrite: bool = False
) -> Exported:
    """Make a native checkpoint of a model folder: DiT, bridge, and the VLM in full.

    Given a base VLM, its place is taken by adapters for it, where the difference is of low rank.

    Args:
        source: The model folder.
        target: The file, for ``torch.load(..., weights_only=True)``.
        bases: Folders, the first of which with a VLM is the base of the adapters.
        overwrite: Replace an existing file.

    Raises:
        CheckpointError: The folder is unusable, or the VLM is not a low-rank change of its base.
    """
    load_on_meta(source)
    folder = ModelFolder(source)
    state: dict[str, Tensor] = {}
    counts = {}
    for component in ("transformer", "connector"):
        stored = folder.stored(component)
        state |= {native_key(component, name): read_one(each) for name, each in stored.items()}
        counts[component] = len(stored)
    vlm = vlm_weights(source / "vlm")
    rank = None
    if bases:
        language, rank = _adapters(vlm, vlm_weights(Bases(bases).require("vlm")))
    else:
        language = {native_key("vlm", key): read_one(each) for key, each in vlm.items()}
    state |= language
    counts["vlm"] = len(language)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(target, overwrite=overwrite) as part:
            torch.save(state, part)
    except ValueError as cause:
        raise CheckpointError(f"{target} exists; choose another name, or overwrite it") from cause
    except OSError as cause:
        raise CheckpointError(f"{target} cannot be written: {cause.strerror or cause}") from cause
    return Exported(counts, rank)


def _adapters(
    vlm: Mapping[str, StoredTensor], base: Mapping[str, StoredTensor]
) -> tuple[dict[str, Tensor], int]:
    """Adapters of one rank that make the VLM of its base: all of its layers, or those it has.

    Raises:
        CheckpointError: Other weights changed too, or the changes are of high rank.
    """
    factors: dict[str, tuple[Tensor, Tensor]] = {}
    changed = []
    for key, tensor in vlm.items():
        origin = base.get(key, base[EMBEDDING] if key == HEAD and EMBEDDING in base else None)
        if origin is None or origin.shape != tensor.shape:
            raise CheckpointError(f"the base has no {key!r} of the shape {list(tensor.shape)}")
        weight, start = read_one(tensor).float(), read_one(origin).float()
        if len(tensor.shape) == 2:
            factors[key] = _factors(key, weight - start, weight.abs().max().item())
        elif not torch.equal(weight, start):
            changed.append(key)
    if not base.keys() <= {*vlm, HEAD}:
        # Without the layers that nothing reads: adapters of what is read, which must be all.
        beyond = [
            key
            for key in factors
            if not key.startswith("language_model.") and factors[key][0].any()
        ]
        changed += beyond
        factors = {key: each for key, each in factors.items() if key.startswith("language_model.")}
    if changed:
        raise CheckpointError(
            f"{len(changed)} weights that adapters cannot hold differ from the base "
            f"({listed(changed)}); without --base the VLM is written in full"
        )
    rank = max((len(down) for down, _ in factors.values()), default=0) or 1
    found = {}
    for key, (down, up) in factors.items():
        down, up = _padded(down, rank), _padded(up.T, rank).T
        name = native_key("vlm", key).removesuffix(".weight")
        if key == EMBEDDING:
            found[f"{name}.lora_embedding_A.default"] = up.T.contiguous()
            found[f"{name}.lora_embedding_B.default"] = down.T.contiguous()
        else:
            found[f"{name}.lora_A.default.weight"] = down.contiguous()
            found[f"{name}.lora_B.default.weight"] = up.contiguous()
    return found, rank


def _factors(key: str, change: Tensor, size: float) -> tuple[Tensor, Tensor]:
    """``A`` and ``B`` of the lowest rank with ``SCALE * B A = change``, up to rounding.

    Args:
        key: The weight's name.
        change: What ``A`` and ``B`` are to add, [out, in].
        size: Largest value of the changed weight.

    Raises:
        CheckpointError: The rank would exceed ``MAX_RANK``.
    """
    if not change.any():
        return change.new_zeros(0, change.shape[1]), change.new_zeros(change.shape[0], 0)
    for rank in (32, 96, MAX_RANK):
        q = min(rank, *change.shape)
        # The seed makes equal folders equal files.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            left, values, right = torch.svd_lowrank(change.double(), q=q, niter=4)
        # No value of what is left out exceeds its largest singular value.
        kept = max(1, int((values > TOLERANCE / 2 * size).sum()))
        root = values[:kept].sqrt()
        up, down = left[:, :kept] * root / SCALE, (right[:, :kept] * root).T
        if (SCALE * up @ down - change).abs().max().item() <= TOLERANCE * size:
            return down.float(), up.float()
        if q == min(change.shape):
            break
    raise CheckpointError(
        f"{key!r} differs from the base by more than a matrix of rank {MAX_RANK}, as it does when "
        "it was rounded to 16 bits; without --base the VLM is written in full"
    )


def _padded(rows: Tensor, count: int) -> Tensor:
    """Rows with zeros up to a number of them."""
    return torch.cat([rows, rows.new_zeros(count - len(rows), rows.shape[1])])
