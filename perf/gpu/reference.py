"""Rows of ``verify`` that compare with the reference numbers of the public implementation.

All in float32 without TF32, within ten times the tolerances that the tests have on a CPU.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from deepgen.checkpoint.folder import load_folder
from deepgen.flow.schedule import training_sigmas
from deepgen.images.tensors import to_pixels
from deepgen.model import DeepGen
from deepgen.pipeline.pipeline import DeepGenPipeline
from deepgen.train.objective import FlowBatch, FlowObjective
from deepgen.train.sample_rng import Purpose, SampleKey, SampleRng
from deepgen.types import Condition, Prompt
from gpu.plan import Context, Row, Task
from gpu.result import GPU_FACTOR, bounded, exact_float32, largest_error

MODULE, END_TO_END, LOSS, GRADIENT = 2e-5, 1e-4, 1e-4, 1e-3
"""The tolerances of the tests."""


class Reference:
    """The folder of reference numbers, and its model on the device of a plan.

    Raises:
        ValueError: The folder is not at hand.
    """

    def __init__(self, context: Context) -> None:
        if context.golden is None:
            raise ValueError("needs the reference numbers; name their folder with --golden")
        self.folder = context.golden
        self.device = context.device

    def model(self) -> DeepGen:
        """The recorded model, in float32."""
        return load_folder(
            self.folder / "model", dtype="float32", device=self.device, rope_precision="fp32"
        )

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """Arrays of a recorded case."""
        return dict(np.load(self.folder / f"{name}.npz"))

    def cases(self, kind: str) -> dict[str, Any]:
        """Inputs of all recorded cases of a kind."""
        found: dict[str, Any] = json.loads((self.folder / "cases.json").read_text("utf-8"))[kind]
        return found

    def image(self, name: str) -> Image.Image:
        """A recorded input image."""
        (path,) = Path(self.folder / "inputs").glob(f"{name}_h*.png")
        return Image.open(path).convert("RGB")

    def pixels(self, name: str) -> Tensor:
        """The same, in [-1, 1]."""
        return to_pixels(self.image(name)).to(self.device)

    def tensor(self, array: np.ndarray) -> Tensor:
        """A recorded array on the device."""
        return torch.from_numpy(array).to(self.device)


Check = Callable[[Reference], dict[str, float]]
"""Errors by name of case."""


@torch.no_grad()
def _dit(reference: Reference) -> dict[str, float]:
    """Velocities of the DiT: text-to-image, references, and all of them in one batch."""
    dit, errors = reference.model().dit, {}
    tensor = reference.tensor

    def told(arrays: dict[str, np.ndarray], rows: int) -> list[Condition]:
        return [
            Condition(prompt_embeds=tensor(context), pooled_prompt_embeds=tensor(pooled))
            for context, pooled in zip(
                arrays["encoder_hidden_states"][:rows], arrays["pooled"][:rows], strict=True
            )
        ]

    t2i = reference.arrays("dit/t2i")
    latents = list(tensor(t2i["latents"]))
    for index, timestep in enumerate(t2i["timesteps"]):
        every = torch.full((2,), float(timestep))
        mine = torch.stack(dit(latents, every, told(t2i, 2), [[], []]))
        errors[f"t2i_{index}"] = largest_error(mine, t2i[f"velocity_{index}"])
    mine = torch.stack(
        dit(latents, torch.from_numpy(t2i["timestep_mixed"]), told(t2i, 2), [[]] * 2)
    )
    errors["t2i_mixed"] = largest_error(mine, t2i["velocity_mixed"])
    for name, keys in (("ref1", ["ref0"]), ("ref2", ["ref0", "ref1"])):
        case = reference.arrays(f"dit/{name}")
        own = [tensor(case[key]) for key in keys]
        time = torch.from_numpy(case["timestep"])
        (one,) = dit([tensor(case["latents"][0])], time, told(case, 1), [own])
        errors[name] = largest_error(one, case["velocity"][0])
    case = reference.arrays("dit/ragged_list")
    batch = [tensor(case[f"sample{index}.latents"]) for index in range(3)]
    references = [
        [tensor(case["sample0.ref0"])],
        [],
        [tensor(case["sample2.ref0"]), tensor(case["sample2.ref1"])],
    ]
    time = torch.from_numpy(case["timestep"])
    for index, one in enumerate(dit(batch, time, told(case, 3), references)):
        errors[f"ragged_{index}"] = largest_error(one, case[f"sample{index}.velocity"])
    return errors


@torch.no_grad()
def _conditions(reference: Reference) -> dict[str, float]:
    """Context tokens and pooled vectors of prompts, padded as in training, and of edits."""
    conditioner, errors = reference.model().conditioner, {}
    for name, case in reference.cases("cond").items():
        if "unpadded" in name:
            continue
        texts = case if isinstance(case, list) else case["prompts"]
        owned = [[]] * len(texts) if isinstance(case, list) else case["refs"]
        prompts = [
            Prompt(text=text, references=tuple(reference.pixels(each) for each in own))
            for text, own in zip(texts, owned, strict=True)
        ]
        if len(prompts) == 1:
            conditions, _ = conditioner.encode(prompts, [], "none", guided=False)
        else:
            half = len(prompts) // 2
            positive, negative = conditioner.encode(
                prompts[:half], prompts[half:], "batch", guided=True
            )
            conditions = [*positive, *(negative or [])]
        arrays = reference.arrays(f"cond/{name}")
        context = torch.stack([each.expanded() for each in conditions])
        pooled = torch.stack([each.pooled_prompt_embeds for each in conditions])
        errors[name] = max(
            largest_error(context, arrays["seq_out"]), largest_error(pooled, arrays["pooled_out"])
        )
    return errors


@torch.no_grad()
def _vae(reference: Reference) -> dict[str, float]:
    vae, arrays = reference.model().vae, reference.arrays("vae/vae")
    (latents,) = vae.encode([reference.pixels("r0")])
    (pixels,) = vae.decode([reference.tensor(arrays["r0.latents_mode"][0])])
    return {
        "encode": largest_error(latents[None], arrays["r0.latents_mode"]),
        "decode": largest_error(pixels[None], arrays["r0.decoded_from_latents_mode"]),
    }


def _sampling(reference: Reference) -> dict[str, float]:
    """Final latents of whole calls: text-to-image, guidance, edits, batches of mixed sizes."""
    pipe = DeepGenPipeline(reference.model())
    pipe.set_progress_bar_config(disable=True)
    errors = {}
    for name, case in reference.cases("sampling").items():
        arrays = reference.arrays(f"sampling/{name}")
        owned = case["refs"]
        output: Any = pipe(
            case["prompts"],
            owned and [[reference.image(each) for each in own] for own in owned],
            negative_prompt=case["negative_prompts"],
            latents=reference.tensor(arrays["init_latents"]),
            num_inference_steps=case["steps"],
            guidance_scale=case["cfg"],
            padding="batch" if case["padded"] else "none",
            output_type="latent",
        )
        errors[name] = largest_error(output.images, arrays["final_latents"])
    return errors


class _RecordedRng(SampleRng):
    """The random numbers of a recorded case."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        super().__init__(0, "recorded")
        self.arrays = arrays

    def uniform(self, key: SampleKey, purpose: int) -> float:
        """See :class:`SampleRng`."""
        name = "u" if purpose == Purpose.LEVEL else "caption_drop_uniforms"
        return float(self.arrays[name][int(key.sample)])

    def normal(self, key: SampleKey, purpose: int, shape: torch.Size) -> Tensor:
        """See :class:`SampleRng`."""
        source = f"src{purpose - Purpose.REFERENCE_POSTERIOR}.vae_eps"
        name = {int(Purpose.NOISE): "noise", int(Purpose.TARGET_POSTERIOR): "vae_eps"}.get(
            int(purpose), source
        )
        return torch.from_numpy(self.arrays[f"sample{key.sample}.{name}"])


