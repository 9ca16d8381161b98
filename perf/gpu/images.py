"""Rows of ``tables`` about whole images: language model, bridge, denoising loop and VAE decoder.

Weights are random, of the released sizes. A text-to-image model has no vision tower, as
``from_pretrained`` loads it; prompts are new in every call, so none is in the cache of conditions.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from unittest import mock

from denoising import Case
from measure import synchronize
from PIL import Image

from deepgen.images.tensors import to_image
from deepgen.model import DeepGen
from deepgen.pipeline import pipeline
from deepgen.pipeline.pipeline import DeepGenPipeline
from gpu.loop import DTYPE, floor_flops
from gpu.models import new_model, prompt_text, random_pixels, sizes_of
from gpu.plan import Context, Row
from gpu.rates import matrix_rate, peak_gib, reset_peak
from gpu.result import goal

PROMPT_TOKENS = 32
"""A short caption of 20 tokens, and the 12 of the template."""

FUNCTIONS = {"encode_prompts": "prompts", "encode_references": "references"}
METHODS = {"_denoise": "loop", "_finish": "vae"}
"""Functions that the pipeline's module calls, its methods, and what a row calls their time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRow:
    """A row: whole calls of one kind."""

    images: int = 1
    side: int = 512
    references: int = 0
    steps: int = 50
    compiled: bool = False
    recorded: bool = False
    """Compiled as ``--compile`` does, with CUDA graphs."""
    solver: str = "euler"
    cache: str = "none"
    """``first-block`` or ``taylor``, at the pipeline's own settings."""
    offloaded: bool = False
    differing_prompts: bool = False
    """Each image of a batch has a prompt of another length, so rows do not share a shape."""
    repeats: int = 3
    goals: Mapping[str, float] = field(default_factory=dict)
    """At most: ``peak_gib``."""

    def __call__(self, context: Context) -> Row:
        """Measure."""
        return measure_images(self, context)


def measure_images(row: ImageRow, context: Context) -> Row:
    """Time building the model, the first call, and calls after it, with their parts."""
    images = min(row.images, 2) if context.toy else row.images
    side, steps = (sizes_of(context).side, 2) if context.toy else (row.side, row.steps)
    reset_peak(context)
    model, build_seconds = timed(lambda: _model(row, context))
    pipe = DeepGenPipeline(model)
    pipe.set_progress_bar_config(disable=True)
    offloads = row.offloaded and context.device.type != "cpu"
    if offloads:
        pipe.enable_model_cpu_offload(device=context.device)
    if row.compiled and not context.toy:
        model.dit.compile_each_block(dynamic=False)
    if row.recorded and not context.toy:
        pipe.compile_transformer()
    call = partial(_call, pipe, row, images, side, steps)
    reset_peak(context)
    _, first_seconds = timed(lambda: call(0))
    peak = peak_gib(context)
    seconds, parts = [], []
    for number in range(1, 1 + (1 if context.toy else row.repeats)):
        with timed_parts(pipe) as own:
            seconds.append(timed(lambda number=number: call(number))[1])  # type: ignore[misc]
        parts.append(own)
    median = statistics.median(seconds)
    rate = matrix_rate(context)
    case = Case(
        images=images,
        height=side // 8,
        width=side // 8,
        references=row.references,
        context_tokens=_context_tokens(model, row, side),
        steps=steps,
    )
    floor = floor_flops(case, model.dit.config) / rate
    found = {} if peak is None else {"peak_gib": peak}
    return {
        "images": images,
        "pixels": [side, side],
        "references": row.references,
        "steps": steps,
        "compiled": row.compiled,
        "recorded": row.recorded,
        "solver": row.solver,
        "cache": row.cache,
        "offloaded": offloads,
        "build_seconds": round(build_seconds, 2),
        "first_call_seconds": round(first_seconds, 3),
        "median_seconds": round(median, 4),
        "seconds": [round(each, 4) for each in seconds],
        "images_per_second": round(images / median, 4),
        "parts_of_last_call": {name: round(each, 4) for name, each in parts[-1].items()},
        "of_loop_floor": round(median / floor, 3),
        "matrix_flops_per_second": rate,
        "peak_gib": peak,
        "goals": [
            goal(name, found[name], at_most=limit)
            for name, limit in row.goals.items()
            if name in found
        ],
    }


def _model(row: ImageRow, context: Context) -> DeepGen:
    """An offloaded model is made on the GPU, too: a CPU draws its weights for minutes."""
    return new_model(sizes_of(context), context.device, DTYPE, with_vision=row.references > 0)


def _call(
    pipe: DeepGenPipeline, row: ImageRow, images: int, side: int, steps: int, number: int
) -> None:
    """One call, with prompts of its own."""
    lengths = [
        PROMPT_TOKENS + (4 * place if row.differing_prompts else 0) for place in range(images)
    ]
    # The first two letters tell apart the prompts of all calls.
    prompts = [
        f"{chr(97 + number)}{chr(97 + place % 26)}{prompt_text(pipe.model, length - 2)}"
        for place, length in enumerate(lengths)
    ]
    references = _references(row.references, side)
    pipe(
        prompts,
        [references] * images if references else None,
        negative_prompt=[""] * images,
        height=side,
        width=side,
        seed=number,
        num_inference_steps=steps,
        solver=row.solver,
        cache=row.cache,
    )


def _references(count: int, side: int) -> list[Image.Image]:
    return [to_image(each) for each in random_pixels(side, count)]


def _context_tokens(model: DeepGen, row: ImageRow, side: int) -> int:
    """Context tokens of a row of the DiT: prompt, image tokens of references, think tokens."""
    return (
        PROMPT_TOKENS
        + row.references * (side // 32) ** 2
        + model.conditioner.bridge.config.num_queries
    )


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """What a call returns, and its seconds."""
    synchronize()
    started = time.perf_counter()
    result = run()
    synchronize()
    return result, time.perf_counter() - started


@contextmanager
def timed_parts(pipe: DeepGenPipeline) -> Iterator[dict[str, float]]:
    """Seconds of the parts of the body's calls, each waited for."""
    seconds = dict.fromkeys([*FUNCTIONS.values(), *METHODS.values()], 0.0)

    def watched(method: Callable[..., Any], name: str) -> Callable[..., Any]:
        def run(*inputs: Any, **options: Any) -> Any:
            result, own = timed(lambda: method(*inputs, **options))
            seconds[name] += own
            return result

        return run

    with ExitStack() as patches:
        for owner, names in ((pipeline, FUNCTIONS), (pipe, METHODS)):
            for attribute, name in names.items():
                replacement = watched(getattr(owner, attribute), name)
                patches.enter_context(mock.patch.object(owner, attribute, replacement))
        yield seconds
