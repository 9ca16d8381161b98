"""Weights of 8 or 4 bits: torchao's int8 and fp8, bitsandbytes' nf4.

Only the linear layers inside of blocks are quantized, nine tenths of all weights. Embeddings, norms
and the layers at both ends, to which a model is most sensitive, keep their precision.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from deepgen.config.memory import Quantization, check_quantization, is_quantizable
from deepgen.library_logs import libraries_quiet

FP8_CAPABILITY = (8, 9)
"""Compute capability of the first GPUs that multiply in fp8: Ada Lovelace and Hopper."""


def is_quantized(tensor: Tensor) -> bool:
    """Whether a weight is stored in another form than its values."""
    # Sharded ones (DTensor) are wrappers, too.
    is_wrapper = is_traceable_wrapper_subclass(tensor) and not hasattr(tensor, "to_local")
    return is_wrapper or hasattr(tensor, "quant_state")


def is_any_quantized(module: nn.Module) -> bool:
    """Whether a module has such weights."""
    return any(is_quantized(each) for each in module.parameters())


def stored_tensors(tensors: Iterable[Tensor]) -> Iterator[Tensor]:
    """The tensors themselves, or what quantized ones hold: codes and scales."""
    for tensor in tensors:
        if hasattr(tensor, "quant_state"):
            yield tensor
            state = tensor.quant_state
            while state is not None:
                # Scales of nf4 are quantized themselves.
                yield state.absmax
                state = getattr(state, "state2", None)
        elif is_quantized(tensor) and is_traceable_wrapper_subclass(tensor):
            names, _ = tensor.__tensor_flatten__()
            yield from stored_tensors(getattr(tensor, name) for name in names)
        else:
            yield tensor


def quantize_linear(
    module: nn.Module,
    kind: Quantization,
    dtype: torch.dtype,
    device: torch.device | None = None,
) -> int:
    """Quantize the linear layers of all blocks of a module, in place, one after another.

    Args:
        module: On the CPU.
        kind: ``int8``: one scale per output channel; weights are multiplied as they are. ``fp8``
            (e4m3): likewise, and where the GPU multiplies in fp8, inputs are quantized too.
            ``nf4``: 4 bits with one scale for 64 weights (QLoRA, arXiv 2305.14314).
        dtype: Of inputs and results.
        device: Where the module will compute; None is the current GPU, if there is one.

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
                _quantize_by_torchao(layer, kind, device)
    return len(layers)


def _quantize_by_torchao(layer: nn.Linear, kind: Quantization, device: torch.device | None) -> None:
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
    elif multiplies_fp8(device):
        config = Float8DynamicActivationFloat8WeightConfig(granularity=PerRow())
    else:
        config = Float8WeightOnlyConfig()
    layer.weight.requires_grad_(False)
    quantize_(layer, config, filter_fn=lambda each, _: each is layer)


def multiplies_fp8(device: torch.device | None = None) -> bool:
    """Whether a GPU has products of fp8 matrices; None is the current one."""
    if not torch.cuda.is_available() or (device is not None and device.type != "cuda"):
        return False
    return torch.cuda.get_device_capability(device) >= FP8_CAPABILITY


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
    """Without what the packages print on their import."""
    with libraries_quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
