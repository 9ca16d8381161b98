"""Loading a pipeline with adapters, within a size of memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from deepgen.checkpoint.adapters import merge_lora
from deepgen.checkpoint.files import ModelFolder
from deepgen.checkpoint.folder import compute_dtype
from deepgen.config.memory import MemoryPlan, Quantization
from deepgen.config.model import RopePrecision
from deepgen.pipeline.pipeline import DeepGenPipeline
from deepgen.pipeline.placement import plan_placement


def load(
    path: Path,
    *,
    dtype: str,
    device: torch.device | str,
    rope_precision: RopePrecision | None,
    adapters: Sequence[tuple[Path, float]] = (),
    memory: int | float | None = None,
    quantize: Quantization | None = None,
    compile: bool = False,
    gguf: Sequence[Path] = (),
    height: int | None = None,
    width: int | None = None,
    references: int = 1,
) -> tuple[DeepGenPipeline, MemoryPlan | None]:
    """The pipeline of a model folder, and the plan that it follows.

    Adapters become part of the weights before these are quantized.

    Args:
        path: The folder.
        dtype: To compute in, or ``auto``.
        device: To compute on.
        rope_precision: As of :meth:`DeepGenPipeline.from_pretrained`.
        adapters: LoRA adapters with their strengths.
        memory: Of the device, in GB of 2^30 bytes, to keep to; None sets no limit.
        quantize: As of :meth:`DeepGenPipeline.quantize`.
        compile: As of :meth:`DeepGenPipeline.compile_transformer`.
        gguf: As of :meth:`DeepGenPipeline.from_pretrained`.
        height: Of images in pixels; None is the model's.
        width: As ``height``.
        references: How many images are edited at once.

    Raises:
        CheckpointError: The model or an adapter cannot be used.
        ValueError: Nothing keeps to that memory, or a package is missing.
    """
    device = torch.device(device)
    chosen = compute_dtype(dtype, device)
    folder = ModelFolder(path)
    case = {"height": height, "width": width, "references": references}
    plan = plan_placement(folder, device, chosen, memory, quantize, **case)
    waits = plan is not None or quantize is not None
    pipe = DeepGenPipeline.from_pretrained(
        path,
        dtype=chosen,
        device="cpu" if waits else device,
        rope_precision=rope_precision,
        gguf=gguf,
    )
    for adapter, scale in adapters:
        # For good: the original weights are not kept.
        merge_lora(pipe.model, adapter, scale)
    pipe.place(device, plan, quantize=quantize, compile=compile)
    return pipe, plan
