"""Model folders to native training checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deepgen.checkpoint.bases import Bases
from deepgen.checkpoint.files import ModelFolder, listed
from deepgen.checkpoint.folder import load_on_meta
from deepgen.checkpoint.headers import StoredTensor
from deepgen.checkpoint.native import native_key
from deepgen.checkpoint.vlm_merging import EMBEDDING, HEAD, vlm_weights
from deepgen.checkpoint.weights import TensorReader
from deepgen.errors import CheckpointError
from deepgen.images.io import atomic_file

MAX_RANK = 256

TOLERANCE = 1e-6
"""Largest error of an adapter's product, relative to the largest value of its weight."""

NOISE = 1e-4
"""Singular values, relative to the largest, that rounding to float32 stays below."""

CHUNK_ROWS = 4096

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
    read = TensorReader()
    state: dict[str, Tensor] = {}
    counts = {}
    for component in ("transformer", "connector"):
        stored = folder.stored(component)
        state |= {native_key(component, name): read(each) for name, each in stored.items()}
        counts[component] = len(stored)
    vlm = vlm_weights(source / "vlm")
    rank = None
    if bases:
        base = vlm_weights(Bases(bases).require("vlm"))
        if HEAD in base and HEAD not in vlm and EMBEDDING in vlm:
            # Every layer of the base needs an adapter to be converted back.
            vlm[HEAD] = vlm[EMBEDDING] if _is_tied(folder.config("vlm")) else base[HEAD]
        language, rank = _adapters(vlm, base)
    else:
        language = {native_key("vlm", key): read(each) for key, each in vlm.items()}
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
    except RuntimeError as cause:
        # torch's writer of archives says where in the file it failed, but not why.
        raise CheckpointError(f"{target} cannot be written; is the disk full? ({cause})") from cause
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
    read = TensorReader()
    for key, tensor in vlm.items():
        origin = base.get(key, base[EMBEDDING] if key == HEAD and EMBEDDING in base else None)
        if origin is None or origin.shape != tensor.shape:
            raise CheckpointError(f"the base has no {key!r} of the shape {list(tensor.shape)}")
        weight, start = read(tensor), read(origin)
        if len(tensor.shape) == 2:
            size = max(map(abs, map(float, torch.aminmax(weight))))
            # In place, and in chunks below: a table of embeddings takes gigabytes in float64.
            factors[key] = _factors(key, weight.double().sub_(start), size)
        elif not torch.equal(weight.float(), start.float()):
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
        change: What ``A`` and ``B`` are to add, [out, in], in float64.
        size: Largest value of the changed weight.

    Raises:
        CheckpointError: The rank would exceed ``MAX_RANK``.
    """
    if not change.any():
        return torch.zeros(0, change.shape[1]), torch.zeros(change.shape[0], 0)
    for rank in (96, MAX_RANK):
        q = min(rank, *change.shape)
        # The seed makes equal folders equal files.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            left, values, right = torch.svd_lowrank(change, q=q, niter=2)
        # Rounding of the two models looks like many more values, all of them small; or, where
        # that is too few: no value of what is left out exceeds its largest singular value.
        for least in (NOISE * values[0], TOLERANCE / 2 * size):
            kept = max(1, int((values > least).sum()))
            root = values[:kept].sqrt()
            up, down = left[:, :kept] * root / SCALE, (right[:, :kept] * root).T
            if _largest_error(up, down, change) <= TOLERANCE * size:
                return down.float(), up.float()
        if q == min(change.shape):
            break
    raise CheckpointError(
        f"{key!r} differs from the base by more than a matrix of rank {MAX_RANK}, as it does when "
        "it was rounded to 16 bits; without --base the VLM is written in full"
    )


def _largest_error(up: Tensor, down: Tensor, change: Tensor) -> float:
    """Of ``SCALE * up @ down``, row by row in chunks."""
    chunks = zip(up.split(CHUNK_ROWS), change.split(CHUNK_ROWS), strict=True)
    return max(float((SCALE * rows @ down - exact).abs().max()) for rows, exact in chunks)


def _is_tied(values: Mapping[str, Any]) -> bool:
    """Whether a VLM without a head of its own uses the embedding, by its configuration."""
    text = values.get("text_config")
    nested = text if isinstance(text, dict) else {}
    return nested.get("tie_word_embeddings", values.get("tie_word_embeddings")) is not False


def _padded(rows: Tensor, count: int) -> Tensor:
    """Rows with zeros up to a number of them."""
    return torch.cat([rows, rows.new_zeros(count - len(rows), rows.shape[1])])
