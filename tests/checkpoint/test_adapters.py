"""Adapters in all styles of names, stacked, swapped, fused and taken off again."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable
from pathlib import Path

import peft
import pytest
import torch
from diffusers.loaders.single_file_utils import convert_sd3_transformer_checkpoint_to_diffusers
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor

from deepgen.checkpoint.adapters import adapters_of, merge_lora
from deepgen.checkpoint.lora_names import LayerNames
from deepgen.dit.model import DiT
from deepgen.errors import CheckpointError
from deepgen.model import DeepGen
from deepgen.pipeline.pipeline import DeepGenPipeline
from tests.checkpoint.models import TINY_DIT, same, tiny_model

LAYER = "transformer_blocks.0.attn.to_q"
OUT = "transformer_blocks.1.attn.to_out.0"
WIDTH = 16


@pytest.fixture
def model() -> DeepGen:
    return tiny_model()


def matrices(rank: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(rank, WIDTH, generator=rng), torch.randn(WIDTH, rank, generator=rng)


def saved(weights: dict[str, Tensor], path: Path) -> Path:
    save_file({key: value.contiguous() for key, value in weights.items()}, path)
    return path


def adapter(path: Path, layer: str = LAYER, seed: int = 0) -> Path:
    down, up = matrices(seed=seed)
    name = f"transformer.{layer}"
    return saved({f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}, path)


def changes(model: DeepGen, path: Path) -> dict[str, Tensor]:
    """What an adapter adds to the DiT's weights, by name."""
    before = {key: value.clone() for key, value in model.dit.state_dict().items()}
    merge_lora(model, path)
    after = model.dit.state_dict()
    found = {key: after[key] - value for key, value in before.items()}
    return {key: value for key, value in found.items() if value.any()}


