"""The blocks of the DiT as CUDA graphs, so that a step costs the CPU one launch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from deepgen.dit.blocks import KeyBias, PadCounts, Tokens
from deepgen.dit.groups import Modulations
from deepgen.nn.quantizing import stored_tensors

Run = Callable[..., Tensor]

Record = Callable[[Callable[[], Tensor]], tuple[Tensor, Callable[[], None]]]
"""Runs a computation once, and returns its result and what computes it again into that tensor."""

KEPT_GRAPHS = 8
"""Shapes with a graph; each has memory for its activations, which graphs share."""


@dataclass(frozen=True, slots=True)
class _Recorded:
    inputs: list[Tensor]
    output: Tensor
    replay: Callable[[], None]


class BlockGraphs:
    """Calls of the blocks, recorded once for each shape of their inputs and then replayed.

    Args:
        run: :meth:`deepgen.dit.model.DiT.run_blocks`.
        network: Its weights; graphs are dropped when any of them has moved.
        record: How to record; None is a CUDA graph.
    """

    def __init__(self, run: Run, network: nn.Module, record: Record | None = None) -> None:
        self._run = run
        self._network = network
        self._record = record or _CudaRecorder()
        self._is_simulated = record is not None
        self._addresses: tuple[int, ...] = ()
        self._recorded: OrderedDict[tuple[object, ...], _Recorded] = OrderedDict()

    def __call__(
        self,
        image: Tokens,
        context: Tokens,
        modulations: Modulations,
        targets: int,
        key_bias: KeyBias | None,
        padding: PadCounts | None = None,
        image_bias: KeyBias | None = None,
    ) -> Tensor:
        """What ``run`` returns; with gradients, or rows that differ in shape, by itself."""
        on_device = image.is_cuda or self._is_simulated
        differ = padding is not None or image_bias is not None
        if differ or torch.is_grad_enabled() or not on_device:
            return self._run(image, context, modulations, targets, key_bias, padding, image_bias)
        # A few milliseconds of the CPU, while the GPU computes the step before.
        addresses = tuple(map(Tensor.data_ptr, stored_tensors(self._network.parameters())))
        if addresses != self._addresses:
            self.drop()
            self._addresses = addresses
        inputs = [image, context, *modulations, *([] if key_bias is None else [key_bias])]
        key = (targets, image.dtype, *(each.shape for each in inputs[:2]), key_bias is None)
        known = self._recorded.get(key)
        if known is None:
            known = self._new(inputs, targets, key_bias is not None)
            self._recorded[key] = known
            if len(self._recorded) > KEPT_GRAPHS:
                self._recorded.popitem(last=False)
        else:
            self._recorded.move_to_end(key)
            torch._foreach_copy_(known.inputs, inputs)
        known.replay()
        # The next replay writes to the same memory.
        return known.output.clone()

    def drop(self) -> None:
        """Record again from now on."""
        self._recorded.clear()

    def _new(self, inputs: list[Tensor], targets: int, has_bias: bool) -> _Recorded:
        own = [each.clone(memory_format=torch.contiguous_format) for each in inputs]
        bias = own[-1] if has_bias else None
        modulations = own[2 : len(own) - has_bias]
        output, replay = self._record(
            lambda: self._run(own[0], own[1], modulations, targets, bias, None, None)
        )
        return _Recorded(own, output, replay)


class _CudaRecorder:
    """Records CUDA graphs, which use one pool of memory one after another."""

    def __init__(self) -> None:
        self._pool: Any = None

    def __call__(self, compute: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            # Compiles, and lets libraries choose their kernels, neither of which can be recorded.
            for _ in range(2):
                compute()
        torch.cuda.current_stream().wait_stream(stream)
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            output = compute()
        return output, graph.replay
