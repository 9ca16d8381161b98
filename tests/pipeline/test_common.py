"""What diffusers expects of every pipeline, whichever model it is of."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from deepgen.pipeline.pipeline import DeepGenPipeline
from tests.pipeline.test_dialect import KEYS, NAMES, lora, tiny
from tests.pipeline.test_golden import image, pipeline
from tests.pipeline.test_pipeline import FAST, TOLERANCE

pytestmark = pytest.mark.filterwarnings("ignore:.*expect a poor result")

MODULES = ("transformer", "vae", "vlm", "connector")


def test_a_call_takes_what_every_text_to_image_pipeline_takes() -> None:
    accepted = inspect.signature(DeepGenPipeline.__call__).parameters
    for name in (
        *("prompt", "height", "width", "guidance_scale", "num_inference_steps", "generator"),
        *("negative_prompt", "num_images_per_prompt", "latents", "output_type", "return_dict"),
        *("callback_on_step_end", "callback_on_step_end_tensor_inputs", *KEYS),
    ):
        assert name in accepted
    assert all(
        each.default is not inspect.Parameter.empty for each in list(accepted.values())[1:-1]
    )


def test_a_tuple_has_the_images_of_the_output() -> None:
    (images,) = pipeline()("a cat", seed=0, return_dict=False, **FAST)
    assert torch.equal(images, pipeline()("a cat", seed=0, **FAST).images)


@pytest.mark.parametrize(("prompts", "each"), [(1, 1), (1, 3), (2, 1), (2, 2)])
def test_there_are_so_many_images_of_each_prompt(prompts: int, each: int) -> None:
    given = ["a cat", "a dog"][:prompts]
    images = pipeline()(given, seed=0, num_images_per_prompt=each, **FAST).images
    assert images.shape[0] == prompts * each


def test_a_batch_is_the_images_of_its_members() -> None:
    generators = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
    both = pipeline()(["a cat", "a dog"], generator=generators, **FAST).images
    for prompt, seed, own in zip(["a cat", "a dog"], (5, 6), both, strict=True):
        generator = torch.Generator().manual_seed(seed)
        alone = pipeline()(prompt, generator=generator, **FAST).images[0]
        assert (own - alone).abs().max() <= TOLERANCE


def test_a_folder_saved_in_float16_has_float16_weights_and_gives_nearly_the_image(
    tmp_path: Path,
) -> None:
    pipe, options = tiny(), {"seed": 0, "num_inference_steps": 2, "output_type": "pt"}
    expected = pipe("a cat", **options).images
    pipe.to(torch.float16).save_pretrained(tmp_path / "model")
    for file in (tmp_path / "model").glob("*/*.safetensors"):
        with safe_open(file, "pt") as stored:
            assert {stored.get_slice(name).get_dtype() for name in stored.keys()} == {"F16"}  # noqa: SIM118
    loaded = DeepGenPipeline.from_pretrained(tmp_path / "model", torch_dtype=torch.float16)
    loaded.set_progress_bar_config(disable=True)
    for name in MODULES:
        assert {each.dtype for each in getattr(loaded, name).parameters()} == {torch.float16}
    half = loaded("a cat", **options).images
    assert torch.equal(half, pipe("a cat", **options).images)
    assert (half.float() - expected).abs().max() < 0.05


def test_the_dtype_of_all_parts_changes_together_and_nothing_else() -> None:
    pipe = tiny()
    before = pipe.vae.decoder.conv_in.weight.clone()
    for arguments, keywords in (
        ((torch.bfloat16,), {}),
        (("cpu", torch.float32), {}),
        ((), {"dtype": torch.bfloat16, "silence_dtype_warnings": True}),
    ):
        assert pipe.to(*arguments, **keywords) is pipe
        dtype = next(iter(pipe.transformer.parameters())).dtype
        assert pipe.dtype == dtype
        for name in MODULES:
            assert {each.dtype for each in getattr(pipe, name).parameters()} == {dtype}
    pipe.to(torch.float32)
    assert torch.equal(pipe.vae.decoder.conv_in.weight, before.bfloat16().float())
    assert pipe.to("cpu").device == torch.device("cpu")
    with pytest.raises(ValueError, match="all parts compute in one dtype"):
        DeepGenPipeline.from_pretrained("mini", torch_dtype={"default": torch.float16})


def test_components_are_stated_in_the_index_and_reload_one_by_one(tmp_path: Path) -> None:
    pipe = tiny()
    pipe.save_pretrained(tmp_path / "model")
    index = diffusers.DiffusionPipeline.load_config(str(tmp_path / "model"))
    assert set(NAMES) <= index.keys()
    assert index["_class_name"] == "DeepGenPipeline"
    transformer = diffusers.SD3Transformer2DModel.from_pretrained(tmp_path / "model/transformer")
    own = pipe.transformer.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in transformer.state_dict().items())
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler.from_pretrained(
        tmp_path / "model/scheduler"
    )
    again = DeepGenPipeline.from_pretrained(
        tmp_path / "model", scheduler=scheduler, text_encoder_3=None, image_encoder=None
    )
    assert again.scheduler is scheduler
    with pytest.raises(ValueError, match="text encoder of this model is its vlm"):
        DeepGenPipeline.from_pretrained(tmp_path / "model", text_encoder=torch.nn.Identity())
    # No part is optional.
    for name in NAMES:
        with pytest.raises(ValueError, match=f"{name} must be of class .* got NoneType"):
            DeepGenPipeline(**{**pipe.components, name: None})


def test_a_pipeline_from_another_shares_its_weights_and_settings(tmp_path: Path) -> None:
    pipe = tiny()
    pipe.scheduler = diffusers.FlowMatchEulerDiscreteScheduler.from_config(
        pipe.scheduler.config, shift=4.0
    )
    pipe.load_lora_weights(lora(tmp_path), "a")
    again = DeepGenPipeline.from_pipe(pipe)
    again.set_progress_bar_config(disable=True)
    assert again is not pipe
    assert again.model is pipe.model
    assert again.scheduler.config.shift == 4.0
    assert again.get_active_adapters() == ["a"]
    options = {"seed": 0, "num_inference_steps": 1, "output_type": "pt"}
    assert torch.equal(again("a cat", **options).images, pipe("a cat", **options).images)
    # diffusers would cast the weights of both to float32.
    pipe.unload_lora_weights()
    assert DeepGenPipeline.from_pipe(pipe.to(torch.bfloat16)).dtype == torch.bfloat16
    other = tiny()
    mixed = DeepGenPipeline.from_pipe(pipe, vae=other.vae, torch_dtype=torch.float32)
    assert mixed.vae is other.vae
    assert (mixed.dtype, pipe.vae.dtype) == (torch.float32, torch.bfloat16)
    with pytest.raises(ValueError, match="from_pipe has no argument colour"):
        DeepGenPipeline.from_pipe(pipe, colour=1)
    with pytest.raises(ValueError, match="takes a DeepGenPipeline, got DDPMPipeline"):
        DeepGenPipeline.from_pipe(diffusers.DDPMPipeline(None, None))


def test_the_bar_counts_steps_and_can_be_configured_and_taken_away(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pipe = DeepGenPipeline(tiny().model)
    pipe.set_progress_bar_config(desc="steps of mine")
    pipe("a cat", seed=0, num_inference_steps=3)
    shown = capsys.readouterr().err
    assert "steps of mine" in shown
    assert "3/3" in shown
    pipe.set_progress_bar_config(disable=True)
    pipe("a cat", seed=0, num_inference_steps=3)
    assert capsys.readouterr().err == ""


def test_switches_of_memory_that_have_nothing_to_do_change_no_image() -> None:
    pipe = tiny()
    options = {"seed": 0, "num_inference_steps": 1, "output_type": "pt"}
    expected = pipe("a cat", **options).images
    for switch in (
        *("enable_attention_slicing", "disable_attention_slicing", "enable_vae_slicing"),
        *("disable_vae_slicing", "disable_vae_tiling", "remove_all_hooks"),
        *("maybe_free_model_hooks", "reset_device_map"),
    ):
        getattr(pipe, switch)()
        assert torch.equal(pipe("a cat", **options).images, expected), switch


def test_every_tensor_that_callbacks_may_have_is_given_and_others_are_refused() -> None:
    names = DeepGenPipeline._callback_tensor_inputs
    assert {"latents", "prompt_embeds", "pooled_prompt_embeds"} <= set(names)
    seen: list[dict[str, Any]] = []
    options = {"seed": 0, "num_images_per_prompt": 2, **FAST}
    for wanted in ([], ["latents"], list(names)):
        pipeline()(
            "a cat",
            callback_on_step_end=lambda pipe, step, timestep, tensors: seen.append(tensors),
            callback_on_step_end_tensor_inputs=wanted,
            **options,
        )
        assert seen[-1].keys() == set(wanted)
    encoded = pipeline().encode_prompt("a cat", num_images_per_prompt=2)
    embeds, negative, pooled, negative_pooled = encoded
    # Rows of the negative prompts first, as in diffusers.
    assert (seen[-1]["prompt_embeds"] - torch.cat([negative, embeds])).abs().max() < 1e-5
    assert (
        seen[-1]["pooled_prompt_embeds"] - torch.cat([negative_pooled, pooled])
    ).abs().max() < 1e-5
    with pytest.raises(ValueError, match=r"callbacks can have .* not \['noise'\]"):
        pipeline()("a cat", callback_on_step_end_tensor_inputs=["noise"], **options)


def test_latents_that_a_callback_sets_to_zero_are_the_result() -> None:
    def zeros(pipe: Any, step: int, timestep: float, tensors: Any) -> dict[str, Any]:
        if step == pipe.num_timesteps - 1:
            tensors["latents"] = torch.zeros_like(tensors["latents"])
        return tensors

    options = {**FAST, "output_type": "latent", "callback_on_step_end": zeros}
    names = ["latents", "prompt_embeds", "pooled_prompt_embeds"]
    made = pipeline()("a cat", seed=0, callback_on_step_end_tensor_inputs=names, **options).images
    assert not made.any()


def test_the_published_callback_that_drops_guidance_halves_the_embeddings() -> None:
    """As in diffusers' documentation of callbacks ("Dynamic classifier-free guidance")."""

    def dynamic(pipe: Any, step: int, timestep: float, tensors: Any) -> dict[str, Any]:
        if step == 0:
            tensors["prompt_embeds"] = tensors["prompt_embeds"].chunk(2)[-1]
            pipe._guidance_scale = 0.0
        return dict(tensors)

    def scale_alone(pipe: Any, *_: Any) -> None:
        pipe._guidance_scale = 0.0

    rows: list[int] = []
    last = pipeline().transformer.transformer_blocks[-1]
    hook = last.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    names = ["prompt_embeds"]
    try:
        made = pipeline()(
            "a cat",
            seed=0,
            callback_on_step_end=dynamic,
            callback_on_step_end_tensor_inputs=names,
            **FAST,
        ).images
    finally:
        hook.remove()
    assert rows[0] == 2
    assert set(rows[1:]) == {1}
    expected = pipeline()("a cat", seed=0, callback_on_step_end=scale_alone, **FAST).images
    assert (made - expected).abs().max() <= TOLERANCE


