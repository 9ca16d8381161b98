"""A linear layer that uses a faster CPU kernel where there is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Multiplications below which oneDNN's overhead exceeds its gain (2 threads, Zen 4:
# 64 x 256 x 256 is 9 % slower, 256 x 384 x 384 is 7 % faster, 1024 x 1536 x 6144 12 to 17 %).
WORTHWHILE = 2**25


class Linear(nn.Linear):
    """``nn.Linear``, by oneDNN instead of BLAS for large float32 products on CPU.

    The operator is the one that ``torch.compile`` emits for CPUs, used here without a compiler, and
    in the backward pass too. ``torch.backends.mkldnn.flags(enabled=False)`` disables it.
    """

    def forward(self, input: Tensor) -> Tensor:
        """``input @ weight.T + bias``."""
        if (
            input.is_cpu
            and input.dtype == self.weight.dtype == torch.float32
            and input.numel() * self.out_features >= WORTHWHILE
            and not torch.compiler.is_compiling()
            and not torch.is_autocast_enabled("cpu")
            and torch.backends.mkldnn.enabled
            and torch.backends.mkldnn.is_available()
        ):
            if torch.is_grad_enabled():
                return _differentiable(input, self.weight, self.bias)
            return _product(input, self.weight, self.bias)
        return super().forward(input)


def use_onednn_linear(module: nn.Module) -> None:
    """Turn every linear layer of a module into this one, in place; weights and names are kept."""
    for child in module.modules():
        if type(child) is nn.Linear:
            child.__class__ = Linear


class _Product(torch.autograd.Function):
    """oneDNN's product with its derivatives, which the operator lacks."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # The backward pass of a frozen layer does not need the input.
        ctx.save_for_backward(input if ctx.needs_input_grad[1] else None, weight)
        return _product(input, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        by_input = by_weight = by_bias = None
        flat = gradient.reshape(-1, gradient.shape[-1])
        if ctx.needs_input_grad[0]:
            by_input = _product(gradient, weight.t(), None)
        if ctx.needs_input_grad[1]:
            # Copied, since the kernel is 5 to 10 % faster on rows than on columns.
            by_weight = _product(
                flat.t().contiguous(), input.reshape(-1, input.shape[-1]).t(), None
            )
        if ctx.needs_input_grad[2]:
            by_bias = flat.sum(dim=0)
        return by_input, by_weight, by_bias


_differentiable = cast(Callable[[Tensor, Tensor, Tensor | None], Tensor], _Product.apply)


def _product(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
    return product
