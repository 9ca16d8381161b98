"""Low-rank changes of weights: ``W + scale * (alpha / r) * B A``, summed in float32, rounded once.

Adapters that are loaded (:mod:`deepgen.checkpoint.adapters`) and those inside a native checkpoint
(:mod:`deepgen.checkpoint.vlm_merging`) are merged alike, to the bit.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor


def low_rank_product(
    down: Float[Tensor, "rank inputs"], up: Float[Tensor, "outputs rank"], *, is_embedding: bool
) -> Float[Tensor, "rows columns"]:
    """``B A`` in the shape of the adapted weight; that of an embedding has its outputs as columns.

    Args:
        down: ``A``.
        up: ``B``.
        is_embedding: The weight is a table ``[inputs, outputs]``, so the product is transposed.
    """
    return down.T @ up.T if is_embedding else up @ down


def merged(
    weight: Float[Tensor, "*shape"],
    changes: Iterable[tuple[Float[Tensor, "*shape"], float]],
    dtype: torch.dtype | None = None,
) -> Float[Tensor, "*shape"]:
    """A weight with changes added to it.

    Args:
        weight: Not modified.
        changes: At least one: a float32 matrix, which is overwritten, and its factor. One is
            consumed before the next is asked for.
        dtype: Of the result; None is the weight's.
    """
    total: Tensor | None = None
    for change, factor in changes:
        # In place, since a table of embeddings takes a gigabyte.
        total = change.mul_(factor).add_(weight if total is None else total)
    assert total is not None
    return total.to(dtype or weight.dtype)
