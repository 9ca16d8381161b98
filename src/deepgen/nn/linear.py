"""A linear layer that takes the CPU's faster kernel where one is at hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Multiplications below which oneDNN's set-up costs more than its kernel gains (2 threads, Zen 4:
# 64 x 256 x 256 is 9 % slower, 256 x 384 x 384 is 7 % faster, 1024 x 1536 x 6144 12 to 17 %).
WORTHWHILE = 2**25


class Linear(nn.Linear):
    """``nn.Linear``, by oneDNN instead of BLAS for large float32 products on CPU.

    It is the operator that ``torch.compile`` emits for CPUs, called without a compiler. It has no
    derivative, so training keeps to BLAS.
    """

    def forward(self, input: Tensor) -> Tensor:
        """``input @ weight.T + bias``."""
        if (
            input.is_cpu
            and input.dtype == torch.float32
            and input.numel() * self.out_features >= WORTHWHILE
            and not torch.compiler.is_compiling()
            and not torch.is_grad_enabled()
            and torch.backends.mkldnn.is_available()
        ):
            product: Tensor = torch.ops.mkldnn._linear_pointwise(
                input, self.weight, self.bias, "none", [], ""
            )
            return product
        return super().forward(input)
