"""Activation checkpointing: layers that are recomputed in the backward pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def run_layer(layer: nn.Module, *inputs: Any, checkpointing: bool, **options: Any) -> Any:
    """Run a layer; with ``checkpointing`` and gradients, store only its inputs.

    Its activations are recomputed in the backward pass, with the same random numbers (Chen et al.,
    arXiv 1604.06174): equal gradients, a third more work.
    """
    if checkpointing and torch.is_grad_enabled():
        return checkpoint(layer, *inputs, use_reentrant=False, **options)
    return layer(*inputs, **options)
