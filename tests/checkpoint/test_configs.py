"""Configurations are read as they are meant and refused where they cannot be followed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from deepgen.checkpoint.configs import read_bridge, read_dit, read_schedule, write_bridge
from deepgen.checkpoint.files import ModelFolder
from deepgen.checkpoint.folder import load_folder
from deepgen.checkpoint.headers import StoredTensor
from deepgen.checkpoint.memory import loaded_shapes
from deepgen.conditioning.bridge import Bridge
from deepgen.config.model import BridgeConfig, ScheduleConfig
from deepgen.errors import CheckpointError
from tests.checkpoint.models import edit_json
from tests.conditioning.models import TINY_BRIDGE, TINY_LAST_BRIDGE

CONNECTOR = "connector/config.json"

HEADS = {
    "num_attention_heads": 3,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
}


def stored(config: BridgeConfig) -> dict[str, StoredTensor]:
    return {
        name: StoredTensor(Path("x"), name, "F32", tuple(value.shape))
        for name, value in Bridge(config).state_dict().items()
    }


@pytest.mark.parametrize("config", [TINY_BRIDGE, TINY_LAST_BRIDGE])
def test_the_bridges_sizes_are_those_of_its_tensors(config: BridgeConfig) -> None:
    for values in (HEADS, {"connector": HEADS}, write_bridge(config, "bf16")):
        found = read_bridge(values, stored(config))
        assert Bridge(found).state_dict().keys() == Bridge(config).state_dict().keys()
        assert (found.kind, found.num_attention_heads) == (config.kind, 3)
        assert found.input_size == config.input_size


def test_a_connector_of_the_released_width_needs_no_heads() -> None:
    shapes = stored(TINY_BRIDGE)
    wide = {"meta_queries": (128, 2048), "projector_1.weight": (2048, 12288)}
    wide |= {"projector_2.weight": (2048, 2048), "projector_3.weight": (4096, 2048)}
    wide |= {"connector.layers.0.mlp.fc1.weight": (11946, 2048)}
    released = {**shapes, **{k: StoredTensor(Path("x"), k, "F32", v) for k, v in wide.items()}}
    found = read_bridge({"num_queries": 128}, released)
    assert (found.num_attention_heads, found.layer_norm_eps) == (32, 1e-6)
    assert (found.num_selected_layers, found.intermediate_size) == (6, 11946)


@pytest.mark.parametrize("absent", list(HEADS))
def test_a_connector_of_another_width_must_say_what_shapes_cannot(absent: str) -> None:
    values = {name: value for name, value in HEADS.items() if name != absent}
    with pytest.raises(CheckpointError, match=f"lacks '{absent}'"):
        read_bridge({"connector": values}, stored(TINY_BRIDGE))


def test_an_older_sd3_transformer_has_no_dual_attention(folder: Path) -> None:
    values = {
        "sample_size": 128,
        "patch_size": 2,
        "in_channels": 16,
        "out_channels": None,
        "num_layers": 24,
        "attention_head_dim": 64,
        "num_attention_heads": 24,
        "joint_attention_dim": 4096,
        "caption_projection_dim": 1536,
        "pooled_projection_dim": 2048,
        "pos_embed_max_size": 192,
    }
    config = read_dit(values)
    assert (config.dual_attention_layers, config.qk_norm, config.out_channels) == ((), None, 16)


def test_the_schedule_is_read_with_diffusers_default_shift() -> None:
    assert read_schedule({}) == ScheduleConfig(shift=1.0)
    assert read_schedule({"shift": 3, "num_train_timesteps": 500}).num_train_timesteps == 500


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (CONNECTOR, lambda c: c["connector"].pop("num_attention_heads"), "num_attention_heads"),
        (CONNECTOR, lambda c: c["connector"].update(num_attention_heads=5), "not a multiple"),
        (
            CONNECTOR,
            lambda c: c["connector"].update(num_attention_heads=-3),
            "found -3",
        ),
        (CONNECTOR, lambda c: c["connector"].update(hidden_act="relu"), "hidden_act must be"),
        (CONNECTOR, lambda c: c.update(num_queries=77), "4 think tokens"),
        (CONNECTOR, lambda c: c.update(rope_precision="fp8"), "rope_precision must be"),
        ("transformer/config.json", lambda c: c.update(_class_name="Flux"), "describes 'Flux'"),
        ("transformer/config.json", lambda c: c.pop("num_layers"), "lacks 'num_layers'"),
        ("transformer/config.json", lambda c: c.update(num_layers="2"), "num_layers"),
        ("transformer/config.json", lambda c: c.update(num_layers=10**9), "tensors"),
        ("transformer/config.json", lambda c: c.update(num_layers=3), "missing tensors"),
        ("transformer/config.json", lambda c: c.update(qk_norm="layer"), "qk_norm"),
        ("transformer/config.json", lambda c: c.update(joint_attention_dim=10**18), "transformer"),
        ("transformer/config.json", lambda c: c.update(dual_attention_layers=[7]), "not among"),
        ("vae/config.json", lambda c: c.update(latent_channels=4), "misshapen"),
        ("vae/config.json", lambda c: c.update(layers_per_block=10**9), "tensors"),
        ("vae/config.json", lambda c: c.update(scaling_factor=0), "scaling_factor cannot be 0"),
        ("vae/config.json", lambda c: c.update(scaling_factor=None), "scaling_factor"),
        ("vae/config.json", lambda c: c.update(scaling_factor=1e999), "vae/config.json"),
        (
            "vlm/config.json",
            lambda c: c["text_config"].update(hidden_size=4 * 10**8),
            "hidden_size",
        ),
        ("model_index.json", lambda c: c["defaults"].update(guidance_scale=-3.0), "from 0 to 1000"),
        ("vae/config.json", lambda c: c.update(down_block_types=["Evil"] * 4), "cannot be used"),
        ("vlm/config.json", lambda c: c.update(model_type="llama"), "describes 'llama'"),
        ("vlm/config.json", lambda c: c["vision_config"].update(window_size=0), "window_size must"),
        ("vlm/config.json", lambda c: c["vision_config"].update(depth=[1] * 300), "depth"),
        (
            "vlm/config.json",
            lambda c: c["text_config"]["rope_parameters"].update(mrope_section=[1 << 24] * 3),
            "mrope_section must share",
        ),
        ("vlm/config.json", lambda c: c["text_config"].update(intermediate_size=1e300), "at most"),
        ("vae/config.json", lambda c: c.update(block_out_channels=[8] * 100_000), "entries"),
        ("vae/config.json", lambda c: c.update(layers_per_block=60), "residual blocks"),
        ("transformer/config.json", lambda c: c.update(pos_embed_max_size=9000), "4096"),
        ("transformer/config.json", lambda c: c.update(dual_attention_layers=[0] * 999), "entries"),
        (CONNECTOR, lambda c: c["connector"].update(layer_norm_eps=1e30), "layer_norm_eps"),
        (
            "scheduler/scheduler_config.json",
            lambda c: c.update(num_train_timesteps=10**9),
            "num_train_timesteps",
        ),
        ("scheduler/scheduler_config.json", lambda c: c.update(shift=1e300), "shift"),
        ("scheduler/scheduler_config.json", lambda c: c.update(max_shift=1e5), "max_shift"),
        ("model_index.json", lambda c: c["defaults"].update(num_inference_steps=10**9), "1000"),
        ("model_index.json", lambda c: c["defaults"].update(height=32 << 20), "65536"),
        ("prompt_template.json", lambda c: c.update(GENERATION="{input}" + "x" * 10**6), "limit"),
        ("vlm/config.json", lambda c: c["text_config"].update(num_hidden_layers=10**9), "tensors"),
        ("vlm/config.json", lambda c: c["text_config"].update(num_hidden_layers=7), "cannot be"),
        ("vlm/config.json", lambda c: c["text_config"].update(vocab_size=100), "misshapen"),
        ("vlm/config.json", lambda c: c["vision_config"].update(patch_size=16), "patch_size"),
        ("vlm/config.json", lambda c: c.update(text_config=5), "vlm/config.json"),
        ("model_index.json", lambda c: c["defaults"].update(height=100), "multiple of 32"),
        (
            "model_index.json",
            lambda c: c["defaults"].update(padding="left"),
            "'pair', 'none'",
        ),
        ("model_index.json", lambda c: c["defaults"].update(colour="red"), "unknown entries"),
        ("model_index.json", lambda c: c["defaults"].update(num_inference_steps=0), "equal to 1"),
        ("model_index.json", lambda c: c["defaults"].update(guidance_scale="4"), "valid number"),
        ("model_index.json", lambda c: c.update(defaults=[]), "must be an object"),
        ("model_index.json", lambda c: c.update(provenance={"vae": 1}), "provenance"),
        ("prompt_template.json", lambda c: c.update(INSTRUCTION="hello"), "must contain"),
        ("prompt_template.json", lambda c: c.update(IMG_CONTEXT_TOKEN="<|x|>"), "special tokens"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_refused(
    folder: Path, file: str, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit_json(folder / file, change)
    with pytest.raises(CheckpointError) as caught:
        load_folder(folder)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {"use_karras_sigmas": True},
        {"use_exponential_sigmas": True},
        {"use_beta_sigmas": True},
        {"invert_sigmas": True},
        {"stochastic_sampling": True},
        {"shift_terminal": 0.1},
        {"time_shift_type": "linear"},
    ],
)
def test_a_schedule_that_no_code_follows_is_refused(values: dict[str, Any]) -> None:
    (name,) = values
    with pytest.raises(CheckpointError, match=f"asks for '{name}'"):
        read_schedule(values)


@pytest.mark.parametrize(
    "values",
    [
        {"_class_name": "DDIMScheduler"},
        {"shift": 0},
        {"shift": True},
        {"shift": float("inf")},
        {"num_train_timesteps": 0},
        {"use_dynamic_shifting": True, "base_image_seq_len": 4096},
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="scheduler_config"):
        read_schedule(values)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"shift": NaN}', '{"a":' * 5000, "\ufeff{}"])
@pytest.mark.parametrize("file", ["vae/config.json", "tokenizer/tokenizer_config.json"])
def test_a_damaged_json_file_is_refused(folder: Path, file: str, text: str) -> None:
    (folder / file).write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=file):
        load_folder(folder)


def test_a_damaged_tokenizer_is_refused(folder: Path) -> None:
    (folder / "tokenizer/tokenizer.json").write_text('{"version": "1.0"}', encoding="utf-8")
    with pytest.raises(CheckpointError, match="tokenizer"):
        load_folder(folder)


def test_a_table_of_positions_is_not_larger_than_the_weights(folder: Path) -> None:
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    del tensors["pos_embed.pos_embed"]
    save_file(tensors, path)
    load_folder(folder)
    edit_json(folder / "transformer/config.json", lambda c: c.update(pos_embed_max_size=4000))
    with pytest.raises(CheckpointError, match="takes a table of"):
        load_folder(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["model"]["vocab"].update(evil=100_000), "a token of number 100000"),
        (lambda c: c.update(normalizer=doubling(32)), "rules that can make a text"),
        (lambda c: c.update(pre_tokenizer={"type": "Sequence", "x": [doubling(40)]}), "rules"),
        (lambda c: c.update(normalizer=nested_rules(200)), "nested more than 100 deep"),
    ],
)
def test_a_tokenizer_that_makes_too_much_of_a_text_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit_json(folder / "tokenizer/tokenizer.json", change)
    with pytest.raises(CheckpointError, match=message):
        load_folder(folder)


def doubling(count: int) -> dict[str, Any]:
    """Rules that make ``2^count`` letters of one."""
    rule = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    return {"type": "Sequence", "normalizers": [rule] * count}


def nested_rules(depth: int) -> dict[str, Any]:
    """A sequence of one sequence, and so on."""
    found: dict[str, Any] = {"type": "NFC"}
    for _ in range(depth):
        found = {"type": "Sequence", "normalizers": [found]}
    return found


@pytest.mark.parametrize(
    ("depth", "said"),
    [(0, "num_hidden_layers cannot be 0"), ("6", "cannot be"), (7, "does not fit the VLM: ")],
)
def test_a_depth_of_the_vlm_that_cannot_be_is_refused_in_a_plan_of_memory(
    depth: object, said: str, folder: Path
) -> None:
    path = folder / "vlm" / "config.json"
    values = json.loads(path.read_text())
    values.get("text_config", values)["num_hidden_layers"] = depth
    path.write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=said):
        loaded_shapes(ModelFolder(folder))
