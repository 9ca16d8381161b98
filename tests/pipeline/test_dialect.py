"""What scripts written for other pipelines of diffusers do, done with this one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from deepgen.errors import CheckpointError
from deepgen.images.io import PNG_KEY
from deepgen.images.provenance import SOURCE_KEY
from deepgen.model import DeepGen
from deepgen.pipeline.pipeline import DeepGenPipeline
from tests.checkpoint.models import same, state, tiny_model
from tests.pipeline.test_golden import image, pipeline
from tests.pipeline.test_pipeline import FAST, TOLERANCE

pytestmark = pytest.mark.filterwarnings("ignore:.*expect a poor result")

NAMES = ("transformer", "vae", "vlm", "connector", "scheduler", "tokenizer")
KEYS = (
    "prompt_embeds",
    "negative_prompt_embeds",
    "pooled_prompt_embeds",
    "negative_pooled_prompt_embeds",
)


def tiny() -> DeepGenPipeline:
    pipe = DeepGenPipeline(tiny_model())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def lora(folder: Path, name: str = "a.safetensors", seed: int = 0) -> Path:
    rng = torch.Generator().manual_seed(seed)
    layer = "transformer.transformer_blocks.0.attn.to_q"
    down, up = torch.randn(3, 16, generator=rng), torch.randn(16, 3, generator=rng)
    save_file({f"{layer}.lora_A.weight": down, f"{layer}.lora_B.weight": up}, folder / name)
    return folder / name


def test_a_script_for_stable_diffusion_3_runs_with_only_the_class_changed(tmp_path: Path) -> None:
    tiny().save_pretrained(tmp_path / "model", max_shard_size="20KB", variant="fp32")

    pipe = DeepGenPipeline.from_pretrained(
        str(tmp_path / "model"), torch_dtype=torch.float32, variant="fp32", use_safetensors=True
    ).to("cpu")
    pipe.set_progress_bar_config(disable=True)
    pipe.load_lora_weights(
        str(lora(tmp_path).parent), weight_name="a.safetensors", adapter_name="a"
    )
    pipe.set_adapters(["a"], adapter_weights=[0.5])
    pipe.enable_vae_slicing()
    embeds, negative, pooled, negative_pooled = pipe.encode_prompt(
        prompt="a cat", prompt_2=None, prompt_3=None, device="cpu", do_classifier_free_guidance=True
    )

    def less_guidance(pipe: Any, step: int, timestep: float, tensors: Any) -> dict[str, Any]:
        if step == int(pipe.num_timesteps * 0.4):
            pipe._guidance_scale = 0.0
        return {"latents": tensors["latents"]}

    images = pipe(
        prompt_embeds=embeds,
        negative_prompt_embeds=negative,
        pooled_prompt_embeds=pooled,
        negative_pooled_prompt_embeds=negative_pooled,
        num_images_per_prompt=2,
        num_inference_steps=3,
        guidance_scale=7.0,
        height=64,
        width=64,
        generator=torch.Generator("cpu").manual_seed(0),
        output_type="np",
        callback_on_step_end=less_guidance,
        callback_on_step_end_tensor_inputs=["latents"],
    ).images
    assert isinstance(images, np.ndarray)
    assert images.shape == (2, 64, 64, 3)
    assert 0 <= images.min() <= images.max() <= 1
    pipe.unload_lora_weights()


def test_the_parts_are_attributes_and_make_the_same_pipeline() -> None:
    pipe = pipeline()
    assert set(pipe.components) == set(NAMES)
    assert all(getattr(pipe, name) is part for name, part in pipe.components.items())
    again = DeepGenPipeline(**pipe.components)
    again.set_progress_bar_config(disable=True)
    assert again.model is pipe.model
    assert torch.equal(again("a cat", seed=3, **FAST).images, pipe("a cat", seed=3, **FAST).images)


def test_parts_outlive_their_pipeline_and_keep_its_settings() -> None:
    made = tiny()
    expected, parts = made("a cat", seed=0, output_type="pt").images, made.components
    del made
    again = DeepGenPipeline(**parts)
    again.set_progress_bar_config(disable=True)
    assert torch.equal(again("a cat", seed=0, output_type="pt").images, expected)


def test_a_replaced_part_counts_here_and_nowhere_else(tmp_path: Path) -> None:
    model = tiny_model()
    pipe, other = DeepGenPipeline(model), DeepGenPipeline(model)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler.from_config(
        pipe.scheduler.config, shift=5.0
    )
    pipe.scheduler = scheduler
    assert pipe.components["scheduler"] is scheduler
    assert (pipe.model.schedule.shift, other.model.schedule.shift) == (5.0, 2.0)
    assert pipe.transformer is other.transformer
    with pytest.raises(ValueError, match=r"scheduler must be of class FlowMatchEuler.*DDIMSch"):
        pipe.scheduler = diffusers.DDIMScheduler()
    with pytest.raises(ValueError, match="vae must be of class AutoencoderKL, got"):
        DeepGenPipeline(**{**pipe.components, "vae": None})
    other.load_lora_weights(lora(tmp_path))
    with pytest.raises(ValueError, match="unload them before replacing scheduler"):
        other.scheduler = scheduler


@pytest.mark.parametrize("padding", ["pair", "none", "batch"])
@pytest.mark.parametrize("per_prompt", [1, 2])
def test_embeddings_make_the_image_of_their_prompts(padding: str, per_prompt: int) -> None:
    options = {"seed": 4, "num_images_per_prompt": per_prompt, **FAST}
    prompts = {"prompt": ["a cat", "two dogs under a very old tree"], "negative_prompt": "fog"}
    expected = pipeline()(**prompts, padding=padding, **options).images
    encoded = dict(zip(KEYS, pipeline().encode_prompt(**prompts, padding=padding), strict=True))
    assert isinstance(encoded["prompt_embeds"], Tensor) == (padding == "batch")
    made = pipeline()(**encoded, **options).images
    assert (made - expected).abs().max() <= TOLERANCE
    repeated = pipeline().encode_prompt(**prompts, padding=padding, num_images_per_prompt=2)
    assert [len(each) for each in repeated] == [4] * 4


def test_embeddings_of_an_edit_carry_its_references_and_need_no_negatives_unguided() -> None:
    edit = {"image": image("r2")}
    options = {**edit, "guidance_scale": 1.0, "padding": "none", "seed": 1, **FAST}
    expected = pipeline()("make it red", **options).images
    embeds, negative, pooled, negative_pooled = pipeline().encode_prompt(
        "make it red", **edit, do_classifier_free_guidance=False, padding="none"
    )
    assert negative is None
    assert negative_pooled is None
    given = {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}
    made = pipeline()(**given, **options).images
    assert (made - expected).abs().max() <= TOLERANCE
    # Its file says that a model made it, though not from which words.
    (shown,) = pipeline()(**given, **{**options, "output_type": "pil"}).images
    assert shown.info[SOURCE_KEY] == "compositeWithTrainedAlgorithmicMedia"
    assert PNG_KEY not in shown.info


def test_embeddings_that_cannot_be_used_are_refused() -> None:
    embeds, _, pooled, _ = pipeline().encode_prompt("a cat")
    with pytest.raises(ValueError, match="needs negative_prompt_embeds"):
        pipeline()(prompt_embeds=embeds, pooled_prompt_embeds=pooled)
    with pytest.raises(ValueError, match="prompt_embeds needs pooled_prompt_embeds, a tensor"):
        pipeline()(prompt_embeds=embeds)
    with pytest.raises(ValueError, match=r"prompt_embeds must be a tensor \[batch, tokens, "):
        pipeline()(prompt_embeds=embeds[..., :-1], pooled_prompt_embeds=pooled)
    with pytest.raises(ValueError, match="must be finite"):
        pipeline()(prompt_embeds=embeds / 0, pooled_prompt_embeds=pooled, guidance_scale=1.0)
    with pytest.raises(ValueError, match="not both"):
        pipeline()("a cat", prompt_embeds=embeds, pooled_prompt_embeds=pooled)
    with pytest.raises(ValueError, match="no prompt_embeds among them"):
        pipeline()("a cat", pooled_prompt_embeds=pooled)
    with pytest.raises(ValueError, match="got neither"):
        pipeline()()


def test_images_are_pil_arrays_and_tensors() -> None:
    options = {key: value for key, value in FAST.items() if key != "output_type"}
    kinds = {"pil": list, "np": np.ndarray, "pt": Tensor, "latent": Tensor}
    for output_type, kind in kinds.items():
        images = pipeline()("a cat", seed=0, output_type=output_type, **options).images
        assert isinstance(images, kind)
        assert output_type != "pil" or isinstance(images[0], Image.Image)


def test_given_sigmas_are_the_steps() -> None:
    options = {key: value for key, value in FAST.items() if key != "num_inference_steps"}
    expected = pipeline()("a cat", seed=0, num_inference_steps=2, **options).images
    shift = pipeline().model.schedule.shift
    # The last step of the default begins at the smallest level of training, which is shifted.
    last = float(shift / 1000 / (1 + (shift - 1) / 1000))
    for sigmas in ([1.0, last], np.array([1.0, last, 0.0])):
        made = pipeline()("a cat", seed=0, sigmas=sigmas, **options).images
        assert (made - expected).abs().max() <= TOLERANCE
    scheduler = pipeline().scheduler
    scheduler.set_timesteps(sigmas=[1.0, 0.5, 0.2])
    seen: list[float] = []
    pipeline()(
        "a cat",
        seed=0,
        sigmas=[1.0, 0.5, 0.2],
        callback_on_step_end=lambda pipe, step, timestep, tensors: seen.append(timestep),
        **options,
    )
    np.testing.assert_allclose(seen, scheduler.timesteps, rtol=1e-6)


@pytest.mark.parametrize("sigmas", [[], [0.5, 0.7], [1.5, 0.5], [float("nan")], [0.0]])
def test_sigmas_that_are_no_falling_levels_are_refused(sigmas: list[float]) -> None:
    with pytest.raises(ValueError, match="sigmas must"):
        pipeline()("a cat", sigmas=sigmas)


def test_sigmas_and_another_number_of_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="2 sigmas are as many steps, but num_inference_steps=3"):
        pipeline()("a cat", sigmas=[1.0, 0.5], num_inference_steps=3)


def test_a_callback_changes_the_guidance_of_the_remaining_steps() -> None:
    options = {"seed": 0, **FAST, "negative_prompt": "fog"}
    seen: list[float] = []

    def change(pipe: Any, step: int, timestep: float, tensors: Any) -> None:
        seen.append(pipe.guidance_scale)
        pipe.guidance_scale = 2.0

    changed = pipeline()("a cat", guidance_scale=6.0, callback_on_step_end=change, **options).images
    assert seen == [6.0, 2.0]
    assert pipeline().guidance_scale == 2.0
    strong = pipeline()("a cat", guidance_scale=6.0, **options).images
    assert (changed - strong).abs().max() > 10 * TOLERANCE
    # From the first step on, it is the other scale alone: the first step is made again.
    first: list[Tensor] = []
    pipeline()(
        "a cat",
        guidance_scale=6.0,
        callback_on_step_end=lambda pipe, step, timestep, tensors: first.append(tensors["latents"]),
        **options,
    )
    rest = {
        **options,
        "callback_on_step_end": lambda *_: {"latents": first[0]} if not _[1] else None,
    }
    assert torch.equal(pipeline()("a cat", guidance_scale=2.0, **rest).images, changed)


def test_guidance_taken_away_by_a_callback_leaves_the_prompt_alone() -> None:
    def drop(pipe: Any, step: int, timestep: float, tensors: Any) -> None:
        pipe._guidance_scale = 0.0
        assert not pipe.do_classifier_free_guidance

    def start(pipe: Any, step: int, timestep: float, tensors: Any) -> dict[str, Any] | None:
        return None if step else {"latents": latents}

    options = {"seed": 0, "padding": "none", **FAST}
    kept: list[Tensor] = []
    pipeline()("a cat", callback_on_step_end=lambda *a: kept.append(a[3]["latents"]), **options)
    latents = kept[0]
    dropped = pipeline()("a cat", callback_on_step_end=drop, **options).images
    alone = pipeline()("a cat", guidance_scale=1.0, callback_on_step_end=start, **options).images
    assert (dropped - alone).abs().max() <= TOLERANCE


def test_guidance_and_steps_that_cannot_be_set_are_refused() -> None:
    def raise_it(pipe: Any, *_: Any) -> None:
        with pytest.raises(ValueError, match="began without guidance"):
            pipe.guidance_scale = 3.0
        with pytest.raises(ValueError, match="guidance_scale must be"):
            pipe.guidance_scale = float("nan")
        with pytest.raises(ValueError, match="may fall to the step just made"):
            pipe.num_timesteps = 3

    pipeline()("a cat", seed=0, guidance_scale=1.0, callback_on_step_end=raise_it, **FAST)
    with pytest.raises(ValueError, match="an argument of a call"):
        pipeline().guidance_scale = 3.0


def test_a_callback_may_end_the_call_at_a_step() -> None:
    seen: list[int] = []

    def stop(pipe: Any, step: int, timestep: float, tensors: Any) -> None:
        seen.append(pipe.num_timesteps)
        pipe.num_timesteps = 2

    options = {**FAST, "num_inference_steps": 5}
    assert pipeline()("a cat", seed=0, callback_on_step_end=stop, **options).images.isfinite().all()
    assert seen == [5, 2]


def test_shards_and_variants_are_written_and_read(tmp_path: Path) -> None:
    pipe, folder = tiny(), tmp_path / "model"
    pipe.save_pretrained(folder, max_shard_size=20_000, variant="fp16")
    names = {each.name for each in (folder / "transformer").iterdir()}
    assert "diffusion_pytorch_model.safetensors.index.fp16.json" in names
    assert any(name.startswith("diffusion_pytorch_model.fp16-00001-of-") for name in names)
    assert same(
        state(DeepGenPipeline.from_pretrained(folder, variant="fp16").model), state(pipe.model)
    )
    with pytest.raises(CheckpointError, match="is missing"):
        DeepGenPipeline.from_pretrained(folder)
    with pytest.raises(CheckpointError, match="no weights of the variant bf16"):
        DeepGenPipeline.from_pretrained(folder, variant="bf16")
    with pytest.raises(CheckpointError, match="a variant is a word"):
        pipe.save_pretrained(tmp_path / "other", variant="../x")
    # diffusers finds the same files.
    vae = diffusers.AutoencoderKL.from_pretrained(folder / "vae", variant="fp16")
    assert torch.equal(vae.decoder.conv_in.weight, pipe.vae.decoder.conv_in.weight)
    for size in ("5 apples", 0, -1, "GB"):
        with pytest.raises(ValueError, match="max_shard_size must be bytes"):
            pipe.save_pretrained(tmp_path / "other", max_shard_size=size)
    assert not (tmp_path / "other").exists()


def test_diffusers_itself_loads_a_saved_folder_as_this_pipeline(tmp_path: Path) -> None:
    pipe = tiny()
    pipe.save_pretrained(tmp_path / "model")
    loaded = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "model", torch_dtype="float32")
    assert isinstance(loaded, DeepGenPipeline)
    assert same(state(loaded.model), state(pipe.model))
    folder = tmp_path / "model"
    by_keyword = {"pretrained_model_name_or_path": folder, "torch_dtype": "float32"}
    assert isinstance(diffusers.DiffusionPipeline.from_pretrained(**by_keyword), DeepGenPipeline)
    # Everything else stays with diffusers, whichever way it is called.
    for kind in (diffusers.DiffusionPipeline, diffusers.StableDiffusion3Pipeline):
        with pytest.raises(OSError, match="no file named model_index"):
            kind.from_pretrained(pretrained_model_name_or_path=tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"use_safetensors": False}, "pickles can run code and are never read"),
        ({"trust_remote_code": True}, "no code of a model is ever run"),
        ({"custom_pipeline": "x"}, "no code of a model is ever run"),
        ({"device_map": "balanced"}, "give device='cuda'"),
        ({"quantization_config": {}}, "quantize='int8'"),
        ({"low_cpu_mem_usage": 3}, "must be True or False"),
        ({"force_download": True}, "delete the model"),
        ({"colour": 1}, "from_pretrained has no argument colour"),
    ],
)
def test_keywords_of_loading_are_refused_in_a_sentence(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        DeepGenPipeline.from_pretrained("no/model", local_files_only=True, **options)


def test_keywords_that_say_what_holds_anyway_are_accepted(tmp_path: Path) -> None:
    tiny().save_pretrained(tmp_path / "model", safe_serialization=True, push_to_hub=False)
    vae = tiny_model().vae.autoencoder
    pipe = DeepGenPipeline.from_pretrained(
        tmp_path / "model",
        use_safetensors=True,
        low_cpu_mem_usage=True,
        trust_remote_code=False,
        cache_dir=tmp_path,
        token="hf_none",
        custom_pipeline=None,
        vae=vae,
    )
    assert pipe.vae is vae
    assert pipe.model.vae.autoencoder is vae


@pytest.mark.parametrize("name", ["prompt_2", "clip_skip", "joint_attention_kwargs", "colour"])
def test_arguments_of_other_pipelines_are_refused_in_a_sentence(name: str) -> None:
    with pytest.raises(ValueError, match=f"this pipeline( has no argument {name}|: )"):
        pipeline()("a cat", **{name: "x"})


def test_slicing_leaves_images_and_tiling_nearly(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tiny()
    options = {"seed": 0, "num_images_per_prompt": 2, "num_inference_steps": 1, "output_type": "pt"}
    expected = pipe("a cat", **options).images
    pipe.enable_vae_slicing()
    assert (pipe("a cat", **options).images - expected).abs().max() <= TOLERANCE
    pipe.disable_vae_slicing()
    monkeypatch.setattr(pipe.vae, "tile_latent_min_size", 8)
    monkeypatch.setattr(pipe.vae, "tile_sample_min_size", 64)
    pipe.enable_vae_tiling()
    tiled = pipe("a cat", **options).images
    assert tiled.shape == expected.shape
    assert not torch.equal(tiled, expected)
    pipe.disable_vae_tiling()
    assert torch.equal(pipe("a cat", **options).images, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_adapters_taken_off_in_any_way_leave_the_weights_bit_for_bit(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    pipe = tiny()
    model: DeepGen = pipe.model.to(dtype)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    lora(tmp_path, "b.safetensors", seed=1)
    pipe.load_lora_weights(lora(tmp_path), "a", use_safetensors=True)
    pipe.load_lora_weights(tmp_path, "b", weight_name="b.safetensors", scale=0.5)
    loaded = {key: value.clone() for key, value in model.state_dict().items()}
    pipe.disable_lora()
    assert same(dict(model.state_dict()), before)
    assert pipe.get_active_adapters() == []
    assert pipe.get_list_adapters() == {"model": ["a", "b"]}
    pipe.enable_lora()
    assert pipe.get_active_adapters() == ["a", "b"]
    assert same(dict(model.state_dict()), loaded)
    pipe.fuse_lora()
    pipe.unfuse_lora()
    pipe.delete_adapters("a")
    pipe.unload_lora_weights()
    assert same(dict(model.state_dict()), before)


def test_an_adapter_of_the_hub_is_downloaded_without_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, Any]] = []
    lora(tmp_path, "pytorch_lora_weights.safetensors")

    def download(name: str, **options: Any) -> str:
        calls.append({"name": name, **options})
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    pipe = tiny()
    pipe.load_lora_weights("some/style@v1", local_files_only=True, token="hf_x")
    assert pipe.get_active_adapters() == ["default_0"]
    (call,) = calls
    assert (call["name"], call["revision"], call["token"]) == ("some/style", "v1", "hf_x")
    assert call["allow_patterns"] == ["*.safetensors", "adapter_config.json"]
    with pytest.raises(ValueError, match="another one"):
        pipe.load_lora_weights("some/style@v1", revision="v2")
    with pytest.raises(ValueError, match="never read"):
        pipe.load_lora_weights("some/style", use_safetensors=False)
    with pytest.raises(ValueError, match="save these tensors as safetensors"):
        pipe.load_lora_weights({"x": torch.zeros(1)})
