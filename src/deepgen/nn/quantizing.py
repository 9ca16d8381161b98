"""Weights of 8 or 4 bits: torchao's int8 and fp8, bitsandbytes' nf4.

Only the linear layers inside of blocks are quantized, nine tenths of all weights. Embeddings, norms
and the layers at both ends, to which a model is most sensitive, keep their precision.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from deepgen.config.memory import EXTRAS, Quantization, is_quantizable

FP8_CAPABILITY = (8, 9)
"""Compute capability of the first GPUs that multiply in fp8: Ada Lovelace and Hopper."""


def is_quantized(tensor: Tensor) -> bool:
    """Whether a weight is stored in another form than its values."""
    return is_traceable_wrapper_subclass(tensor) or hasattr(tensor, "quant_state")


def is_any_quantized(module: nn.Module) -> bool:
    """Whether a module has such weights."""
    return any(is_quantized(each) for each in module.parameters())


def check_quantization(kind: Quantization) -> None:
    """Refuse what the installed packages cannot do.

    Raises:
        ValueError: A package is missing.
    """
    from importlib.util import find_spec

    package, extra = EXTRAS[kind]
    if find_spec(package) is None:
        raise ValueError(
            f"{kind} needs {package}, which is not installed; use pip install "
            f"'deepgen-image[{extra}]'"
        )


def quantize_linear(module: nn.Module, kind: Quantization, dtype: torch.dtype) -> int:
    """Quantize the linear layers of all blocks of a module, in place, one after another.

    Args:
        module: On the CPU.
        kind: ``int8``: one scale per output channel; weights are multiplied as they are. ``fp8``
            (e4m3): likewise, and where the GPU multiplies in fp8, inputs are quantized too.
            ``nf4``: 4 bits with one scale for 64 weights (QLoRA, arXiv 2305.14314).
        dtype: Of inputs and results.

    Returns:
        How many layers were quantized.

    Raises:
        ValueError: A package is missing.
    """
    check_quantization(kind)
    layers = [
        (name, child)
        for name, child in module.named_modules()
        if isinstance(child, nn.Linear)
        and not is_quantized(child.weight)
        and is_quantizable(f"{name}.weight", tuple(child.weight.shape), kind)
    ]
    with _quiet():
        for name, layer in layers:
            if kind == "nf4":
                _replace(module, name, _four_bit(layer, dtype))
            else:
                # The kernels of our class are for plain weights.
                layer.__class__ = nn.Linear
                _quantize_by_torchao(layer, kind)
    return len(layers)


def _quantize_by_torchao(layer: nn.Linear, kind: Quantization) -> None:
    from torchao.quantization import (
        Float8DynamicActivationFloat8WeightConfig,
        Float8WeightOnlyConfig,
        Int8WeightOnlyConfig,
        PerRow,
        quantize_,
    )

    config: Any
    if kind == "int8":
        config = Int8WeightOnlyConfig()
    elif multiplies_fp8():
        config = Float8DynamicActivationFloat8WeightConfig(granularity=PerRow())
    else:
        config = Float8WeightOnlyConfig()
    layer.weight.requires_grad_(False)
    quantize_(layer, config, filter_fn=lambda each, _: each is layer)


def multiplies_fp8() -> bool:
    """Whether the current GPU has products of fp8 matrices."""
    return torch.cuda.is_available() and torch.cuda.get_device_capability() >= FP8_CAPABILITY


def _four_bit(layer: nn.Linear, dtype: torch.dtype) -> nn.Module:
    import bitsandbytes

    made = bitsandbytes.nn.Linear4bit(
        layer.in_features,
        layer.out_features,
        bias=layer.bias is not None,
        compute_dtype=dtype,
        quant_type="nf4",
        device="meta",
    )
    made.weight = bitsandbytes.nn.Params4bit(
        layer.weight.detach(), requires_grad=False, quant_type="nf4"
    )
    made.bias = layer.bias
    # This is what quantizes.
    found: nn.Module = made.to(layer.weight.device)
    return found


def _replace(module: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(module.get_submodule(parent), own, layer)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torchao prints on its import: kernels of other GPUs that it cannot load."""
    loggers = [logging.getLogger(name) for name in ("torchao", "torch.utils._pytree")]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)
