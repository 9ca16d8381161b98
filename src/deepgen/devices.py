"""Which device a process computes on. torch is imported on use only: that takes seconds."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def pick_device(name: str) -> str:
    """A kind of device that this machine has; ``auto`` takes the fastest.

    Args:
        name: ``auto``, ``cuda``, ``mps`` or ``cpu``.

    Raises:
        ValueError: This machine, or this build of torch, does not have it.
    """
    import torch

    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return next(device for device, there in present.items() if there)
    if not present[name]:
        raise ValueError(
            f"--device {name}: torch {torch.__version__} finds no {name} device; try --device cpu"
        )
    return name


def check_device(device: torch.device) -> None:
    """Refuse a GPU that is not there, where torch would speak of how it was compiled.

    Raises:
        ValueError: This machine, or this build of torch, does not have it.
    """
    import torch

    backend = {"cuda": torch.cuda, "mps": torch.backends.mps}.get(device.type)
    if backend is not None and not backend.is_available():
        raise ValueError(
            f"device {device}: torch {torch.__version__} finds no {device.type} here; use "
            "device='cpu'"
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {device}: torch finds {torch.cuda.device_count()} GPUs, numbered from 0"
        )


def local_device(kind: str) -> torch.device:
    """The device of this process: under torchrun the GPU of its local rank.

    The GPU also becomes torch's current one, so that libraries that say only ``cuda`` use it.

    Args:
        kind: As :func:`pick_device` returns it.
    """
    import torch

    if kind != "cuda" or "LOCAL_RANK" not in os.environ:
        return torch.device(kind)
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    return device


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 products take less time than float32 ones.

    Of the CPUs, those with AMX do; without it bfloat16 is emulated.
    """
    import torch

    if device.type == "cpu":
        return bool(torch.cpu.get_capabilities().get("amx_bf16", False))
    return device.type == "cuda"


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device.

    Where it comes from the CPU, a plain copy would wait for all work that the GPU has been given,
    which then stands idle until it is given more. A pinned copy waits for nothing.
    """
    if tensor.is_cpu and device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
