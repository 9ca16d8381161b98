"""Root-mean-square norm with a custom backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

Vectors = Float[Tensor, "*rows channels"]
Weight = Float[Tensor, " channels"]


def rms_norm(vectors: Vectors, weight: Weight, epsilon: float) -> Vectors:
    """``vectors / sqrt(mean(vectors^2) + epsilon) * weight`` (arXiv 1910.07467, equation 4).

    On CPU torch composes the norm of small operators, whose backward passes take three times as
    long as the one here (2 threads, Zen 4, 1024 x 24 heads of 64 channels). One switch restores
    torch's operators, here and in :class:`deepgen.nn.linear.Linear`:
    ``torch.backends.mkldnn.flags(enabled=False)``. Under autocast a CPU computes in float32.
    """
    if vectors.is_cpu and weight.dtype == torch.float32 and torch.is_autocast_enabled("cpu"):
        vectors = vectors.float()
    if (
        vectors.is_cpu
        and vectors.dtype == weight.dtype == torch.float32
        and torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and torch.backends.mkldnn.enabled
    ):
        return _differentiable(vectors, weight, epsilon)
    return F.rms_norm(vectors, vectors.shape[-1:], weight, epsilon)


class _RMSNorm(torch.autograd.Function):
    """With s = 1 / sqrt(mean(x^2) + epsilon), y = s x w and g the gradient of y:

    dx = s (g w) - s^3 x mean(g w x), dw = sum over rows of s g x.
    """

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        scale = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
        scale.square_().div_(vectors.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(vectors, weight, scale)
        normed: Tensor = vectors * scale
        return normed.mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        vectors, weight, scale = ctx.saved_tensors
        by_vectors = by_weight = None
        if ctx.needs_input_grad[0]:
            weighted = gradient * weight
            share = (weighted * vectors).mean(dim=-1, keepdim=True)
            by_vectors = weighted.mul_(scale)
            by_vectors.addcmul_(vectors, share.mul_(scale**3), value=-1)
        if ctx.needs_input_grad[1]:
            by_weight = (gradient * vectors).mul_(scale).sum_to_size(weight.shape)
        return by_vectors, by_weight, None


_differentiable = cast(Callable[[Tensor, Tensor, float], Tensor], _RMSNorm.apply)
