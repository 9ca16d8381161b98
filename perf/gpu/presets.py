"""Rows of ``tables`` about sizes of memory: does each preset keep to its number, and at what cost?

Weights are random, of the released sizes. Rows of exact presets have the same ``image``, a hash of
the final latents; those with quantized weights are compared with the row of the largest preset.
"""

from __future__ import annotations

import hashlib
import statistics
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from deepgen.config.memory import EXTRAS, GIB, ImageCase, MemoryPlan, Quantization, plan_memory
from deepgen.model import DeepGen
from deepgen.pipeline.pipeline import DeepGenPipeline
from gpu.images import PROMPT_TOKENS, timed
from gpu.loop import DTYPE
from gpu.models import new_model, prompt_text, sizes_of
from gpu.plan import Context, Row
from gpu.rates import peak_gib, reset_peak
from gpu.result import goal, relative_error

STEPS = 20
LATENTS = "preset_latents.pt"
"""Final latents of the first exact preset, in the plan's folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PresetRow:
    """A row: one image within a size of memory."""

    memory: int
    quantization: Quantization | None = None
    repeats: int = 2

    def __call__(self, context: Context) -> Row:
        """Measure."""
        if self.quantization is not None:
            package = EXTRAS[self.quantization][0]
            if find_spec(package) is None:
                return {"skipped": f"{package} is not installed"}
        try:
            return _measure(self, context)
        finally:
            if context.device.type == "cuda":
                torch.cuda.set_per_process_memory_fraction(1.0, context.device)


def _measure(row: PresetRow, context: Context) -> Row:
    sizes = sizes_of(context)
    # Made on the GPU, since a CPU draws for minutes, with what an edit would load.
    model = new_model(sizes, context.device, DTYPE).to("cpu")
    plan = _plan(row, model, sizes.side, offloads=context.device.type != "cpu")
    pipe = DeepGenPipeline(model)
    pipe.set_progress_bar_config(disable=True)
    if context.device.type == "cuda":
        torch.cuda.empty_cache()
    pipe.place(context.device, plan, quantize=row.quantization)
    call = partial(_latents, pipe, 2 if context.toy else STEPS)
    reset_peak(context)
    latents, first = timed(lambda: call(0))
    seconds = [timed(partial(call, number))[1] for number in range(1, 1 + row.repeats)]
    found: Row = {
        "memory": row.memory,
        "quantization": row.quantization,
        "offload": plan.offload,
        "groups": list(plan.groups),
        "steps": 2 if context.toy else STEPS,
        "planned_gib": round(plan.peak / GIB, 2),
        "peak_gib": peak_gib(context),
        "of_card_gib": _of_card(context),
        "first_call_seconds": round(first, 3),
        "median_seconds": round(statistics.median(seconds), 3),
        "image": hashlib.sha256(latents.float().cpu().numpy().tobytes()).hexdigest()[:16],
        **_compared(latents.cpu(), context, is_exact=plan.is_exact),
    }
    held = found["of_card_gib"]
    goals = [] if held is None else [goal("of_card_gib", held, at_most=row.memory)]
    return {**found, "goals": goals}


def _plan(row: PresetRow, model: DeepGen, side: int, *, offloads: bool) -> MemoryPlan:
    modules = {
        "vlm": model.conditioner.vlm,
        "connector": model.conditioner.bridge,
        "transformer": model.dit,
        "vae": model.vae.autoencoder,
    }
    shapes = {
        name: {key: tuple(value.shape) for key, value in module.state_dict().items()}
        for name, module in modules.items()
    }
    return plan_memory(
        shapes,
        row.memory,
        ImageCase(height=side, width=side),
        quantization=row.quantization,
        offloads=offloads,
    )


def _latents(pipe: DeepGenPipeline, steps: int, number: int) -> Tensor:
    text = f"{chr(97 + number)}{prompt_text(pipe.model, PROMPT_TOKENS - 1)}"
    options: dict[str, Any] = {"num_inference_steps": steps, "output_type": "latent"}
    found: Tensor = pipe(text, negative_prompt="", seed=number, **options).images
    # The image, too, for its memory.
    pipe(text, negative_prompt="", seed=number, num_inference_steps=1)
    return found


def _of_card(context: Context) -> float | None:
    """All that this process holds at its peak, the CUDA context included; nothing else may run."""
    if context.device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(context.device)
    beside = total - free - torch.cuda.memory_reserved(context.device)
    return round((beside + torch.cuda.max_memory_reserved(context.device)) / GIB, 2)


def _compared(latents: Tensor, context: Context, *, is_exact: bool) -> Row:
    """Against the first exact preset that was measured."""
    path = context.folder / LATENTS
    if not path.is_file():
        if is_exact:
            torch.save(latents, path)
        return {}
    true = torch.load(path, weights_only=True)
    return {"same_bits": torch.equal(latents, true), "error": relative_error(latents, true)}
