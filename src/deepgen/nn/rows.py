"""Rows of different lengths as one tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Shaped
from torch import Tensor


def pad_sequences(rows: Sequence[Shaped[Tensor, "_ ..."]]) -> Shaped[Tensor, "batch longest ..."]:
    """Stack rows, the shorter ones padded with zeros at their end.

    torch's ``pad_sequence`` gives the same, but writes rows into one tensor, for which the backward
    pass copies the whole gradient once per row.
    """
    longest = max(map(len, rows))
    return torch.stack(
        [
            # From the last dimension to the first: (before, after) each.
            row
            if len(row) == longest
            else F.pad(row, [0, 0] * (row.ndim - 1) + [0, longest - len(row)])
            for row in rows
        ]
    )
