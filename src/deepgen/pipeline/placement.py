"""Where the parts of a pipeline's model are, and in which form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from deepgen.checkpoint.adapters import adapters_of
from deepgen.checkpoint.files import ModelFolder
from deepgen.checkpoint.memory import plan_for
from deepgen.config.memory import (
    GIB,
    RESERVED,
    STREAMED,
    MemoryPlan,
    Quantization,
    check_memory,
    check_quantization,
)
from deepgen.devices import check_device
from deepgen.model import DeepGen
from deepgen.nn.compiling import check_compiler, is_compiled
from deepgen.nn.offloading import BlockStream, on_device
from deepgen.nn.quantizing import is_any_quantized, quantize_linear
from deepgen.pipeline.turns import turn

TOLERANCE = 1.05
"""A card that is sold with 12 GB reports up to a twentieth less."""

COMPILED_MOVES = (
    "compiled blocks have to stay on the device, but group offload moves each; use "
    "exclude_modules='transformer', more memory, or no compile"
)

_limited: set[int] = set()
"""GPUs whose memory a plan has limited; limits that users have set are left alone."""


def plan_placement(
    folder: ModelFolder,
    device: torch.device,
    dtype: torch.dtype,
    memory: int | float | None,
    quantization: Quantization | None,
    **case: Any,
) -> MemoryPlan | None:
    """The plan for a model before it is loaded; None where no memory is given.

    Without memory, the limit that an earlier plan has set for the device ends.

    Args:
        folder: Of the model.
        device: To compute on.
        dtype: To compute in.
        memory: In GB of 2^30 bytes.
        quantization: Of weights in blocks.
        case: What has to fit; see :func:`deepgen.checkpoint.memory.plan_for`.

    Raises:
        ValueError: Nothing keeps to that memory, the device has less, or a package is missing.
    """
    check_memory(memory, quantization)
    if quantization is not None:
        check_quantization(quantization)
    if memory is None:
        limit_allocator(device, None)
        return None
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        if memory * GIB > TOLERANCE * total:
            raise ValueError(
                f"memory {memory:g} is more than the {total / GIB:.1f} GB of {device}; give at "
                f"most {total / GIB:.0f}"
            )
    return plan_for(
        folder,
        memory,
        value_bytes=dtype.itemsize,
        quantization=quantization,
        offloads=device.type not in ("cpu", "mps"),
        **case,
    )


def limit_allocator(device: torch.device, plan: MemoryPlan | None) -> None:
    """Limit torch's allocator on a GPU to a plan's memory; None ends the limit of an earlier one.

    The limit is the process's: of several pipelines on a GPU, the last one decides.
    """
    if device.type != "cuda":
        return
    index = torch.cuda.current_device() if device.index is None else device.index
    if plan is not None:
        total = torch.cuda.get_device_properties(index).total_memory
        share = (plan.memory * GIB - RESERVED / 2) / total
        torch.cuda.set_per_process_memory_fraction(min(1.0, max(0.01, share)), index)
        _limited.add(index)
    elif index in _limited:
        torch.cuda.set_per_process_memory_fraction(1.0, index)
        _limited.remove(index)


class Placement:
    """A model whose parts are on a device only while they compute.

    Args:
        model: On the CPU.
        device: Where it computes.
        groups: Components whose blocks are there one at a time, see :data:`STREAMED`.
        prefetches: Copy the next block while one computes.
        pin: Keep blocks in pinned memory, from which copies are faster.
    """

    def __init__(
        self,
        model: DeepGen,
        device: torch.device,
        groups: Sequence[str] = (),
        *,
        prefetches: bool = True,
        pin: bool = True,
    ) -> None:
        self.device = device
        self.groups = tuple(groups)
        self._blocks: dict[nn.Module, list[nn.Module]] = {}
        self._streams: dict[nn.Module, BlockStream] = {}
        owners = _owners(model)
        modules = {"vlm": model.conditioner.vlm, "transformer": model.dit}
        for name in self.groups:
            blocks = list(modules[name].get_submodule(STREAMED[name]).children())
            self._blocks[owners[name]] = blocks
            self._streams[owners[name]] = BlockStream(
                blocks, device, prefetches=prefetches, pin=pin
            )
        self._held: nn.Module | None = None
        self._leave = ExitStack()

    @contextmanager
    def use(self, part: nn.Module) -> Iterator[None]:
        """Have a part on the device in the body."""
        with ExitStack() as stack:
            self._enter(part, stack)
            yield

    def hold(self, part: nn.Module) -> None:
        """Have a part on the device until another is held."""
        if part is not self._held:
            self.release()
            try:
                self._enter(part, self._leave)
            except BaseException:
                self.release()
                raise
            self._held = part

    def release(self) -> None:
        """Have nothing on the device."""
        self._held = None
        self._leave.close()

    def close(self) -> None:
        """Leave the model on the CPU, as a whole."""
        self.release()
        for stream in self._streams.values():
            stream.close()

    def _enter(self, part: nn.Module, stack: ExitStack) -> None:
        without = self._blocks.get(part, ())
        stack.enter_context(on_device(part, self.device, without=without))
        if part in self._streams:
            stack.enter_context(self._streams[part].opened())


class PlacementMethods:
    """Moving, offloading, quantizing and compiling the pipeline's model."""

    model: DeepGen
    _placement: Placement | None

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """Move to a device, a dtype, or both, as ``nn.Module.to``.

        Raises:
            ValueError: The device is not there, the pipeline is offloaded, or its weights are
                quantized and would be cast.
        """
        kwargs.pop("silence_dtype_warnings", None)
        for each in (*args, *kwargs.values()):
            if isinstance(each, str | torch.device):
                check_device(torch.device(each))
        if self._placement is not None:
            raise ValueError("an offloaded pipeline moves its parts itself and cannot be moved")
        dtypes = [each for each in (*args, *kwargs.values()) if isinstance(each, torch.dtype)]
        if any(each != self.dtype for each in dtypes) and is_any_quantized(self.model):
            raise ValueError("quantized weights cannot be cast; give dtype on loading")
        with turn(self.model):
            self.model.dit.drop_graphs()
            self.model.to(*args, **kwargs)
        return self

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.model.device if self._placement is None else self._placement.device

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in."""
        return self.model.dtype

    @property
    def _execution_device(self) -> torch.device:
        """As :attr:`device`; what helpers written for other pipelines of diffusers read."""
        return self.device

    def enable_model_cpu_offload(
        self, gpu_id: int | None = None, device: torch.device | str = "cuda"
    ) -> None:
        """Keep on the device only the part in use: VLM and bridge, then DiT, then VAE.

        Args:
            gpu_id: Number of the GPU, if not the current one.
            device: The device to compute on.

        Raises:
            ValueError: The device is the CPU, or not there; nothing has changed.
        """
        self._offload(self._target(device, gpu_id), ())

    def enable_group_offload(
        self,
        onload_device: torch.device | str = "cuda",
        offload_device: torch.device | str = "cpu",
        offload_type: str = "block_level",
        num_blocks_per_group: int | None = None,
        non_blocking: bool = False,
        use_stream: bool = True,
        record_stream: bool = False,
        low_cpu_mem_usage: bool = False,
        offload_to_disk_path: str | None = None,
        exclude_modules: str | Sequence[str] | None = None,
    ) -> None:
        """Keep on the device only the part in use, and of its blocks one, or two with a stream.

        Images are the same bits as without. Quantized weights are offloaded as a whole.

        Args:
            onload_device: The device to compute on.
            offload_device: The CPU.
            offload_type: ``block_level``.
            num_blocks_per_group: 1.
            non_blocking: Follows from ``use_stream``.
            use_stream: Copy the next block while one computes.
            record_stream: Without effect: memory is given back at fixed points.
            low_cpu_mem_usage: Do not pin the memory of weights that wait; copies are slower.
            offload_to_disk_path: None.
            exclude_modules: ``vlm`` or ``transformer``: there as a whole while it computes.

        Raises:
            ValueError: An argument cannot be used, the device is not there, or the DiT's blocks are
                to move and compiled; nothing has changed.
        """
        _check_group_options(
            offload_device, offload_type, num_blocks_per_group, offload_to_disk_path
        )
        excluded = [exclude_modules] if isinstance(exclude_modules, str) else exclude_modules or ()
        unknown = sorted(set(excluded) - {*STREAMED, "vae", "connector"})
        if unknown:
            raise ValueError(f"exclude_modules may name {', '.join(STREAMED)}, got {unknown}")
        self._offload(
            self._target(onload_device, None),
            [name for name in STREAMED if name not in excluded],
            prefetches=use_stream,
            pin=use_stream and not low_cpu_mem_usage,
        )

    def enable_sequential_cpu_offload(
        self, gpu_id: int | None = None, device: torch.device | str = "cuda"
    ) -> None:
        """The least memory: group offload with a single block at a time.

        Args:
            gpu_id: Number of the GPU, if not the current one.
            device: The device to compute on.

        Raises:
            ValueError: The device is the CPU, or not there, or the DiT is compiled; nothing has
                changed.
        """
        target = self._target(device, gpu_id)
        self._offload(target, tuple(STREAMED), prefetches=False, pin=False)

    def quantize(self, kind: Quantization, device: torch.device | str | None = None) -> None:
        """Quantize the weights of all blocks, for good; images change slightly.

        Args:
            kind: ``int8``, ``fp8`` (torchao) or ``nf4`` (bitsandbytes).
            device: Where the model will compute; None is where it is or, on a CPU, the current GPU.
                It decides whether fp8 weights are multiplied as they are.

        Raises:
            ValueError: A package is missing, adapters are loaded, or the weights are quantized or
                offloaded already; nothing has changed.
        """
        check_memory(None, kind)
        check_quantization(kind)
        if self._placement is not None:
            raise ValueError("quantize before offloading")
        with turn(self.model):
            if adapters_of(self.model).names:
                raise ValueError(
                    "adapters are loaded; fuse_lora() and unload_lora_weights() make them part of "
                    "the weights, which can then be quantized"
                )
            if is_any_quantized(self.model):
                raise ValueError("the weights are quantized already")
            target = None if device is None else torch.device(device)
            if target is None and self.device.type != "cpu":
                target = self.device
            self.model.dit.drop_graphs()
            _quantize(self.model, kind, target)

    def compile_transformer(self, **options: Any) -> None:
        """Compile the blocks of the DiT with ``torch.compile``; images are equal to rounding.

        On a GPU without offload, steps are replayed as CUDA graphs, one for each shape. The first
        image of a shape takes longer.

        Args:
            options: Of ``torch.compile``.

        Raises:
            ValueError: Blocks of the DiT are offloaded one by one.
            DeepGenError: There is no C++ compiler, which a CPU needs.
        """
        if self._placement is not None and "transformer" in self._placement.groups:
            raise ValueError(COMPILED_MOVES)
        check_compiler(self.device)
        with turn(self.model):
            # Graphs are of fixed addresses, which offloading changes.
            graphs = self.device.type == "cuda" and self._placement is None
            self.model.dit.compile_for_sampling(graphs=graphs, **options)

    def place(
        self,
        device: torch.device | str,
        plan: MemoryPlan | None = None,
        *,
        quantize: Quantization | None = None,
        compile: bool = False,
    ) -> None:
        """Quantize, move or offload, and compile, in this order.

        Args:
            device: To compute on.
            plan: How to keep to a size of memory, to which torch's allocator is then limited on a
                GPU, for the whole process; None moves everything to the device, and ends that.
            quantize: As :meth:`quantize`.
            compile: As :meth:`compile_transformer`.

        Raises:
            ValueError: As those two.
        """
        device = torch.device(device)
        if quantize is not None:
            self.quantize(quantize, device)
        if plan is not None and plan.offload != "none":
            self._offload(self._target(device, None), plan.groups)
        elif self.model.device != device:
            self.to(device)
        if compile:
            self.compile_transformer()
        # After everything that may fail.
        limit_allocator(device, plan)

    def _offload(self, device: torch.device, groups: Sequence[str], **options: bool) -> None:
        owners = _owners(self.model)
        plain = [name for name in groups if not is_any_quantized(owners[name])]
        if "transformer" in plain and any(map(is_compiled, self.model.dit.transformer_blocks)):
            raise ValueError(COMPILED_MOVES)
        with turn(self.model):
            # Graphs are of fixed addresses.
            self.model.dit.drop_graphs(for_good=True)
            if self._placement is not None:
                self._placement.close()
                self._placement = None
            self.model.to("cpu")
            self._placement = Placement(self.model, device, plain, **options)

    def _target(self, device: torch.device | str, gpu_id: int | None) -> torch.device:
        """The device to compute on.

        Raises:
            ValueError: It is the CPU, or not there.
        """
        target = torch.device(device)
        if target.type == "cpu":
            raise ValueError("offloading moves parts between a GPU and the CPU; device is the CPU")
        if not _is_available(target.type):
            raise ValueError(
                f"offloading needs a device {target.type}, but torch finds none here; the pipeline "
                f"stays on {self.device}"
            )
        return target if gpu_id is None else torch.device(target.type, gpu_id)

    @contextmanager
    def _on_device(self, part: nn.Module) -> Iterator[None]:
        """Move a part to the computing device for a while, if it is offloaded."""
        if self._placement is None:
            yield
            return
        with self._placement.use(part):
            yield


def _owners(model: DeepGen) -> dict[str, nn.Module]:
    """What computes with the blocks of each component of :data:`STREAMED`."""
    return {"vlm": model.conditioner, "transformer": model.dit}


def _quantize(model: DeepGen, kind: Quantization, device: torch.device | None) -> None:
    """All blocks, and those of the vision tower once it is loaded."""
    vlm = model.conditioner.vlm
    for module in (vlm, model.conditioner.bridge, model.dit):
        quantize_linear(module, kind, model.dtype, device)
    load = vlm.load_vision
    if vlm.visual is None and load is not None:

        def load_quantized() -> Any:
            tower = load()
            quantize_linear(tower, kind, model.dtype, device)
            return tower

        vlm.load_vision = load_quantized
    # Conditions of the weights as they were.
    model.conditioner.clear_cache()


def _check_group_options(
    offload_device: torch.device | str,
    offload_type: str,
    blocks: int | None,
    disk: str | None,
) -> None:
    if torch.device(offload_device).type != "cpu":
        raise ValueError(f"weights wait on the CPU; offload_device cannot be {offload_device}")
    if offload_type != "block_level":
        raise ValueError(f"offload_type must be block_level, got {offload_type!r}")
    if blocks not in (None, 1):
        raise ValueError(f"blocks go one by one; num_blocks_per_group must be 1, got {blocks}")
    if disk is not None:
        raise ValueError("weights wait in memory; offload_to_disk_path is not supported")


def _is_available(kind: str) -> bool:
    """Whether torch can compute on a kind of device; cuda, mps, xpu and others have a module."""
    module = getattr(torch, kind, None) or getattr(torch.backends, kind, None)
    return bool(module is not None and module.is_available())
