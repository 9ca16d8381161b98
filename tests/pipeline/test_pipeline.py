"""What holds for every model, on the tiny recorded one."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import deepgen
from tests.pipeline.test_golden import image, pipeline
from tests.shared import golden

pytestmark = pytest.mark.filterwarnings("ignore:.*expect a poor result")

FAST = {"num_inference_steps": 2, "height": 64, "width": 64, "output_type": "pt"}
TOLERANCE = 2e-5


@pytest.mark.parametrize("padding", ["pair", "none"])
def test_an_image_does_not_depend_on_its_batch_mates(padding: str) -> None:
    prompts = ["a cat", "two dogs under a very old tree", "a"]
    together = pipeline()(prompts, seed=7, padding=padding, **FAST).images
    for index, prompt in enumerate(prompts):
        pipeline().model.conditioner.clear_cache()
        alone = pipeline()(prompt, seed=7 + index, padding=padding, **FAST).images[0]
        assert (together[index] - alone).abs().max() <= TOLERANCE


def test_edits_of_different_sizes_and_numbers_of_references_go_together() -> None:
    prompts = ["make it red", "a cat", "put the first into the second"]
    references = [[image("r0")], [], [image("r1"), image("r2")]]
    options = {"num_inference_steps": 2, "seed": 1, "output_type": "pt"}
    options |= {"negative_prompt": "low quality"}
    sizes = {"height": 64, "width": 64}
    together = pipeline()(prompts, image=references, **options, **sizes).images
    free = pipeline()(prompts[0], image=references[0], **options).images
    assert free.shape == (1, 3, 64, 96)
    for index, (prompt, own) in enumerate(zip(prompts, references, strict=True)):
        one = {**options, "seed": 1 + index, **sizes}
        alone = pipeline()(prompt, image=own or None, **one).images[0]
        assert (together[index] - alone).abs().max() <= TOLERANCE


def test_pair_is_batch_for_a_single_image() -> None:
    pair = pipeline()("a cat", seed=0, padding="pair", **FAST).images
    pipeline().model.conditioner.clear_cache()
    batch = pipeline()("a cat", seed=0, padding="batch", **FAST).images
    assert torch.equal(pair, batch)
    none = pipeline()("a cat", seed=0, padding="none", **FAST).images
    assert not torch.allclose(none, pair, atol=1e-3)


def test_guidance_of_one_is_the_prompt_alone() -> None:
    options = {"seed": 0, "padding": "none", **FAST}
    with pytest.warns(UserWarning, match="negative prompt has no effect at a guidance scale of 1;"):
        first = pipeline()("a cat", guidance_scale=1.0, negative_prompt="dog", **options).images
    with pytest.warns(UserWarning, match="has no effect at a guidance scale of 0.5"):
        second = pipeline()("a cat", guidance_scale=0.5, negative_prompt="tree", **options).images
    assert torch.equal(first, second)
    with pytest.warns(UserWarning, match="guidance interval has no effect at a guidance scale of"):
        third = pipeline()("a cat", guidance_scale=1.0, guidance_interval=(0.2, 0.8), **options)
    assert torch.equal(first, third.images)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "this model was trained on")
        pipeline()("a cat", guidance_scale=1.0, negative_prompt=[""], **options)
    guided = pipeline()("a cat", guidance_scale=1 + 1e-6, negative_prompt="dog", **options).images
    assert (first - guided).abs().max() <= TOLERANCE
    strong = pipeline()("a cat", guidance_scale=5.0, negative_prompt="dog", **options).images
    assert (first - strong).abs().max() > 100 * TOLERANCE


def test_equal_prompts_on_both_sides_make_the_scale_irrelevant() -> None:
    options = {"seed": 0, "negative_prompt": "a cat", **FAST}
    first = pipeline()("a cat", guidance_scale=2.0, **options).images
    second = pipeline()("a cat", guidance_scale=9.0, **options).images
    assert (first - second).abs().max() <= TOLERANCE


def test_a_seed_is_an_image_and_edits_need_nothing_else() -> None:
    options = {"image": image("r0"), "num_inference_steps": 2, "output_type": "np"}
    first = pipeline()("make it red", seed=5, **options).images
    torch.manual_seed(123)
    again = pipeline()("make it red", seed=5, **options).images
    other = pipeline()("make it red", seed=6, **options).images
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_seeds_are_reported_and_follow_each_other() -> None:
    result = pipeline()(["a", "b"], num_images_per_prompt=2, seed=10, **FAST)
    assert result.seeds == [10, 11, 12, 13]
    assert len(result.images) == 4
    generators = [torch.Generator().manual_seed(10 + index) for index in range(4)]
    same = pipeline()(["a", "b"], num_images_per_prompt=2, generator=generators, **FAST)
    assert torch.equal(result.images, same.images)
    assert same.seeds == [None] * 4


def test_an_edit_of_an_odd_image_comes_back_in_its_size() -> None:
    odd = image("r0").resize((75, 41))
    images = pipeline()("make it red", image=odd, num_inference_steps=1, seed=0).images
    assert images[0].size == (75, 41)
    arrays = pipeline()("x", image=odd, num_inference_steps=1, seed=0, output_type="np").images
    assert arrays.shape[1] % 32 == 0
    assert arrays.shape[2] % 32 == 0


def test_output_types_agree() -> None:
    options = {key: value for key, value in FAST.items() if key != "output_type"}
    unit = pipeline()("a cat", seed=0, output_type="pt", **options).images
    array = pipeline()("a cat", seed=0, output_type="np", **options).images
    assert np.array_equal(array[0], unit[0].permute(1, 2, 0).numpy())
    image = pipeline()("a cat", seed=0, **options).images[0]
    assert np.abs(np.asarray(image).astype(float) - 255 * array[0]).max() <= 0.501
    latents = pipeline()("a cat", seed=0, output_type="latent", **options).images
    assert latents.shape == (1, 16, 8, 8)
    assert pipeline()("a cat", seed=0, return_dict=False, **FAST)[0].shape == (1, 3, 64, 64)


def test_a_callback_sees_and_replaces_the_latents() -> None:
    def erase(pipe: Any, step: int, timestep: float, tensors: dict[str, Any]) -> dict[str, Any]:
        return {"latents": torch.zeros_like(tensors["latents"])}

    options = {**FAST, "output_type": "latent"}
    assert not pipeline()("a cat", seed=0, callback_on_step_end=erase, **options).images.any()


def test_a_callback_gets_a_preview_and_may_cancel() -> None:
    previews = []

    def look(pipe: Any, step: int, timestep: float, tensors: dict[str, Any]) -> None:
        previews.append(tensors["preview"][0])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline()(
            "a cat",
            seed=0,
            callback_on_step_end=look,
            callback_on_step_end_tensor_inputs=("preview",),
            **FAST,
        )
    assert len(previews) == 1
    assert isinstance(previews[0], Image.Image)
    assert previews[0].size == (64, 64)


def test_an_interrupted_call_returns_the_image_so_far() -> None:
    seen = []

    def stop(pipe: Any, step: int, timestep: float, tensors: dict[str, Any]) -> None:
        seen.append(tensors["clean_latents"])
        pipe.interrupt()

    options = {**FAST, "num_inference_steps": 6, "output_type": "latent"}
    result = pipeline()(
        "a cat",
        seed=0,
        callback_on_step_end=stop,
        callback_on_step_end_tensor_inputs=("clean_latents",),
        **options,
    ).images
    assert len(seen) == 1
    assert torch.equal(result, seen[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_type": "jpg"}, "output_type"),
        ({"num_images_per_prompt": 0}, "at least 1"),
        ({"callback_on_step_end_tensor_inputs": ("noise",)}, "noise"),
        ({"latents": torch.zeros(2, 16, 8, 8)}, "1 images need as many latents, got 2"),
        ({"height": 2048}, "at most 1024"),
        ({"seed": 1, "generator": torch.Generator()}, "not both"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pipeline()("a cat", **options)


def test_repeated_prompts_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    vlm = pipeline().model.conditioner.vlm
    original = vlm.forward

    def count(tokens: Any, *arguments: Any) -> Any:
        rows.append(len(tokens))
        return original(tokens, *arguments)

    monkeypatch.setattr(vlm, "forward", count)
    pipeline().model.conditioner.clear_cache()
    pipeline()(["a new prompt"] * 3, seed=0, num_images_per_prompt=2, **FAST)
    # The prompt and the empty negative one.
    assert sum(rows) == 2
    pipeline()("a new prompt", seed=1, **FAST)
    assert sum(rows) == 2


def test_an_image_does_not_depend_on_earlier_calls() -> None:
    conditioner = pipeline().model.conditioner
    conditioner.clear_cache()
    fresh = pipeline()("two dogs under a tree", seed=3, **FAST).images
    conditioner.clear_cache()
    pipeline()(["a cat", "a very long sentence about nothing at all"], seed=8, **FAST)
    later = pipeline()("two dogs under a tree", seed=3, **FAST).images
    assert torch.equal(fresh, later)


def test_results_are_ordinary_tensors() -> None:
    images = pipeline()("a cat", seed=0, **FAST).images
    images.mul_(2).requires_grad_().sum().backward()


def test_a_bridge_that_says_nothing_makes_the_prompt_irrelevant() -> None:
    bridge = pipeline().model.conditioner.bridge
    own = {name: value.detach().clone() for name, value in bridge.state_dict().items()}
    with torch.no_grad():
        for projector in (bridge.projector_2, bridge.projector_3):
            for value in projector.parameters():
                value.zero_()
    try:
        first, second = (
            pipeline()(prompt, seed=0, padding="none", **FAST).images for prompt in ("cat", "dog")
        )
    finally:
        bridge.load_state_dict(own)
    assert torch.equal(first, second)
    assert not torch.equal(first, pipeline()("dog", seed=0, padding="none", **FAST).images)


def test_latents_of_the_callback_stay_when_it_interrupts() -> None:
    def stop(pipe: Any, step: int, timestep: float, tensors: dict[str, Any]) -> dict[str, Any]:
        pipe.interrupt()
        return {"latents": torch.zeros_like(tensors["latents"])}

    options = {**FAST, "output_type": "latent"}
    assert not pipeline()("a cat", seed=0, callback_on_step_end=stop, **options).images.any()


def test_latents_of_another_shape_from_the_callback_are_refused() -> None:
    def shrink(pipe: Any, step: int, timestep: float, tensors: dict[str, Any]) -> dict[str, Any]:
        return {"latents": tensors["latents"][..., :4]}

    with pytest.raises(ValueError, match="the callback's latents"):
        pipeline()("a cat", seed=0, callback_on_step_end=shrink, **FAST)


def test_a_result_that_is_not_finite_is_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline().model.vae, "scale", 0.0)
    with pytest.raises(FloatingPointError, match="the images are not finite"):
        pipeline()("a cat", seed=0, **FAST)


def test_offloading_to_a_device_that_is_not_there_is_refused_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="needs a device cuda, but torch finds none"):
        pipeline().enable_model_cpu_offload()
    assert pipeline().to("cpu").device.type == "cpu"
    assert pipeline()("a cat", seed=1, **FAST).images.isfinite().all()


def test_a_call_beyond_what_the_model_was_trained_on_warns() -> None:
    with pytest.warns(UserWarning, match="at 64 x 64 expect a poor result"):
        pipeline()("a cat", seed=1, **FAST)


def test_an_image_saved_from_python_carries_what_the_commands_store(tmp_path: Path) -> None:
    options = {"num_inference_steps": 2, "height": 64, "width": 64, "guidance_scale": 2.0}
    image = pipeline()("a cat", seed=5, **options).images[0]
    deepgen.save_image(image, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as opened:
        record = json.loads(opened.info["deepgen"])
    assert record.pop("model") == str(golden("model"))
    assert record == {
        "prompt": "a cat",
        "seed": 5,
        "width": 64,
        "height": 64,
        "steps": 2,
        "guidance": 2.0,
    }
    with pytest.raises(ValueError, match="exists"):
        deepgen.save_image(image, tmp_path / "a.png")
    with pytest.raises(ValueError, match="must end in"):
        deepgen.save_image(image, tmp_path / "a.bmp")
