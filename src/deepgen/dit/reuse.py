"""Reuse of what the blocks after the first added at an earlier step.

Where the first block changes its tokens as it did, the others will too: First Block Cache
(ParaAttention, https://github.com/chengzeyi/ParaAttention), after TeaCache (arXiv 2411.19108).
diffusers has it as hooks of modules with one state for each; here rows of several images and of
both branches of guidance pass through a module together, and each decides by itself, so that an
image does not depend on those beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from deepgen.dit.blocks import Tokens

Targets = Float[Tensor, "batch targets width"]


@dataclass(kw_only=True, slots=True)
class BlockReuse:
    """What is kept of a group's rows, each from the last step that ran all of its blocks."""

    threshold: float
    """Rows whose first block changed by less, relative to the kept change, reuse the rest."""
    first: Tokens | None = None
    """What the first block added to the image tokens."""
    rest: Targets | None = None
    """What the other blocks added to the target tokens."""
    rows_run: list[int] = field(default_factory=list)
    """How many rows ran all blocks, by step."""

    def stale(self, first: Tokens) -> list[int]:
        """Rows whose other blocks have to run; reading them waits for the device.

        Args:
            first: What the first block adds at this step.
        """
        if self.first is None:
            return list(range(len(first)))
        moved = (first - self.first).float().abs().mean(dim=(1, 2))
        size = self.first.float().abs().mean(dim=(1, 2))
        # Not the other way round: a change of NaN is stale.
        stale: list[int] = (~(moved < self.threshold * size)).nonzero().flatten().tolist()
        return stale

    def keep(
        self,
        rows: Sequence[int],
        first: Tokens,
        before: Targets,
        after: Float[Tensor, "rows_run targets width"],
    ) -> Targets:
        """Keep what was computed of some rows, and return all of them.

        Args:
            rows: Those that ran all blocks.
            first: What the first block added, of all rows.
            before: Target tokens after the first block, of all rows.
            after: Target tokens after the last block, of these rows.
        """
        self.rows_run.append(len(rows))
        if len(rows) == len(first):
            self.first, self.rest = first, after - before
            return after
        assert self.first is not None and self.rest is not None
        every = before + self.rest
        if rows:
            index = torch.tensor(rows, device=first.device)
            self.first[index] = first[index]
            self.rest[index] = after - before[index]
            every[index] = after
        return every
