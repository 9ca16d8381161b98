"""Optimizers and their learning rates.

AdamW (Loshchilov and Hutter, arXiv 1711.05101) is what DeepGen was trained with. Muon (Jordan et
al., 2024) orthogonalises each matrix's momentum before the step; on the mini's autoencoder it
reached in 3,200 images an edge error that AdamW had not reached in 22,000.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from deepgen.errors import CheckpointError

TABLES = ("embed_tokens", "meta_queries", "pos_embed", "norm1", "norm_out", "time_text_embed")
"""Parts of names in a DeepGen whose rows are entries of a table, or whose output is only added:
Muon would update rare entries as much as common ones. Modulations are left to AdamW for speed: they
are a third of a small DiT."""


@runtime_checkable
class Optimizer(Protocol):
    """What the trainer needs of an optimizer."""

    lr: float
    """Peak learning rate."""

    def step(self, lr: float) -> None:
        """Update every parameter from its gradient, at this learning rate."""

    def zero_grad(self) -> None:
        """Drop all gradients."""

    def tensors(self) -> dict[str, Tensor]:
        """Its state, as ``what.parameter``."""

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Resume from what :meth:`tensors` gave."""


class AdamW:
    """AdamW in which only tensors of two or more dimensions decay; defaults as published.

    Args:
        parameters: Named parameters; frozen ones are skipped.
        lr: Peak learning rate.
        betas: Decay of the two moments.
        weight_decay: Decoupled weight decay.
        is_fused: Use torch's fused kernel.
    """

    def __init__(
        self,
        parameters: Iterable[tuple[str, nn.Parameter]],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.05,
        is_fused: bool = True,
    ) -> None:
        named = [(name, value) for name, value in parameters if value.requires_grad]
        matrices = [(name, value) for name, value in named if value.ndim >= 2]
        others = [(name, value) for name, value in named if value.ndim < 2]
        self.lr = lr
        self._names = [name for name, _ in matrices + others]
        groups = [
            {"params": [value for _, value in matrices], "weight_decay": weight_decay},
            {"params": [value for _, value in others], "weight_decay": 0.0},
        ]
        # Reads memory once instead of a dozen times.
        self._adamw = torch.optim.AdamW(
            [group for group in groups if group["params"]], lr, betas, fused=is_fused
        )

    def step(self, lr: float) -> None:
        """Update every parameter from its gradient, at this learning rate."""
        for group in self._adamw.param_groups:
            group["lr"] = lr
        self._adamw.step()

    def zero_grad(self) -> None:
        """Drop all gradients."""
        self._adamw.zero_grad()

    def tensors(self) -> dict[str, Tensor]:
        """Moments and step counts, as ``what.parameter``."""
        return _state_tensors(self._adamw, self._names)

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Resume from what :meth:`tensors` gave."""
        _load_state_tensors(self._adamw, self._names, tensors)


class MatrixOptimizer:
    """Muon on all weights of two or more dimensions, AdamW on the rest, as one optimizer.

    Args:
        parameters: Named parameters; names that contain one of ``adamw_names`` go to AdamW whatever
            their shape (embeddings, positions: their rows are not directions of one map).
        lr: Peak learning rate of both; Muon's update is scaled to AdamW's root mean square.
        adamw_names: See above.
        weight_decay: Decoupled weight decay of both.
    """

    def __init__(
        self,
        parameters: Iterable[tuple[str, nn.Parameter]],
        *,
        lr: float,
        adamw_names: tuple[str, ...] = (),
        weight_decay: float = 0.0,
    ) -> None:
        named = [(name, value) for name, value in parameters if value.requires_grad]
        is_matrix = {
            name: value.ndim >= 2 and not any(part in name for part in adamw_names)
            for name, value in named
        }
        self.lr = lr
        self._matrices = [value for name, value in named if is_matrix[name]]
        self._matrix_names = [name for name, _ in named if is_matrix[name]]
        self._other_names = [name for name, _ in named if not is_matrix[name]]
        # torch's Muon takes two dimensions only; a convolution is a matrix over its flat patch.
        # Copies, not views: a kernel laid out channels-last has no flat view in this order.
        self._flat = [nn.Parameter(value.detach().flatten(1).clone()) for value in self._matrices]
        self._muon = torch.optim.Muon(
            self._flat, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
        )
        self._adamw = torch.optim.AdamW(
            [value for name, value in named if not is_matrix[name]],
            lr=lr,
            betas=(0.9, 0.99),
            weight_decay=weight_decay,
        )

    def step(self, lr: float) -> None:
        """Update every parameter from its gradient, at this learning rate."""
        for group in self._muon.param_groups + self._adamw.param_groups:
            group["lr"] = lr
        with torch.no_grad():
            for flat, value in zip(self._flat, self._matrices, strict=True):
                flat.copy_(value.flatten(1))
                flat.grad = None if value.grad is None else value.grad.flatten(1)
            self._muon.step()
            for flat, value in zip(self._flat, self._matrices, strict=True):
                value.copy_(flat.view(value.shape))
        self._adamw.step()

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for value in self._matrices:
            value.grad = None
        self._adamw.zero_grad()

    def tensors(self) -> dict[str, Tensor]:
        """Momenta, moments and step counts, as ``what.parameter``."""
        matrices = _state_tensors(self._muon, self._matrix_names)
        return matrices | _state_tensors(self._adamw, self._other_names)

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Resume from what :meth:`tensors` gave."""
        parts = {name: value for name, value in tensors.items() if name.startswith("momentum")}
        others = {name: value for name, value in tensors.items() if name not in parts}
        _load_state_tensors(self._muon, self._matrix_names, parts)
        _load_state_tensors(self._adamw, self._other_names, others)


