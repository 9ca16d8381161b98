"""Whether ``torch.compile`` has what it needs."""

from __future__ import annotations

import torch
from torch import nn

from deepgen.errors import TrainingError


def is_compiled(module: nn.Module) -> bool:
    """Whether ``module.compile()`` has been called."""
    return module._compiled_call_impl is not None


def check_compiler(device: torch.device) -> None:
    """Check that there is a C++ compiler, which ``torch.compile`` needs on a CPU.

    Raises:
        TrainingError: There is none.
    """
    if device.type != "cpu":
        return
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except RuntimeError as cause:
        raise TrainingError(
            "compile needs a C++ compiler on a CPU, and none was found; install g++ or clang, or "
            "leave compile out"
        ) from cause
