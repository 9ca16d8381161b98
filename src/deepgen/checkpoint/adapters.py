"""The adapters of a model: loaded, scaled, stacked, and taken off without a trace.

The weights are always the original ones with all active adapters added and rounded once, so images
cost as much as without adapters. Originals of changed weights are kept, and every change starts
from them: nothing drifts, in no dtype.
"""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from deepgen.checkpoint.lora_names import find_weight
from deepgen.checkpoint.lora_reading import Change, find_file, read_adapter
from deepgen.checkpoint.merging import merged
from deepgen.checkpoint.weights import is_finite
from deepgen.config.checks import check_within
from deepgen.config.model import MAX_LORA_SCALE
from deepgen.errors import CheckpointError
from deepgen.model import DeepGen
from deepgen.nn.quantizing import is_any_quantized

# Beside the models, which may be copied: a copy has the merged weights, and no adapters.
_sets: weakref.WeakKeyDictionary[DeepGen, AdapterSet] = weakref.WeakKeyDictionary()

Wanted = dict[str, list[tuple[Change, float]]]
"""By weight, what is added to it and at which scale."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A loaded adapter."""

    file: str
    changes: tuple[Change, ...]
    scale: float
    is_active: bool = True
    fused_scale: float | None = None
    """Set while it is fused: then it stays as it is, active or not."""


def adapters_of(model: DeepGen) -> AdapterSet:
    """The adapters of a model."""
    return _sets.setdefault(model, AdapterSet(model))


def merge_lora(model: DeepGen, path: Path, scale: float = 1.0) -> int:
    """Add an adapter to the weights for good: ``W + scale * (alpha / r) * B A``, rounded once.

    If anything does not fit, nothing is changed.

    Args:
        path: An adapter file, or a folder with one.
        scale: Factor on top of the adapter's alpha.

    Returns:
        The number of changed weights.

    Raises:
        CheckpointError: The file is not an adapter for this model; or merged weights would not be
            finite.
        ValueError: The scale is no number, or beyond ``MAX_LORA_SCALE``; or adapters are loaded by
            name, which would undo this when they are taken off.
    """
    check_within("scale", scale, -MAX_LORA_SCALE, MAX_LORA_SCALE)
    _check_plain(model)
    if adapters_of(model).names:
        raise ValueError("adapters are loaded by name; unload them first, or load this one so, too")
    file = find_file(path)
    wanted: Wanted = defaultdict(list)
    for change in read_adapter(model, file):
        wanted[change.target.weight].append((change, scale))
    weights = {name: find_weight(model, name) for name in wanted}
    _check_finite(weights, weights, wanted, file.name)
    for name, weight in weights.items():
        _set(weight, _merged(weight, wanted[name]))
    return len(wanted)