STYLES: dict[str, Callable[[str], tuple[str, str]]] = {
    "diffusers": lambda name: (
        f"transformer.{name}.lora_A.weight",
        f"transformer.{name}.lora_B.weight",
    ),
    "peft": lambda name: (
        f"base_model.model.{name}.lora_A.weight",
        f"base_model.model.{name}.lora_B.weight",
    ),
    "peft in memory": lambda name: (
        f"base_model.model.{name}.lora_A.mine.weight",
        f"base_model.model.{name}.lora_B.mine.weight",
    ),
    "older diffusers": lambda name: (
        f"transformer.{name}.lora.down.weight",
        f"transformer.{name}.lora.up.weight",
    ),
    "processors": lambda name: tuple(  # type: ignore[return-value]
        "transformer."
        + name.replace(".attn.", ".attn.processor.").removesuffix(".0")
        + f"_lora.{side}.weight"
        for side in ("down", "up")
    ),
    "kohya": lambda name: (
        f"lora_transformer_{name.replace('.', '_')}.lora_down.weight",
        f"lora_transformer_{name.replace('.', '_')}.lora_up.weight",
    ),
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("layer", [LAYER, OUT])
def test_each_style_of_names_gives_the_same_change(
    style: str, layer: str, model: DeepGen, tmp_path: Path
) -> None:
    down, up = matrices()
    first, second = STYLES[style](layer)
    alpha = {
        first.replace("lora_A.mine", "lora_A").rsplit(".lora", 1)[0] + ".alpha": torch.tensor(6.0)
    }
    if style == "processors":
        alpha = {first.replace(".down.weight", ".alpha"): torch.tensor(6.0)}
    path = saved({first: down, second: up, **alpha}, tmp_path / "a.safetensors")
    found = changes(model, path)
    assert found.keys() == {f"{layer}.weight"}
    torch.testing.assert_close(found[f"{layer}.weight"], 2 * up @ down, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("style", ["kohya", "original"])
def test_layers_of_the_original_names_are_split_and_swapped_as_diffusers_does(
    style: str, model: DeepGen, tmp_path: Path
) -> None:
    names = LayerNames(model)._originals
    own = model.dit.state_dict()
    rng = torch.Generator().manual_seed(0)
    weights, checkpoint = {}, {}
    for name, targets in names.items():
        rows, width = own[targets[0].weight.removeprefix("transformer.")].shape
        rows *= len(targets)
        down, up = (torch.randn(size, generator=rng) for size in ((2, width), (rows, 2)))
        flat = f"lora_unet_{name.replace('.', '_')}"
        ends = ("lora_down", "lora_up") if style == "kohya" else ("lora_A", "lora_B")
        layer = flat if style == "kohya" else f"diffusion_model.{name}"
        weights |= {f"{layer}.{ends[0]}.weight": down, f"{layer}.{ends[1]}.weight": up}
        checkpoint |= {f"{name}.weight": up @ down, f"{name}.bias": torch.zeros(rows)}
    # What diffusers wants to find besides.
    checkpoint |= {
        "pos_embed": torch.zeros(1),
        **{f"x_embedder.proj.{end}": torch.zeros(1) for end in ("weight", "bias")},
        **{
            f"joint_blocks.{number}.{stream}.{attention}.ln_{each}.weight": torch.zeros(1)
            for number in range(TINY_DIT.num_layers)
            for stream, attention in (
                *(("x_block", "attn"), ("context_block", "attn")),
                *((("x_block", "attn2"),) if number in TINY_DIT.dual_attention_layers else ()),
            )
            for each in "qk"
        },
    }
    expected = convert_sd3_transformer_checkpoint_to_diffusers(checkpoint)
    found = changes(model, saved(weights, tmp_path / "a.safetensors"))
    expected = {key: value for key, value in expected.items() if value.any()}
    assert found.keys() == expected.keys()
    for key, value in found.items():
        torch.testing.assert_close(value, expected[key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("kind", ["loha", "lokr"])
def test_loha_and_lokr_give_what_peft_computes(
    kind: str, full: bool, model: DeepGen, tmp_path: Path
) -> None:
    options = {"r": 2, "alpha": 6, "target_modules": ["to_q"], "init_weights": False}
    config = peft.LoHaConfig(**options) if kind == "loha" else peft.LoKrConfig(**options)
    if kind == "lokr":
        # Two products, or a full matrix and a product.
        config.decompose_both, config.decompose_factor = (not full), (-1 if full else 4)
        config.r = 2 if full else 1
    torch.manual_seed(0)
    adapted = peft.get_peft_model(DiT(TINY_DIT), config)
    layer = adapted.get_submodule(f"base_model.model.{LAYER}")
    save_file(get_peft_model_state_dict(adapted), tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": config.r, "alpha": 6}))
    found = changes(model, tmp_path)
    expected = layer.get_delta_weight("default").detach()
    torch.testing.assert_close(found[f"{LAYER}.weight"], expected, rtol=1e-4, atol=1e-5)


def test_lokr_of_two_full_matrices_is_scaled_by_peft_alone(model: DeepGen, tmp_path: Path) -> None:
    first, second = torch.randn(4, 4), torch.randn(4, 4)
    weights = {f"{LAYER}.lokr_w1": first, f"{LAYER}.lokr_w2": second}
    alpha = {f"{LAYER}.alpha": torch.tensor(0.5)}
    path = saved({**weights, **alpha}, tmp_path / "a.safetensors")
    expected = torch.kron(first, second)
    torch.testing.assert_close(
        changes(model, path)[f"{LAYER}.weight"], expected, rtol=1e-4, atol=1e-5
    )
    saved(weights, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"r": 4, "alpha": 8}')
    found = changes(model, tmp_path / "adapter_model.safetensors")
    torch.testing.assert_close(found[f"{LAYER}.weight"], 2 * expected, rtol=1e-4, atol=1e-5)


def pair(layer: str, rows: int = WIDTH, columns: int = WIDTH) -> dict[str, Tensor]:
    return {
        f"transformer.{layer}.lora_A.weight": torch.ones(2, columns),
        f"transformer.{layer}.lora_B.weight": torch.ones(rows, 2),
    }


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (pair("blocks.7.to_q"), r"1 layers .* not have \('transformer.blocks.7.to_q'\) and none"),
        (
            {**pair(LAYER), **pair("x")},
            r"1 layers .* not have \('transformer.x'\) and 1 that it has",
        ),
        ({**pair(LAYER), **pair(OUT, 8)}, r"1 of 2 layers .*to_out.0 is 8 x 16, here 16 x 16"),
        (
            {**pair(LAYER), f"transformer.{LAYER}.lora_A.weight": torch.ones(3, WIDTH)},
            "matrices of the ranks 2 and 3",
        ),
        (
            {
                f"lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_{side}.weight": torch.ones(2, 2)
                for side in ("down", "up")
            },
            "'lora_te1_text",
        ),
        ({**pair(LAYER), f"{LAYER}.dora_scale": torch.ones(1)}, "dora_scale"),
        ({f"{LAYER}.lokr_w1": torch.ones(2, 2)}, "without its other half"),
        (
            {
                **{f"{LAYER}.hada_w1_{side}": torch.ones(16, 16) for side in "ab"},
                f"{LAYER}.hada_w2_a": torch.ones(8, 2),
                f"{LAYER}.hada_w2_b": torch.ones(2, 32),
            },
            "two products of different shapes",
        ),
    ],
)
def test_an_adapter_that_fits_partly_or_not_at_all_is_refused_by_name(
    weights: dict[str, Tensor], message: str, model: DeepGen, tmp_path: Path
) -> None:
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=message):
        adapters_of(model).load(saved(weights, tmp_path / "a.safetensors"))
    assert same(dict(model.state_dict()), before)
    assert adapters_of(model).names == []


def test_an_adapter_for_a_base_that_its_start_changed_is_refused(
    model: DeepGen, tmp_path: Path
) -> None:
    adapter(tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"init_lora_weights": "pissa"}')
    with pytest.raises(CheckpointError, match="'pissa' changed"):
        merge_lora(model, tmp_path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_three_adapters_add_up_and_come_off_bit_for_bit(
    dtype: torch.dtype, model: DeepGen, tmp_path: Path
) -> None:
    pipe = DeepGenPipeline(model)
    model.dit.to(dtype)
    weight = model.dit.get_parameter(f"{LAYER}.weight")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    expected = weight.detach().float().clone()
    for seed, scale in enumerate((1.0, 0.5, -2.0)):
        path = adapter(tmp_path / f"{seed}.safetensors", seed=seed)
        pipe.load_lora_weights(path, f"style{seed}", scale=scale)
        down, up = matrices(seed=seed)
        expected += scale * up @ down
    assert pipe.get_active_adapters() == ["style0", "style1", "style2"]
    # Rounded once, however many there are.
    difference = (weight.detach().float() - expected.to(dtype).float()).abs().max().item()
    assert difference <= 1e-5 if dtype == torch.float32 else difference == 0
    pipe.set_adapters("style1", 2.0)
    down, up = matrices(seed=1)
    alone = (before[f"dit.{LAYER}.weight"].float() + 2 * up @ down).to(dtype)
    torch.testing.assert_close(weight.detach(), alone)
    pipe.set_adapters([])
    assert same(dict(model.state_dict()), before)
    pipe.set_adapters(["style0", "style2"], [1.0, 3.0])
    assert not torch.equal(weight, before[f"dit.{LAYER}.weight"])
    pipe.delete_adapters("style0")
    pipe.unload_lora_weights()
    assert same(dict(model.state_dict()), before)
    assert pipe.get_active_adapters() == []


def test_fusing_and_unfusing_a_hundred_times_drifts_nowhere(model: DeepGen, tmp_path: Path) -> None:
    pipe = DeepGenPipeline(model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    pipe.load_lora_weights(adapter(tmp_path / "a.safetensors"))
    loaded = {key: value.clone() for key, value in model.state_dict().items()}
    for _ in range(100):
        pipe.fuse_lora(lora_scale=0.7)
        pipe.unfuse_lora()
    assert same(dict(model.state_dict()), loaded)
    pipe.unload_lora_weights()
    assert same(dict(model.state_dict()), before)


def test_what_is_fused_stays_whatever_is_set_and_unloaded(model: DeepGen, tmp_path: Path) -> None:
    pipe = DeepGenPipeline(model)
    weight = model.dit.get_parameter(f"{LAYER}.weight")
    down, up = matrices()
    expected = weight.detach() + 0.5 * up @ down
    pipe.load_lora_weights(adapter(tmp_path / "a.safetensors"), "a")
    pipe.load_lora_weights(adapter(tmp_path / "b.safetensors", OUT), "b")
    pipe.fuse_lora(lora_scale=0.5, adapter_names=["a"])
    with pytest.raises(ValueError, match="fused already"):
        pipe.fuse_lora(adapter_names=["a"])
    pipe.set_adapters([])
    torch.testing.assert_close(weight.detach(), expected)
    before = model.dit.get_parameter(f"{OUT}.weight").detach().clone()
    pipe.set_adapters("b")
    pipe.unload_lora_weights()
    torch.testing.assert_close(weight.detach(), expected)
    assert torch.equal(model.dit.get_parameter(f"{OUT}.weight"), before)
    # From now on these are the original weights.
    pipe.load_lora_weights(adapter(tmp_path / "a.safetensors"), "a")
    pipe.unload_lora_weights()
    torch.testing.assert_close(weight.detach(), expected)


def test_a_hot_swap_takes_the_place_of_an_adapter(model: DeepGen, tmp_path: Path) -> None:
    loaded = adapters_of(model)
    weight = model.dit.get_parameter(f"{LAYER}.weight")
    before = weight.detach().clone()
    loaded.load(adapter(tmp_path / "0.safetensors"), "style")
    with pytest.raises(ValueError, match="is loaded"):
        loaded.load(adapter(tmp_path / "1.safetensors", seed=1), "style")
    loaded.load(adapter(tmp_path / "1.safetensors", seed=1), "style", hotswap=True)
    down, up = matrices(seed=1)
    torch.testing.assert_close(weight.detach(), before + up @ down)
    with pytest.raises(ValueError, match="no adapters \\['other'\\] are loaded"):
        loaded.load(adapter(tmp_path / "0.safetensors"), "other", hotswap=True)
    with pytest.raises(ValueError, match="2 adapters need as many weights, got 1"):
        DeepGenPipeline(model).set_adapters(["style", "style"], [1.0])


def test_adapters_belong_to_the_model_and_go_with_it(model: DeepGen, tmp_path: Path) -> None:
    first, second = DeepGenPipeline(model), DeepGenPipeline(model)
    first.load_lora_weights(adapter(tmp_path / "a.safetensors"), "a")
    assert second.get_active_adapters() == ["a"]
    other = tiny_model()
    adapters_of(other).load(adapter(tmp_path / "a.safetensors"))
    gone = weakref.ref(other)
    del other
    gc.collect()
    assert gone() is None