@pytest.mark.parametrize("solver", ["euler", "ab2"])
def test_embeddings_that_a_callback_returns_count_for_the_remaining_steps(solver: str) -> None:
    options = {"seed": 0, "guidance_scale": 1.0, "padding": "none", **FAST}
    options |= {"solver": solver, "sigmas": [1.0, 0.5], "num_inference_steps": 2}
    other, _, pooled, _ = pipeline().encode_prompt(
        "a dog", do_classifier_free_guidance=False, padding="none"
    )
    kept: list[Tensor] = []

    def exchange(pipe: Any, step: int, timestep: float, tensors: Any) -> dict[str, Any]:
        kept.append(tensors["latents"])
        return {"prompt_embeds": other, "pooled_prompt_embeds": pooled} if step == 0 else {}

    def resume(pipe: Any, step: int, timestep: float, tensors: Any) -> dict[str, Any]:
        return {"latents": kept[0]} if step == 0 else {}

    made = pipeline()("a cat", callback_on_step_end=exchange, **options).images
    # Of second order, too, a step after other embeddings is Euler's.
    options["solver"] = "euler"
    expected = pipeline()("a dog", callback_on_step_end=resume, **options).images
    assert (made - expected).abs().max() <= TOLERANCE


def test_embeddings_that_a_callback_may_not_return_are_refused() -> None:
    def returned(**changes: Any) -> None:
        pipeline()(
            "a cat",
            seed=0,
            callback_on_step_end=lambda pipe, step, timestep, tensors: {
                name: change(tensors[name]) for name, change in changes.items()
            },
            callback_on_step_end_tensor_inputs=["prompt_embeds", "pooled_prompt_embeds"],
            **FAST,
        )

    with pytest.raises(ValueError, match="guidance needs those of the negative prompts"):
        returned(prompt_embeds=lambda each: each[1:])
    with pytest.raises(ValueError, match="must return 2 rows of prompt_embeds, got 3"):
        returned(
            prompt_embeds=lambda each: each[[0, 0, 1]],
            pooled_prompt_embeds=lambda each: each[[0, 0, 1]],
        )
    with pytest.raises(ValueError, match=r"prompt_embeds must be a tensor"):
        returned(prompt_embeds=lambda each: each[..., :3])


def test_an_edits_callback_sees_its_embeddings_and_keeps_its_references() -> None:
    def same_again(pipe: Any, step: int, timestep: float, tensors: Any) -> dict[str, Any]:
        return {"prompt_embeds": tensors["prompt_embeds"].clone()}

    options = {"image": image("r2"), "seed": 0, **FAST}
    names = ["prompt_embeds", "pooled_prompt_embeds"]
    made = pipeline()(
        "make it red",
        callback_on_step_end=same_again,
        callback_on_step_end_tensor_inputs=names,
        **options,
    ).images
    expected = pipeline()("make it red", **options).images
    assert (made - expected).abs().max() <= TOLERANCE


def test_images_of_output_types_are_the_same_values() -> None:
    tensors = pipeline()("a cat", seed=0, **FAST).images
    arrays = pipeline()("a cat", seed=0, **{**FAST, "output_type": "np"}).images
    np.testing.assert_array_equal(arrays, tensors.permute(0, 2, 3, 1).numpy())