class AdapterSet:
    """Adapters by name; those of one model are changed by one thread at a time."""

    def __init__(self, model: DeepGen) -> None:
        self._model = weakref.ref(model)
        self._adapters: dict[str, Adapter] = {}
        self._originals: dict[str, Tensor] = {}
        self._disabled: dict[str, float] | None = None
        """Scales to return to, while all are disabled."""

    @property
    def scales(self) -> dict[str, float]:
        """Of the active adapters, by name."""
        return {name: each.scale for name, each in self._adapters.items() if each.is_active}

    @property
    def names(self) -> list[str]:
        """Of all loaded adapters."""
        return [*self._adapters]

    @property
    def fused(self) -> dict[str, float]:
        """Scales of the fused adapters."""
        return {
            name: each.fused_scale
            for name, each in self._adapters.items()
            if each.fused_scale is not None
        }

    def load(
        self,
        path: Path,
        name: str | None = None,
        *,
        scale: float = 1.0,
        file_name: str | None = None,
        hotswap: bool = False,
    ) -> str:
        """Load an adapter and add it to the active ones; if it does not fit, nothing changes.

        Args:
            path: An adapter file, or a folder with one.
            name: What it is called; by default ``default_0`` and so on.
            scale: Its strength, on top of its alpha.
            file_name: Of the file in the folder.
            hotswap: Take the place of a loaded adapter of that name.

        Returns:
            Its name.

        Raises:
            CheckpointError: The file is not an adapter for this model.
            ValueError: The name is taken, or with ``hotswap`` it is not; or the scale is beyond
                ``MAX_LORA_SCALE``.
        """
        _check_scale(scale)
        _check_plain(self._require_model())
        if name is None:
            name = next(n for i in range(10**6) if (n := f"default_{i}") not in self._adapters)
        if hotswap:
            self._require([name])
        elif name in self._adapters:
            raise ValueError(f"an adapter {name!r} is loaded; choose another name, or hotswap=True")
        if name in self.fused:
            raise ValueError(f"adapter {name!r} is fused; unfuse it first")
        file = find_file(path, file_name)
        changes = tuple(read_adapter(self._require_model(), file))
        self._change({**self._adapters, name: Adapter(file.name, changes, scale)})
        return name

    def activate(self, scales: Mapping[str, float]) -> None:
        """Make these adapters the active ones, with these scales; all others stay loaded.

        Raises:
            ValueError: One is not loaded, or a scale is beyond ``MAX_LORA_SCALE``.
            CheckpointError: Together they would give values that are not finite.
        """
        self._require(scales)
        for scale in scales.values():
            _check_scale(scale)
        self._disabled = None
        self._change(
            {
                name: replace(each, is_active=name in scales, scale=scales.get(name, each.scale))
                for name, each in self._adapters.items()
            }
        )

    def disable(self) -> None:
        """Deactivate all adapters until :meth:`enable`; what is fused stays."""
        if self._disabled is None:
            scales = self.scales
            self.activate({})
            self._disabled = scales

    def enable(self) -> None:
        """Activate again what was active before :meth:`disable`, and is still loaded."""
        if self._disabled is not None:
            back = {name: each for name, each in self._disabled.items() if name in self._adapters}
            self.activate({**back, **self.scales})

    def remove(self, names: Iterable[str] | None = None) -> None:
        """Take adapters off; None is all. What is fused becomes part of the original weights.

        Raises:
            ValueError: One is not loaded.
        """
        names = self.names if names is None else list(names)
        self._require(names)
        left = {name: each for name, each in self._adapters.items() if name not in set(names)}
        if self.fused.keys() <= left.keys():
            self._change(left)
            return
        if any(each.fused_scale is not None for each in left.values()):
            raise ValueError("fused adapters are removed all together, or unfused before")
        # The weights with nothing but what is fused are the originals from now on.
        fused = {name: replace(each, is_active=False) for name, each in self._adapters.items()}
        self._change(fused)
        self._originals.clear()
        self._adapters = {}
        self._change(left)

    def fuse(self, names: Iterable[str] | None = None, scale: float = 1.0) -> None:
        """Keep active adapters in the weights, whatever is activated later.

        Args:
            names: Which; None is all active ones.
            scale: Factor on top of theirs.

        Raises:
            ValueError: One is not loaded or fused already, or the scale is beyond
                ``MAX_LORA_SCALE``.
        """
        _check_scale(scale)
        if names is None:
            names = [name for name in self.scales if name not in self.fused]
        names = list(names)
        self._require(names)
        again = sorted(self.fused.keys() & set(names))
        if again:
            raise ValueError(f"adapters {again} are fused already; unfuse them first")
        self._change(
            {
                name: replace(each, fused_scale=each.scale * scale) if name in names else each
                for name, each in self._adapters.items()
            }
        )

    def unfuse(self) -> None:
        """Make fused adapters what they were before, bit for bit."""
        self._change(
            {name: replace(each, fused_scale=None) for name, each in self._adapters.items()}
        )

    @torch.no_grad()
    def _change(self, adapters: dict[str, Adapter]) -> None:
        """Bring the weights to a new set of adapters."""
        model = self._require_model()
        wanted: Wanted = defaultdict(list)
        for each in adapters.values():
            scale = each.fused_scale if each.fused_scale is not None else each.scale
            if scale and (each.is_active or each.fused_scale is not None):
                for change in each.changes:
                    wanted[change.target.weight].append((change, scale))
        weights = {name: find_weight(model, name) for name in {**wanted, **self._originals}}
        originals = {name: self._originals.get(name, weight) for name, weight in weights.items()}
        files = ", ".join(sorted({each.file for each in adapters.values()}))
        _check_finite(originals, weights, wanted, files)
        for name, weight in weights.items():
            if name in wanted:
                original = self._originals.setdefault(name, weight.detach().cpu().clone())
                _set(weight, _merged(original.to(weight.device), wanted[name], weight.dtype))
            else:
                _set(weight, self._originals.pop(name))
        self._adapters = adapters

    def _require(self, names: Iterable[str]) -> None:
        unknown = sorted(set(names) - self._adapters.keys())
        if unknown:
            raise ValueError(f"no adapters {unknown} are loaded, but {self.names or 'none'}")

    def _require_model(self) -> DeepGen:
        model = self._model()
        assert model is not None
        return model


def _check_plain(model: DeepGen) -> None:
    """Refuse weights that nothing can be added to.

    Raises:
        ValueError: They are quantized.
    """
    if is_any_quantized(model):
        raise ValueError(
            "adapters cannot be added to quantized weights; load and fuse them before quantizing, "
            "or give --lora with --quantize"
        )


def _check_scale(scale: float) -> None:
    check_within("scale", scale, -MAX_LORA_SCALE, MAX_LORA_SCALE)


def _merged(
    original: Tensor, changes: list[tuple[Change, float]], dtype: torch.dtype | None = None
) -> Tensor:
    matrices = ((change.matrix(original.device), scale) for change, scale in changes)
    return merged(original, matrices, dtype)


@torch.no_grad()
def _set(weight: Tensor, value: Tensor) -> None:
    weight.copy_(value)


def _check_finite(
    originals: Mapping[str, Tensor], weights: Mapping[str, Tensor], wanted: Wanted, files: str
) -> None:
    """Refuse changes that would give infinite values; merged only where they might.

    Raises:
        CheckpointError: The first weight.
    """
    for name, changes in wanted.items():
        dtype = weights[name].dtype
        bound = sum(abs(scale) * change.largest() for change, scale in changes)
        bound += float(originals[name].detach().abs().max())
        if bound < torch.finfo(dtype).max:
            continue
        with torch.no_grad():
            if not is_finite(_merged(originals[name], changes, dtype)):
                raise CheckpointError(
                    f"{files}: {changes[0][0].layer} would have values that are not finite in "
                    f"{str(dtype).removeprefix('torch.')}; use a smaller scale"
                )
