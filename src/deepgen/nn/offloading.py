"""Modules that are on a device only while they compute: as a whole, or block by block."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from deepgen.nn.quantizing import is_quantized

ALIGNMENT = 256
"""Bytes; the addresses of torch's own tensors on a GPU are multiples of more."""


@contextmanager
def on_device(
    module: nn.Module, device: torch.device, *, without: Collection[nn.Module] = ()
) -> Iterator[None]:
    """Have a module of the CPU on a device in the body, and on the CPU again afterwards.

    The weights on the CPU are kept, so nothing is copied back but what was changed in place, or
    added, in the body: that would take longer than copying there. Quantized weights, whose tensors
    hold others, are copied back.

    Args:
        module: On the CPU.
        device: To have it on.
        without: Parts of it that stay where they are.
    """
    excluded = {id(part) for each in without for part in each.modules()}
    slots: list[tuple[dict[str, Any], str, Tensor, Tensor]] = [
        (values, key, value, value.data)
        for part in module.modules()
        if id(part) not in excluded
        for values in (part._parameters, part._buffers)
        for key, value in values.items()
        if value is not None and not is_quantized(value)
    ]
    versions: list[int] | None = None
    try:
        # Tensors made in inference mode could never be trained, and have no version.
        with torch.inference_mode(False):
            _move(module, device, excluded)
        versions = [values[key]._version for values, key, _, _ in slots]
        yield
    finally:
        for index, (values, key, value, data) in enumerate(slots):
            moved = values.get(key)
            # Without versions memory ran out on the way there, and nobody has changed anything.
            if moved is None or (versions is not None and moved._version != versions[index]):
                continue
            # Parameters mostly remain the same objects, with other data; buffers never do.
            if moved is value:
                value.data = data
            else:
                values[key] = value
        with torch.inference_mode(False):
            _move(module, torch.device("cpu"), excluded)


def _move(module: nn.Module, device: torch.device, excluded: Collection[int]) -> None:
    """``module.to(device)``, except for some of its parts."""
    if not excluded:
        module.to(device)
        return
    for part in module.modules():
        if id(part) not in excluded:
            # Of this part alone: its children have their own turn.
            children, part._modules = part._modules, {}
            try:
                part.to(device)
            finally:
                part._modules = children


class _Slot:
    """Memory of the device that holds one block at a time."""

    def __init__(self, size: int, device: torch.device) -> None:
        self.memory = torch.empty(size, dtype=torch.uint8, device=device)
        self.block = -1
        """Which block it holds, or is about to."""
        self.filled: torch.cuda.Event | None = None
        self.unused: torch.cuda.Event | None = None