def _training(reference: Reference) -> tuple[dict[str, float], dict[str, float]]:
    """Loss and gradients of recorded micro-batches."""
    losses, gradients = {}, {}
    for name, case in reference.cases("train").items():
        model, arrays = reference.model(), reference.arrays(f"train/{name}")
        model.conditioner.vlm.requires_grad_(False)
        drop = float(arrays["unconditional"][0]) if "unconditional" in arrays else 0.0
        objective = FlowObjective(
            training_sigmas(model.schedule),
            _RecordedRng(arrays),
            caption_drop=drop,
            padding="batch",
        )
        loss = objective(model, _micro_batch(reference, model, case, arrays), torch.Generator())
        loss.total.backward()
        losses[name] = largest_error(loss.total[None], arrays["loss"])
        found = {
            new + key.removeprefix(old): value.grad
            for key, value in model.named_parameters()
            for old, new in (("conditioner.bridge.", ""), ("dit.", "transformer."))
            if key.startswith(old) and value.grad is not None
        }
        gradients[name] = max(
            largest_error(found[key.removeprefix("grad.")], value)
            for key, value in arrays.items()
            if key.startswith("grad.")
        )
    return losses, gradients


@torch.no_grad()
def _micro_batch(
    reference: Reference, model: DeepGen, case: dict[str, Any], arrays: dict[str, np.ndarray]
) -> FlowBatch:
    texts = case["texts"]
    sources = [
        [reference.pixels(each) for each in own] for own in case.get("src", [[]] * len(texts))
    ]
    targets = case.get("images") or case.get("target")
    latents: Any = (
        [reference.tensor(arrays[f"sample{index}.latents"]) for index in range(len(texts))]
        if not targets
        else model.vae.posteriors([reference.pixels(each) for each in targets])
    )
    return FlowBatch(
        latents=latents,
        prompts=[
            Prompt(text=text, references=tuple(own))
            for text, own in zip(texts, sources, strict=True)
        ],
        reference_latents=[model.vae.posteriors(own) if own else [] for own in sources],
        keys=[SampleKey(sample=str(index)) for index in range(len(texts))],
        weights=torch.full((len(texts),), 1 / len(texts)),
    )


def _row(check: Check, tolerance: float, context: Context) -> Row:
    """The largest error of all cases, and each of them."""
    with exact_float32():
        errors = check(Reference(context))
    worst = max(errors, key=lambda name: errors[name])
    return bounded(
        {"largest_error": errors[worst]},
        {"largest_error": GPU_FACTOR * tolerance},
        cases=len(errors),
        worst_case=worst,
    )


def _training_row(context: Context) -> Row:
    with exact_float32():
        losses, gradients = _training(Reference(context))
    return bounded(
        {"loss": max(losses.values()), "gradient": max(gradients.values())},
        {"loss": GPU_FACTOR * LOSS, "gradient": GPU_FACTOR * GRADIENT},
        cases=len(losses),
    )


TASKS = (
    Task(name="golden_dit", run=partial(_row, _dit, MODULE), seconds=20),
    Task(name="golden_conditions", run=partial(_row, _conditions, MODULE), seconds=20),
    Task(name="golden_vae", run=partial(_row, _vae, MODULE), seconds=15),
    Task(name="golden_sampling", run=partial(_row, _sampling, END_TO_END), seconds=30),
    Task(name="golden_training", run=_training_row, seconds=20),
)
