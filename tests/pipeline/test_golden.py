"""The whole pipeline against the recorded runs of the public implementation."""

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from deepgen.images.tensors import to_pixels
from deepgen.pipeline.pipeline import DeepGenPipeline
from deepgen.types import Prompt
from tests.shared import error, golden

CASES = (
    "t2i_64x64_s4_empty",
    "t2i_64x64_s8_empty",
    "t2i_64x64_s8_negative",
    "t2i_96x96_s4_negative",
    "t2i_96x96_s8_empty",
    "t2i_64x96_s4_empty",
    "t2i_batch2_64x64_s4",
    "t2i_64x64_s4_nocfg",
    "edit_1ref_s4",
    "edit_1ref_s8",
    "edit_2ref_s4_negative",
    "edit_ragged_batch2_64x64_s4",
    "t2i_64x64_s8_empty_unpadded",
    "edit_1ref_s4_unpadded",
)
MODULE, END_TO_END = 2e-5, 1e-4


@cache
def pipeline() -> DeepGenPipeline:
    pipe = DeepGenPipeline.from_pretrained(golden("model"), rope_precision="fp32")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def image(name: str) -> Image.Image:
    (path,) = golden("inputs").glob(f"{name}_h*.png")
    return Image.open(path)


def run(name: str, **options: Any) -> tuple[Any, dict[str, np.ndarray]]:
    case = json.loads(golden("cases.json").read_text())["sampling"][name]
    recorded = dict(np.load(golden(f"sampling/{name}.npz")))
    references = case["refs"] and [[image(each) for each in own] for own in case["refs"]]
    images = pipeline()(
        case["prompts"],
        image=references,
        negative_prompt=case["negative_prompts"],
        latents=torch.from_numpy(recorded["init_latents"]),
        num_inference_steps=case["steps"],
        guidance_scale=case["cfg"],
        padding="batch" if case["padded"] else "none",
        **options,
    ).images
    return images, recorded


@pytest.mark.parametrize("name", CASES)
def test_every_step_and_the_final_latents_are_the_recorded_ones(name: str) -> None:
    seen = []

    def record(pipe: Any, step: int, timestep: float, tensors: dict[str, Any]) -> None:
        assert timestep == pytest.approx(recorded_timesteps[step], rel=1e-6)
        seen.append(torch.as_tensor(tensors["latents"]).clone())

    recorded_timesteps = np.load(golden(f"sampling/{name}.npz"))["timesteps"]
    final, recorded = run(name, output_type="latent", callback_on_step_end=record)
    assert error(torch.stack(seen), recorded["latents_after_step"]) <= END_TO_END
    assert error(final, recorded["final_latents"]) <= END_TO_END
    sigmas = recorded["sigmas"]
    first_velocity = (seen[0] - torch.from_numpy(recorded["init_latents"])) / (
        sigmas[1] - sigmas[0]
    )
    assert error(first_velocity, recorded["guided_velocity_step0"]) <= MODULE


@pytest.mark.parametrize("name", CASES)
def test_float_pixels_are_the_recorded_ones(name: str) -> None:
    pixels, recorded = run(name, output_type="pt")
    expected = np.clip(recorded["pixels"] / 2 + 0.5, 0, 1)
    assert error(pixels, expected) <= END_TO_END


@pytest.mark.parametrize("name", CASES)
def test_images_are_the_recorded_ones_within_one_level(name: str) -> None:
    images, _ = run(name)
    mine = np.concatenate([np.asarray(each) for each in images], axis=1).astype(int)
    true = np.asarray(Image.open(golden(f"sampling/{name}.png")).convert("RGB")).astype(int)
    assert np.abs(mine - true).max() <= 1


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("edit")])
def test_reference_latents_are_the_recorded_ones(name: str) -> None:
    case = json.loads(golden("cases.json").read_text())["sampling"][name]
    recorded = np.load(golden(f"sampling/{name}.npz"))
    left = {key for key in recorded if key.startswith("cond_latents.")}
    for row, own in enumerate(case["refs"]):
        with torch.no_grad():
            latents = pipeline().model.vae.encode([to_pixels(image(each)) for each in own])
        for place, mine in enumerate(latents):
            key = f"cond_latents.{row}.{place}"
            if key in left:
                assert error(mine, recorded[key]) <= MODULE
                left.remove(key)
    assert left == set()


@pytest.mark.parametrize("name", [name for name in CASES if name.endswith("_unpadded")])
def test_conditions_of_unpadded_runs_are_the_recorded_ones(name: str) -> None:
    case = json.loads(golden("cases.json").read_text())["sampling"][name]
    recorded = np.load(golden(f"sampling/{name}.npz"))
    references = tuple(to_pixels(image(each)) for own in case["refs"] or [] for each in own)
    texts = (*case["prompts"], *case["negative_prompts"])
    (positive, negative) = (Prompt(text=text, references=references) for text in texts)
    with torch.no_grad():
        towards, away = pipeline().model.conditioner.encode([positive], [negative], "none", True)
    assert away is not None
    pooled = torch.stack([each.pooled_prompt_embeds for each in (*towards, *away)])
    assert error(pooled, recorded["pooled_out"]) <= MODULE
    assert error(towards[0].prompt_embeds[None], recorded["seq_out_positive"]) <= MODULE
    assert error(away[0].prompt_embeds[None], recorded["seq_out_negative"]) <= MODULE


def test_a_saved_pipeline_draws_the_same(tmp_path: Path) -> None:
    pipeline().save_pretrained(tmp_path / "again")
    again = DeepGenPipeline.from_pretrained(tmp_path / "again", rope_precision="fp32")
    again.set_progress_bar_config(disable=True)
    arguments = {
        "seed": 3,
        "num_inference_steps": 2,
        "height": 64,
        "width": 64,
        "output_type": "pt",
    }
    mine, theirs = again.model.state_dict(), pipeline().model.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    # Files are mapped as they lie, and kernels round by how their operands are aligned: copies are
    # aligned alike.
    first, second = (
        DeepGenPipeline(copy.deepcopy(each.model))("a cat", **arguments).images
        for each in (pipeline(), again)
    )
    assert error(second, first) <= 1e-6