class BlockStream:
    """Blocks of a network that run one after another, and are on the device one by one.

    While one computes, the next is copied, into the second of two slots that are as large as the
    largest block: no more is on the device at any time. Values and kernels are those of blocks that
    stay there, so results are the same bits.

    diffusers' group offloading loads a module's own weights at its ``forward``, which the DiT here
    is not run by, and frees blocks by ``record_stream``, which holds as many as the CPU is ahead.

    Args:
        blocks: In the order in which they run; on the CPU, without quantized weights.
        device: Where they compute.
        prefetches: Copy the next block while one computes.
        pin: Keep the blocks in pinned memory, which copies to a GPU are faster from.
    """

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        device: torch.device,
        *,
        prefetches: bool = True,
        pin: bool = True,
    ) -> None:
        self._device = device
        self._tensors = [_plain_tensors(block) for block in blocks]
        self._stored = [_packed(each, pin=pin and device.type == "cuda") for each in self._tensors]
        self._slots: list[_Slot] = []
        self._copies: torch.cuda.Stream | None = None
        self._ahead = 2 if prefetches and len(blocks) > 1 else 1
        self._current: int | None = None
        """The block that is on the device and may compute."""
        self._hooks: list[RemovableHandle] = []
        for index, block in enumerate(blocks):
            # Parts of a block are also called by themselves, such as the DiT's modulations.
            for part in block.modules():
                hook = part.register_forward_pre_hook(lambda *_, index=index: self._enter(index))
                self._hooks.append(hook)
            self._hooks.append(
                block.register_forward_hook(lambda *_: self._leave(), always_call=True)
            )

    def close(self) -> None:
        """Have the blocks stay on the CPU from now on."""
        for hook in self._hooks:
            hook.remove()

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Have memory on the device in the body, in which blocks may run."""
        size = max((len(each) for each in self._stored), default=0)
        self._slots = [_Slot(size, self._device) for _ in range(self._ahead)]
        if self._device.type == "cuda":
            self._copies = torch.cuda.Stream(self._device)
            # The memory may still be in use by what had it before.
            self._copies.wait_stream(torch.cuda.current_stream(self._device))
        try:
            yield
        finally:
            self._leave()
            if self._copies is not None:
                # Copies that nobody has waited for end before the memory is given to others.
                torch.cuda.current_stream(self._device).wait_stream(self._copies)
            self._slots, self._copies = [], None

    def _enter(self, index: int) -> None:
        # Outside of a stage a block computes where its weights are.
        if not self._slots or self._current == index:
            return
        self._leave()
        slot = self._slots[index % self._ahead]
        if slot.block != index:
            self._fill(slot, index)
        if slot.filled is not None:
            torch.cuda.current_stream(self._device).wait_event(slot.filled)
        self._place(index, slot.memory)
        self._current = index
        if self._ahead > 1:
            following = (index + 1) % len(self._tensors)
            other = self._slots[following % self._ahead]
            if other is not slot and other.block != following:
                self._fill(other, following)

    def _leave(self) -> None:
        if self._current is None:
            return
        self._place(self._current, self._stored[self._current])
        if self._device.type == "cuda":
            slot = self._slots[self._current % self._ahead]
            slot.unused = torch.cuda.current_stream(self._device).record_event()
        self._current = None

    def _place(self, index: int, memory: Tensor) -> None:
        """Have a block compute with the values of a memory."""
        tensors = self._tensors[index]
        for tensor, view in zip(tensors, _views(memory, tensors), strict=True):
            tensor.data = view

    def _fill(self, slot: _Slot, index: int) -> None:
        """Copy a block into a slot, after whatever still computes with what the slot has."""
        slot.block = index
        stored = self._stored[index]
        target = slot.memory[: len(stored)]
        if self._copies is None:
            target.copy_(stored)
            return
        if slot.unused is not None:
            self._copies.wait_event(slot.unused)
        with torch.cuda.stream(self._copies):
            target.copy_(stored, non_blocking=True)
            slot.filled = self._copies.record_event()


def _plain_tensors(block: nn.Module) -> list[Tensor]:
    """Parameters and buffers of a block.

    Raises:
        ValueError: Some are quantized.
    """
    tensors = [*block.parameters(), *block.buffers()]
    if any(is_quantized(each) for each in tensors):
        raise ValueError(
            "quantized weights are offloaded as a whole; group offload needs plain ones"
        )
    return tensors


def _sizes(tensors: Sequence[Tensor]) -> list[int]:
    """Bytes of each tensor, rounded up to the alignment."""
    return [-(-each.nbytes // ALIGNMENT) * ALIGNMENT for each in tensors]


def _views(memory: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Parts of a memory with dtypes and shapes of the tensors, one after another."""
    views, start = [], 0
    for tensor, size in zip(tensors, _sizes(tensors), strict=True):
        part = memory[start : start + tensor.nbytes]
        views.append(part.view(tensor.dtype).view(tensor.shape))
        start += size
    return views


def _packed(tensors: Sequence[Tensor], *, pin: bool) -> Tensor:
    """One memory of the CPU with the values of all tensors, which become parts of it."""
    memory = torch.empty(sum(_sizes(tensors)), dtype=torch.uint8, pin_memory=pin)
    with torch.no_grad():
        for tensor, view in zip(tensors, _views(memory, tensors), strict=True):
            view.copy_(tensor)
            tensor.data = view
    return memory
