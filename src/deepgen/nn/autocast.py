"""The dtype of products under ``torch.autocast``."""

from __future__ import annotations

import torch
from torch import Tensor

EXACT = (torch.float32, torch.float64)
"""Dtypes fine enough for the logarithm of a count of tokens."""


def product_dtype(weight: Tensor) -> torch.dtype:
    """What products with a weight are computed in: autocast's dtype where that is enabled.

    Autocast rounds all operands, attention masks included, whatever dtype the weights have.
    """
    kind = weight.device.type
    if weight.dtype != torch.float64 and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return weight.dtype
