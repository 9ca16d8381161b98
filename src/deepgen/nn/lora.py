"""Low-rank adapters in a module, by peft (LoRA, Hu et al., arXiv 2106.09685)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import peft
import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from deepgen.config.train import LoraConfig

ADAPTER = "default"
"""peft's default name of an adapter."""


def add_lora(module: nn.Module, config: LoraConfig, *, seed: int) -> None:
    """Add an adapter, initially without effect, to every linear layer and embedding of a module.

    ``W x`` becomes ``W x + (alpha / r) B A x`` with ``A ~ N(0, 1 / r)`` and ``B = 0``; an
    embedding's ``A`` is zero and its ``B`` normal. Everything else is frozen. The adapters are
    float32, whatever type the weights have.
    """
    targets = [
        name
        for name, child in module.named_modules()
        if isinstance(child, (nn.Linear, nn.Embedding))
    ]
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        init_lora_weights="gaussian",
        target_modules=targets,
    )
    module.requires_grad_(False)
    # peft draws from the global generator only.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # Before 0.19 it warns of an embedding that a language head shares; none is built here.
        warnings.filterwarnings("ignore", message="Model with `tie_word_embeddings=True`")
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(settings, module)
    for value in module.parameters():
        if value.requires_grad:
            value.data = value.data.float()


def lora_layers(module: nn.Module) -> Iterator[tuple[str, LoraLayer]]:
    """Adapted layers by name."""
    for name, child in module.named_modules():
        if isinstance(child, LoraLayer):
            yield name, child


@contextmanager
def without_adapters(module: nn.Module) -> Iterator[None]:
    """In the body, a module computes as if it had no adapters."""
    layers = [layer for _, layer in lora_layers(module)]
    for layer in layers:
        # Not peft's enable_adapters, which also changes what requires a gradient.
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


def lora_weights(module: nn.Module) -> dict[str, Tensor]:
    """Weights of all adapters, by their names in peft's files."""
    weights: dict[str, Tensor] = {}
    for name, layer in lora_layers(module):
        for part in ("lora_A", "lora_B"):
            if ADAPTER in getattr(layer, part):
                weights[f"{name}.{part}.weight"] = getattr(layer, part)[ADAPTER].weight
        for part in ("lora_embedding_A", "lora_embedding_B"):
            if ADAPTER in getattr(layer, part):
                weights[f"{name}.{part}"] = getattr(layer, part)[ADAPTER]
    return weights


def merge_lora_layers(module: nn.Module) -> None:
    """Merge all adapters into the weights they adapt, and remove them from the module."""
    for name, layer in list(lora_layers(module)):
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(module.get_submodule(parent), child, layer.get_base_layer())
