"""Norms of gradients, by part of the model, and clipping."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from deepgen.train.parallel.sharding import full_tensor


def clip_gradients(
    parameters: Mapping[str, nn.Parameter], parts: Mapping[str, str], max_norm: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Scale gradients down to a norm, over all of them.

    Args:
        parameters: By name; those without a gradient are skipped.
        parts: Which part of the model a parameter is of, by name; others are of none.
        max_norm: The limit.

    Returns:
        The norm over all, and that of every part, before clipping.
    """
    gradients: dict[str, list[Tensor]] = {}
    for name, value in parameters.items():
        if value.grad is not None:
            gradients.setdefault(parts.get(name, ""), []).append(value.grad)
    norms = {part: full_tensor(nn.utils.get_total_norm(each)) for part, each in gradients.items()}
    total = (
        torch.linalg.vector_norm(torch.stack(list(norms.values()))) if norms else torch.zeros(())
    )
    nn.utils.clip_grads_with_norm_(parameters.values(), max_norm, total)
    norms.pop("", None)
    return total, norms
