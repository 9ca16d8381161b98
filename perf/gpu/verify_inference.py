"""Rows of ``verify`` about generating: precision, seeds, batches, compiling, waiting."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from denoising import stock_transformer
from PIL import Image
from torch import Tensor

from deepgen.config.model import DiTConfig
from deepgen.dit.model import DiT
from deepgen.images.tensors import to_image
from deepgen.model import DeepGen
from deepgen.pipeline.pipeline import DeepGenPipeline
from deepgen.pipeline.placement import Placement
from deepgen.types import Condition
from gpu.models import TOY, new_dit, new_model, random_pixels
from gpu.plan import Context, Row, Task
from gpu.result import bounded, exact_float32, largest_error, relative_error
from gpu.waits import counted_waits

FLOAT32 = 1e-4
"""Largest error of one pass in float32 by other kernels, relative to the largest value."""

SAMPLED = 1e-3
"""The same after all steps of a call."""

BFLOAT16 = 0.03
"""Error of one pass in bfloat16, relative to float32, in the Euclidean norm: 8 bits of each product
are kept."""

SAMPLED_BFLOAT16 = 0.05
"""The same after all steps of a call with guidance."""

STEPS = 6

FULL_WIDTH = DiTConfig(num_layers=4, dual_attention_layers=(0, 1))


@torch.no_grad()
def _stock_transformer(context: Context) -> Row:
    """Ours and diffusers' SD3 transformer with the same weights, in float32 and bfloat16.

    Bfloat16 has a bound of its own, and may not be further from float32 than diffusers is, by half
    as much again.
    """
    config = TOY.dit if context.toy else FULL_WIDTH
    device = context.device
    dit = new_dit(config, device, torch.float32)
    with torch.device(device):
        # Tables that come from numpy ignore the default device.
        stock = stock_transformer(config).to(device)
    stock.load_state_dict(dit.state_dict())
    inputs = _dit_inputs(config, device)
    with exact_float32():
        mine, true = _ours(dit, *inputs), _theirs(stock, *inputs)
    lower, stock_lower = _ours(dit.bfloat16(), *inputs), _theirs(stock.bfloat16(), *inputs)
    stock_error = relative_error(stock_lower, true)
    return bounded(
        {
            "float32_largest_error": largest_error(mine, true),
            "bfloat16_error": relative_error(lower, mine),
            "bfloat16_error_of_diffusers": stock_error,
        },
        {
            "float32_largest_error": FLOAT32,
            "bfloat16_error": min(BFLOAT16, max(1e-3, 1.5 * stock_error)),
            "bfloat16_error_of_diffusers": BFLOAT16,
        },
    )


def _dit_inputs(config: DiTConfig, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return (
        torch.randn(2, 16, 32, 24, generator=generator).to(device),
        torch.randn(2, 40, config.joint_attention_dim, generator=generator).to(device),
        torch.randn(2, config.pooled_projection_dim, generator=generator).to(device),
        torch.tensor([120.0, 900.0], device=device),
    )


def _ours(dit: DiT, noisy: Tensor, context: Tensor, pooled: Tensor, times: Tensor) -> Tensor:
    conditions = [
        Condition(prompt_embeds=tokens, pooled_prompt_embeds=vector)
        for tokens, vector in zip(context, pooled, strict=True)
    ]
    return torch.stack(dit(list(noisy), times, conditions, [[]] * len(noisy)))


def _theirs(stock: Any, noisy: Tensor, context: Tensor, pooled: Tensor, times: Tensor) -> Tensor:
    given = [each.to(stock.dtype) for each in (noisy, context, pooled)]
    out: Tensor = stock(*given, times, return_dict=False)[0]
    return out.float()


def _images() -> list[Image.Image]:
    return [to_image(each) for each in random_pixels(TOY.side, 2)]


REQUESTS: tuple[tuple[str, int, int, int], ...] = (
    ("a red cube on a wooden table", 64, 64, 0),
    ("rain", 64, 96, 0),
    ("make it blue", 64, 64, 1),
    ("put the first into the second", 96, 64, 2),
)
"""Prompt, height, width, number of references: one of each kind of request."""


def _alone(
    model: DeepGen,
    request: tuple[str, int, int, int],
    seed: int,
    placement: Placement | None = None,
) -> Tensor:
    """Final latents of one request."""
    prompt, height, width, references = request
    pipe = _pipe(model)
    pipe._placement = placement
    output: Any = pipe(
        prompt,
        _images()[:references] or None,
        height=height,
        width=width,
        seed=seed,
        num_inference_steps=STEPS,
        output_type="latent",
    )
    return torch.as_tensor(output.images[0])


def _pipe(model: DeepGen) -> DeepGenPipeline:
    pipe = DeepGenPipeline(model)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _toy(context: Context, dtype: torch.dtype = torch.float32) -> DeepGen:
    """The same weights on every device, since they are drawn on the CPU."""
    return new_model(TOY, torch.device("cpu"), torch.float32).to(context.device, dtype)


def _pipeline_and_cpu(context: Context) -> Row:
    """Whole calls in float32 against the CPU, and in bfloat16 against float32."""
    on_cpu = _toy(replace(context, device=torch.device("cpu")))
    here = _toy(context)
    with exact_float32():
        true = [_alone(on_cpu, each, seed=3) for each in REQUESTS]
        mine = [_alone(here, each, seed=3) for each in REQUESTS]
    lower = [_alone(_toy(context, torch.bfloat16), each, seed=3) for each in REQUESTS]
    return bounded(
        {
            "float32_largest_error": max(map(largest_error, mine, true)),
            "bfloat16_error": max(map(relative_error, lower, true)),
        },
        {"float32_largest_error": SAMPLED, "bfloat16_error": SAMPLED_BFLOAT16},
        requests=len(REQUESTS),
    )


def _equal_seeds(context: Context) -> Row:
    """A call made twice gives the same bits, and another seed another image."""
    model = _toy(context, torch.bfloat16)
    different = 0
    for request in REQUESTS:
        first = _alone(model, request, seed=5)
        model.conditioner.clear_cache()
        different += not torch.equal(first, _alone(model, request, seed=5))
    other = relative_error(_alone(model, REQUESTS[0], seed=6), _alone(model, REQUESTS[0], seed=5))
    return bounded(
        {"requests_with_other_bits": different, "another_seed_is_equal": other < 0.1},
        {"requests_with_other_bits": 0, "another_seed_is_equal": 0},
        requests=len(REQUESTS),
    )


def _batch_mates(context: Context) -> Row:
    """Each request of a batch against the same one alone, with its own seed."""
    return bounded(
        {
            "float32_largest_error": max(_mate_errors(context, torch.float32, largest_error)),
            "bfloat16_error": max(_mate_errors(context, torch.bfloat16, relative_error)),
        },
        {"float32_largest_error": SAMPLED, "bfloat16_error": SAMPLED_BFLOAT16},
    )


def _mate_errors(context: Context, dtype: torch.dtype, error: Any) -> list[float]:
    model = _toy(context, dtype)
    errors = []
    with exact_float32():
        # One size per call is what the pipeline takes; references may differ.
        for height, width in {(each[1], each[2]) for each in REQUESTS}:
            same = [(each[0], height, width, each[3]) for each in REQUESTS]
            output: Any = _pipe(model)(
                [each[0] for each in same],
                [_images()[: each[3]] for each in same],
                negative_prompt=["gloom"] * len(same),
                height=height,
                width=width,
                seed=7,
                num_inference_steps=STEPS,
                padding="pair",
                output_type="latent",
            )
            for place, request in enumerate(same):
                alone: Any = _pipe(model)(
                    request[0],
                    _images()[: request[3]] or None,
                    negative_prompt="gloom",
                    height=height,
                    width=width,
                    seed=7 + place,
                    num_inference_steps=STEPS,
                    padding="pair",
                    output_type="latent",
                )
                errors.append(error(output.images[place], alone.images[0]))
    return errors


def _compiled(context: Context) -> Row:
    """Compiled blocks, each by itself and all as one graph, against eager ones."""
    model = _toy(context)
    with exact_float32():
        eager = [_alone(model, each, seed=3) for each in REQUESTS[2:3]]
        whole = copy.deepcopy(model)
        whole.dit.compile_blocks(**compile_options(context))
        as_one = [_alone(whole, each, seed=3) for each in REQUESTS[2:3]]
        model.dit.compile_each_block(**compile_options(context))
        one_by_one = [_alone(model, each, seed=3) for each in REQUESTS[2:3]]
    return bounded(
        {
            "one_graph_largest_error": max(map(largest_error, as_one, eager)),
            "each_block_largest_error": max(map(largest_error, one_by_one, eager)),
        },
        {"one_graph_largest_error": SAMPLED, "each_block_largest_error": SAMPLED},
    )


def _graphs(context: Context) -> Row:
    """CUDA graphs (mode ``reduce-overhead``) against eager, in bfloat16."""
    model = _toy(context, torch.bfloat16)
    eager = _alone(model, REQUESTS[0], seed=3)
    model.dit.compile_blocks(**compile_options(context, "reduce-overhead"))
    first, second = (_alone(model, REQUESTS[0], seed=3) for _ in range(2))
    return bounded(
        {
            "error": relative_error(first, eager),
            "a_replay_has_other_bits": not torch.equal(first, second),
        },
        {"error": SAMPLED_BFLOAT16, "a_replay_has_other_bits": 0},
    )


def _recorded(context: Context) -> Row:
    """``--compile``: blocks one by one, replayed as CUDA graphs by shape, against eager."""
    model = _toy(context, torch.bfloat16)
    requests = (*REQUESTS[:3], REQUESTS[0])
    eager = [_alone(model, each, seed=3) for each in requests]
    graphs = context.device.type == "cuda"
    model.dit.compile_for_sampling(graphs=graphs, **compile_options(context))
    found = [_alone(model, each, seed=3) for each in requests]
    errors = list(map(relative_error, found, eager))
    return bounded(
        {
            "error": max(errors),
            "a_replay_has_other_bits": not torch.equal(found[0], found[-1]),
        },
        {"error": SAMPLED_BFLOAT16, "a_replay_has_other_bits": 0},
    )


def _offloaded(context: Context) -> Row:
    """Offload of parts and of blocks, with and without a stream, against weights that stay."""
    model = _toy(context, torch.bfloat16)
    kept = [_alone(model, each, seed=3) for each in REQUESTS]
    model.to("cpu")
    differing = {}
    for name, groups, prefetches in (
        ("parts", (), False),
        ("blocks", ("vlm", "transformer"), False),
        ("blocks_with_stream", ("vlm", "transformer"), True),
    ):
        placement = Placement(model, context.device, groups, prefetches=prefetches)
        found = []
        # Twice, so that memory is used again while copies may be on their way.
        for each in (*REQUESTS, *REQUESTS):
            model.conditioner.clear_cache()
            found.append(_alone(model, each, seed=3, placement=placement))
        placement.close()
        same = map(torch.equal, found, (*kept, *kept))
        differing[f"{name}_with_other_bits"] = len(found) - sum(same)
    return bounded(differing, dict.fromkeys(differing, 0))


def compile_options(context: Context, mode: str | None = None) -> dict[str, Any]:
    """Options of ``torch.compile``; a rehearsal traces graphs without compiling them."""
    if context.toy:
        return {"backend": "eager"}
    return {} if mode is None else {"mode": mode}


def _waits(context: Context) -> Row:
    """How often the host waits for the GPU in the denoising loop, which it never has to."""
    model = _toy(context, torch.bfloat16)
    pipe = _pipe(model)
    where: dict[str, int] = {}

    def steps(pipe: Any, step: int, timestep: float, tensors: dict[str, Any]) -> None:
        if step == 0:
            counter.__enter__()
        if step == STEPS - 1:
            counter.__exit__(None, None, None)

    counter = counted_waits(context.device, where)
    pipe(
        REQUESTS[2][0],
        _images()[:1],
        seed=1,
        num_inference_steps=STEPS,
        callback_on_step_end=steps,
        output_type="latent",
    )
    return bounded({"waits": sum(where.values())}, {"waits": 0}, where=where, steps=STEPS - 1)


TASKS = (
    Task(name="stock_transformer", run=_stock_transformer, seconds=20, gib=3),
    Task(name="pipeline_and_cpu", run=_pipeline_and_cpu, seconds=20),
    Task(name="equal_seeds", run=_equal_seeds, seconds=10),
    Task(name="batch_mates", run=_batch_mates, seconds=20),
    Task(name="compiled", run=_compiled, seconds=90),
    Task(name="cuda_graphs", run=_graphs, seconds=60),
    Task(name="recorded_graphs", run=_recorded, seconds=90),
    Task(name="offloaded", run=_offloaded, seconds=30),
    Task(name="waits_when_generating", run=_waits, seconds=10),
)
