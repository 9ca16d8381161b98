"""Memory: what activations take at the released size, and what quantization changes on the mini.

Activations are counted on torch's meta device, where nothing is computed: what operators allocate,
until it is freed. Scratch memory inside of operators is not seen; fused attention is taken to have
none. Quantized weights are compared on the CPU, by images of the same seeds.

``python perf/memory.py [--only activations|quantization|compiling] [--prompts 16]`` writes its
parts into ``perf/results/memory.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gpu.models import RELEASED, byte_tokenizer, new_autoencoder
from measure import environment, write
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from deepgen.conditioning.bridge import Bridge
from deepgen.conditioning.encoder import Conditioner
from deepgen.conditioning.vlm import VisionLanguageModel
from deepgen.config.memory import DIT_FACTOR, MODULATION_ROWS, QUANTIZATIONS, VAE_FACTOR, VLM_FACTOR
from deepgen.config.model import GenerationDefaults, ScheduleConfig
from deepgen.dit.model import DiT
from deepgen.mini.world.version0 import held_out_drawing, held_out_pairs
from deepgen.model import DeepGen
from deepgen.pipeline.denoising import advance, begin
from deepgen.pipeline.pipeline import DeepGenPipeline
from deepgen.types import Condition, Prompt
from deepgen.vae import LatentCodec

RESULTS = Path(__file__).parent / "results" / "memory.json"

Row = dict[str, Any]


class LiveBytes(TorchDispatchMode):
    """Counts the storages that operators return, until they are freed."""

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known = {each.untyped_storage()._cdata for each in known}
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak: int = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operator and count what it returns."""
        result = function(*args, **(kwargs or {}))
        for each in tree_leaves(result):
            if isinstance(each, Tensor) and not each.is_cpu:
                storage = each.untyped_storage()
                if storage._cdata not in self._known:
                    self._live[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self._live = {key: value for key, value in self._live.items() if not value[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self._live.values()))
        return result


def peak_of(run: Callable[[], object], known: list[Tensor]) -> int:
    """Peak bytes of a call, beside known tensors."""
    fused = mock.patch.object(
        F, "scaled_dot_product_attention", lambda query, *_, **__: torch.empty_like(query)
    )
    counted = LiveBytes(known)
    with fused, counted, torch.no_grad():
        run()
    return counted.peak


def released_on_meta() -> DeepGen:
    """The released sizes in bfloat16, without values."""
    with torch.device("meta"):
        return (
            DeepGen(
                Conditioner(
                    VisionLanguageModel(RELEASED.vlm, RELEASED.bridge),
                    Bridge(RELEASED.bridge),
                    byte_tokenizer(),
                ),
                DiT(RELEASED.dit),
                LatentCodec(new_autoencoder(RELEASED)),
                ScheduleConfig(),
                GenerationDefaults(),
            )
            .to(torch.bfloat16)
            .eval()
        )


def measure_activations() -> list[Row]:
    """Bytes of each stage, and the factor of the formula that they follow from."""
    model = released_on_meta()
    known = [*model.parameters(), *model.buffers()]
    rows = [
        _denoising(model, known, *case)
        for case in ((512, 1, 0, 160), (512, 4, 0, 160), (512, 1, 1, 448), (1024, 1, 1, 1184))
    ]
    rows += [_vae(model, known, side) for side in (512, 1024)]
    return rows + [_conditioning(model, known, text) for text in (20, 500, 2000)]


def _denoising(
    model: DeepGen, known: list[Tensor], side: int, images: int, references: int, context: int
) -> Row:
    config, cells = model.dit.config, side // 8

    def row() -> Condition:
        return Condition(
            prompt_embeds=_empty(context, config.joint_attention_dim),
            pooled_prompt_embeds=_empty(config.pooled_projection_dim),
        )

    def run() -> None:
        noise = [torch.empty(16, cells, cells, device="meta") for _ in range(images)]
        seen = [[torch.empty(16, cells, cells, device="meta")] * references] * images
        rows = [row()] * images
        begun = begin(model.dit, noise, rows, rows, seen, torch.linspace(1, 0, 51), 4.0)
        for _ in range(2):
            advance(model.dit, [begun])

    peak = peak_of(run, known)
    tokens = (1 + references) * (side // 16) ** 2 + context
    parts = sum(
        value.shape[0]
        for name, value in model.dit.named_parameters()
        if "norm" in name and name.endswith("linear.weight")
    )
    steps = MODULATION_ROWS // (2 * images)
    modulations = 2 * parts * 2 * images * min(50, steps)
    factor = (peak - modulations) / 2 / (2 * images * tokens * config.width)
    case = {"pixels": side, "images": images, "references": references, "context_tokens": context}
    return _row("denoising", peak, factor, DIT_FACTOR, case)


def _vae(model: DeepGen, known: list[Tensor], side: int) -> Row:
    latents, pixels = torch.empty(16, side // 8, side // 8), torch.empty(3, side, side)
    decoding = peak_of(lambda: model.vae.decode([latents.to("meta")]), known)
    encoding = peak_of(lambda: model.vae.encode([pixels.to("meta")]), known)
    channels = RELEASED.autoencoder["block_out_channels"][0]
    factor = decoding / 2 / (channels * side**2)
    found = _row("vae", decoding, factor, VAE_FACTOR, {"pixels": side})
    return {**found, "encoding_mib": round(encoding / 2**20, 1)}


def _conditioning(model: DeepGen, known: list[Tensor], characters: int) -> Row:
    conditioner = model.conditioner

    def run() -> None:
        prompts = [Prompt(text="a" * characters)], [Prompt(text="")]
        conditioner.clear_cache()
        conditioner.encode(*prompts, padding="pair", guided=True)

    modules = "deepgen.conditioning.encoder", "deepgen.conditioning.bridge"
    # The meta device has no autocast and no values to check.
    patches = [mock.patch(f"{each}.product_dtype", lambda weight: weight.dtype) for each in modules]
    with patches[0], patches[1], mock.patch(f"{modules[0]}.checksum", lambda _: 0):
        peak = peak_of(run, known)
    tokens = len(conditioner.tokenize(Prompt(text="a" * characters)))
    tokens += conditioner.bridge.config.num_queries
    inner: int = conditioner.vlm.language_model.config.intermediate_size
    return _row("conditioning", peak, peak / 2 / (inner * tokens), VLM_FACTOR, {"tokens": tokens})


def _row(stage: str, peak: int, factor: float, assumed: float, case: Row) -> Row:
    made = {"stage": stage, **case, "peak_mib": round(peak / 2**20, 1)}
    return {**made, "factor": round(factor, 2), "factor_of_the_formula": assumed}


def _empty(*shape: int) -> Tensor:
    return torch.empty(*shape, device="meta", dtype=torch.bfloat16)


def measure_quantization(count: int) -> list[Row]:
    """Weights, time, and difference of images from those of the model as it is."""
    prompts = [held_out_drawing(pair).text for pair in held_out_pairs()[:count]]
    exact, seconds, size = _images(None, prompts)
    rows = [{"kind": "none", "weights_mb": size, "seconds_per_image": seconds}]
    for kind in QUANTIZATIONS:
        images, seconds, size = _images(kind, prompts)
        errors = [_psnr(mine, true) for mine, true in zip(images, exact, strict=True)]
        rows.append(
            {
                "kind": kind,
                "weights_mb": size,
                "seconds_per_image": seconds,
                "psnr_median": round(statistics.median(errors), 1),
                "psnr_least": round(min(errors), 1),
            }
        )
    return rows


def _images(kind: Any, prompts: list[str]) -> tuple[list[np.ndarray], float, float]:
    pipe = DeepGenPipeline.from_pretrained("mini", quantize=kind)
    pipe.set_progress_bar_config(disable=True)
    size = sum(_bytes(each) for each in pipe.model.parameters()) / 1e6
    pipe(prompts[0], seed=0, num_inference_steps=2)
    start = time.perf_counter()
    images = [np.asarray(pipe(prompt, seed=seed).images[0]) for seed, prompt in enumerate(prompts)]
    return images, round((time.perf_counter() - start) / len(prompts), 2), round(size, 1)


def _bytes(weight: Tensor) -> int:
    if hasattr(weight, "quant_state"):
        return weight.nbytes + int(weight.quant_state.absmax.nbytes)
    if hasattr(weight, "__tensor_flatten__"):
        held = (getattr(weight, name) for name in weight.__tensor_flatten__()[0])
        return sum(each.nbytes for each in held if isinstance(each, Tensor))
    return weight.nbytes


def _psnr(one: np.ndarray, other: np.ndarray) -> float:
    error = float(np.square(one.astype(float) - other).mean())
    return 10 * float(np.log10(255**2 / max(error, 1e-9)))


def measure_compiling(count: int) -> Row:
    """Latents of compiled blocks against eager ones, on the CPU, in both precisions."""
    prompts = [held_out_drawing(pair).text for pair in held_out_pairs()[:count]]
    found: Row = {}
    for dtype in (torch.float32, torch.bfloat16):
        pipe = DeepGenPipeline.from_pretrained("mini", dtype=dtype)
        pipe.set_progress_bar_config(disable=True)
        options: dict[str, Any] = {"seed": 0, "output_type": "latent"}
        eager = pipe(prompts, **options).images
        pipe.compile_transformer()
        start = time.perf_counter()
        compiled = pipe(prompts, **options).images
        first = time.perf_counter() - start
        images = [_psnr_of(one, two, pipe) for one, two in zip(compiled, eager, strict=True)]
        found[str(dtype).removeprefix("torch.")] = {
            "latents_relative_error": float((compiled - eager).norm() / eager.norm()),
            "psnr_least": round(min(images), 1),
            "first_call_seconds": round(first, 1),
        }
    return found


def _psnr_of(one: Tensor, other: Tensor, pipe: DeepGenPipeline) -> float:
    with torch.no_grad():
        made = [(each.clamp(-1, 1) + 1) * 127.5 for each in pipe.model.vae.decode([one, other])]
    return _psnr(made[0].float().numpy(), made[1].float().numpy())


def main() -> None:
    """Measure, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("activations", "quantization", "compiling"))
    parser.add_argument("--prompts", type=int, default=16)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    record = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    record["environment"] = environment()
    parts: dict[str, Callable[[], Any]] = {
        "activations": measure_activations,
        "quantization": lambda: measure_quantization(arguments.prompts),
        "compiling": lambda: measure_compiling(min(4, arguments.prompts)),
    }
    for name, measure in parts.items():
        if arguments.only in (None, name):
            record[name] = measure()
            write("memory", record)


if __name__ == "__main__":
    main()
