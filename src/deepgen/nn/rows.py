"""Rows of different length in one tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Shaped
from torch import Tensor


def fill_up(rows: Sequence[Shaped[Tensor, "_ ..."]]) -> Shaped[Tensor, "batch longest ..."]:
    """Rows one above the other, the shorter ones filled up with zeros behind their end.

    ``pad_sequence`` gives the same, but writes its rows into one tensor, for which the backward
    pass copies the whole gradient once per row.
    """
    longest = max(map(len, rows))
    return torch.stack(
        [
            # From the last dimension to the first: (before, behind) each.
            row
            if len(row) == longest
            else F.pad(row, [0, 0] * (row.ndim - 1) + [0, longest - len(row)])
            for row in rows
        ]
    )