def _state_tensors(optimizer: torch.optim.Optimizer, names: Sequence[str]) -> dict[str, Tensor]:
    """State of torch's optimizers by the parameters' names instead of their numbers."""
    state = optimizer.state_dict()["state"]
    return {
        f"{what}.{names[index]}": value
        for index, values in state.items()
        for what, value in values.items()
    }


def _load_state_tensors(
    optimizer: torch.optim.Optimizer, names: Sequence[str], tensors: Mapping[str, Tensor]
) -> None:
    places = {name: index for index, name in enumerate(names)}
    weights = [value for group in optimizer.param_groups for value in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        what, _, name = key.partition(".")
        if name not in places:
            raise CheckpointError(f"the state of an optimizer names {name}, which is not trained")
        state.setdefault(places[name], {})[what] = _laid_out_as(weights[places[name]], value)
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )


def _laid_out_as(weight: Tensor, value: Tensor) -> Tensor:
    """A moment in the memory layout of its weight, which fused kernels require.

    Files are row-major, so a channels-last tensor would come back in another layout.
    """
    if value.shape != weight.shape or value.stride() == weight.stride():
        return value
    return torch.empty_like(weight, dtype=value.dtype).copy_(value)


def warmup_then_cosine(step: int, *, steps: int, warmup: int, start: float = 1e-5) -> float:
    """Fraction of the peak learning rate at a step: linear warm-up, then half a cosine down to 0.

    The published schedule, with ``warmup`` a hundredth of ``steps``.
    """
    if step < warmup:
        return start + (1 - start) * step / warmup
    # A run may be warm-up only; and the factor at its end is needed, too.
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def warmup_then_constant(step: int, *, warmup: int) -> float:
    """Fraction of the learning rate at a step: linear warm-up, then all of it."""
    return min(1.0, (step + 1) / (warmup + 1))


def warmup_cosine(step: int, *, steps: int, warmup: int, floor: float = 0.02) -> float:
    """Warm-up times cosine, down to ``floor``, so that short runs learn until their end."""
    rise = min(1.0, (step + 1) / warmup)
    return rise * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps))))


def warmup_stable_decay(
    step: int, *, steps: int, warmup: int, decay: float = 0.2, floor: float = 0.02
) -> float:
    """Linear warm-up, a constant rate, and a linear decay in the last ``decay`` of the steps.

    For long runs that are looked at on their way: until the decay begins, a step does not depend on
    how long the run will be (Hu et al., MiniCPM, arXiv 2404.06395, section 4).
    """
    rise = min(1.0, (step + 1) / warmup)
    fall = min(1.0, (steps - step) / (decay * steps))
    return min(rise, max(floor, fall))
