"""One model sharded among several processes, by torch's FSDP2 (``fully_shard``).

Each process keeps its rows of every trained weight, in float32, and of its gradient, moments and
EMA. Weights are gathered from all processes before they are used, and gradients are summed in
the backward pass. So a process needs a fraction of the memory, and steps are the same up to
rounding.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, distribute_tensor

from deepgen.config.stage import STAGES, Stage
from deepgen.config.train import Sharding
from deepgen.dit.model import DiT
from deepgen.model import DeepGen
from deepgen.train.parallel.distributed import SINGLE_PROCESS, Processes


@dataclass(frozen=True, kw_only=True, slots=True)
class Shards:
    """The parts of a model that are gathered together, in a fixed order."""

    parts: Sequence[FSDPModule]
    dit: DiT
    regathers: bool
    """Most are freed after use, and gathered again for the backward pass."""

    def set_is_last_microbatch(self, is_last: bool) -> None:
        """Before a micro-batch: say whether it is the last one of the step.

        Gradients are summed once per step, with the last one; but where memory is too short to keep
        gathered weights, it is too short for gradients of the whole model as well.
        """
        for part in self.parts:
            part.set_requires_gradient_sync(is_last or self.regathers, recurse=False)
            part.set_reshard_after_backward(is_last or self.regathers, recurse=False)

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """In the body, every process has the whole model, and may use it without the others."""
        hooks = [(part._forward_pre_hooks, part._forward_hooks) for part in self.modules]
        max_over_processes, self.dit.max_over_processes = self.dit.max_over_processes, None
        # FSDP's wrapper, an attribute that hides the method of the class.
        enter = vars(self.dit).pop("enter")
        for part, module in zip(self.parts, self.modules, strict=True):
            part.unshard()
            # FSDP would record every use, and wait for the other processes.
            module._forward_pre_hooks, module._forward_hooks = OrderedDict(), OrderedDict()
        try:
            yield
        finally:
            self.dit.max_over_processes = max_over_processes
            vars(self.dit)["enter"] = enter
            for part, module, own_hooks in zip(self.parts, self.modules, hooks, strict=True):
                module._forward_pre_hooks, module._forward_hooks = own_hooks
                part.reshard()

    @property
    def modules(self) -> list[nn.Module]:
        """The parts, typed as modules."""
        return [part for part in self.parts if isinstance(part, nn.Module)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Parallelism:
    """The processes that train together, and what is sharded among them."""

    processes: Processes = SINGLE_PROCESS
    """Their number may differ after a restart."""
    shards: Shards | None = None
    """What the model is sharded into; None where each process has all of it."""


def shard(
    model: DeepGen, sharding: Sharding, processes: Processes, *, mixed: bool
) -> Shards | None:
    """Divide what is trained of a model, or all of it but VAE and vision tower.

    Blocks of the DiT, layers of the connector and, where it is sharded, of the language model are
    gathered one by one; so are the modulations of a block, which are computed before the block.

    Args:
        model: Ready for training, adapters included; changed in place.
        sharding: ``none``, ``optimizer`` or ``full``.
        processes: Those that share the model.
        mixed: Gather weights in bfloat16; gradients are added up in float32 all the same.

    Returns:
        What the trainer needs; None where nothing is sharded.
    """
    if sharding == "none":
        return None
    full = sharding == "full"
    units, roots = gathered_units(model, with_frozen=full)
    whole = set(never_sharded(model))
    if not full:
        whole |= {value for value in model.parameters() if not value.requires_grad}
    mesh = init_device_mesh(model.device.type, (processes.world_size,))
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if mixed else None,
        reduce_dtype=torch.float32,
        # Timesteps up to 1000 would be rounded to bfloat16; autocast casts what should be.
        cast_forward_inputs=False,
    )
    # No such view is modified in place.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")
    for module in (*units, *roots):
        fully_shard(
            module,
            mesh=mesh,
            reshard_after_forward=full and module not in roots,
            mp_policy=policy,
            ignored_params=whole,
        )
    parts = [module for module in (*units, *roots) if isinstance(module, FSDPModule)]
    for part in parts:
        # Weights of samples sum to 1 over all processes: gradients are added, not averaged.
        part.set_gradient_divide_factor(1.0)
        part.set_force_sum_reduction_for_comms(True)
    register_fsdp_forward_method(model.dit, "enter")
    model.dit.max_over_processes = lambda own: max(processes.gather(own))
    return Shards(parts=parts, dit=model.dit, regathers=full)


def gathered_units(model: DeepGen, *, with_frozen: bool) -> tuple[list[nn.Module], list[nn.Module]]:
    """Modules that are gathered one by one, and the roots, which hold the rest for a whole step.

    FSDP may not see the tensors in a conditioner's output, and could not gather its weights again
    for the backward pass; and what no other module holds is little.
    """
    blocks = list(model.dit.transformer_blocks)
    conditioner = model.conditioner
    units: list[nn.Module] = [
        *(block.get_submodule(name) for block in blocks for name in ("norm1", "norm1_context")),
        *blocks,
        *(conditioner.vlm.language_model.layers if with_frozen else ()),
        *conditioner.bridge.connector.layers,
    ]
    return units, [model.dit, conditioner]


def never_sharded(model: DeepGen) -> list[nn.Parameter]:
    """Weights of VAE and vision tower, which not every micro-batch uses."""
    visual = model.conditioner.vlm.visual
    return [*model.vae.parameters(), *(() if visual is None else visual.parameters())]


def chosen_sharding(
    sharding: Sharding, stage: Stage, device: torch.device, world_size: int
) -> Sharding:
    """What a setting means here: ``none``, ``optimizer`` or ``full``."""
    if world_size == 1:
        return "none"
    if sharding != "auto":
        return sharding
    return "optimizer" if STAGES[stage].trains_dit and device.type == "cuda" else "none"


def local(tensor: Tensor) -> Tensor:
    """This process's part of a tensor; the whole of one that is not sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def full_tensor(tensor: Tensor) -> Tensor:
    """A sharded tensor as a whole; a collective call."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shard_like(tensor: Tensor, example: Tensor) -> Tensor:
    """A tensor that every process has, sharded as ``example`` is; without communication."""
    if not isinstance(example, DTensor):
        return tensor
    return distribute_tensor(
        tensor.to(example.device), example.device_mesh, example.placements, src_data_rank=None
    )


def local_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes that this process holds of some tensors."""
    return sum(local(each).numel() * each.element_size() for each in tensors)


def full_state(tensors: Mapping[str, Tensor], processes: Processes) -> dict[str, Tensor]:
    """Whole tensors on the CPU of the first process; empty on all others. A collective call."""
    state = {}
    for name, tensor in tensors.items():
        value = full_tensor(tensor.detach())
        if processes.is_rank_zero:
            state[name] = value.cpu()
    return state
