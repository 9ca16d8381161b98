"""What each stage trains, for the released sizes and for a small model."""

import json
from collections.abc import Mapping

import pytest
import torch
from diffusers import AutoencoderKL
from torch import nn

from deepgen.conditioning.bridge import Bridge
from deepgen.conditioning.encoder import Conditioner
from deepgen.conditioning.vlm import VisionLanguageModel
from deepgen.config.model import BridgeConfig, DiTConfig, GenerationDefaults, ScheduleConfig
from deepgen.config.train import LoraConfig
from deepgen.dit.model import DiT
from deepgen.model import DeepGen
from deepgen.train.trainable import make_trainable
from deepgen.vae import LatentCodec
from tests.checkpoint.models import tiny_model
from tests.conditioning.models import tiny_tokenizer
from tests.released import VAE, VLM

BRIDGE = {
    "conditioner.bridge.meta_queries": (1, 262_144),
    "conditioner.bridge.projector_1.": (2, 25_167_872),
    "conditioner.bridge.connector.": (96, 394_430_460),
    "conditioner.bridge.projector_2.": (2, 4_196_352),
    "conditioner.bridge.projector_3.": (2, 8_392_704),
}
LANGUAGE = "conditioner.vlm.language_model."


def released_size() -> DeepGen:
    with torch.device("meta"):
        return DeepGen(
            Conditioner(
                VisionLanguageModel(json.loads(json.dumps(VLM)), BridgeConfig()),
                Bridge(BridgeConfig()),
                tiny_tokenizer(),
            ),
            DiT(DiTConfig()),
            LatentCodec(AutoencoderKL.from_config(VAE)),
            ScheduleConfig(),
            GenerationDefaults(),
        )


def size(trained: Mapping[str, nn.Parameter], prefix: str) -> tuple[int, int]:
    """Tensors and values below a prefix."""
    own = [value.numel() for name, value in trained.items() if name.startswith(prefix)]
    return len(own), sum(own)


def test_pretraining_trains_think_tokens_projectors_and_connector() -> None:
    trained = make_trainable(released_size(), "pretrain")
    assert {prefix: size(trained, prefix) for prefix in BRIDGE} == BRIDGE
    assert size(trained, "") == (103, 432_449_532)


def test_joint_tuning_trains_the_whole_dit_too_and_adapters_on_the_language_model() -> None:
    model = released_size()
    trained = make_trainable(model, "sft", lora=LoraConfig())
    assert {prefix: size(trained, prefix) for prefix in BRIDGE} == BRIDGE
    # All but the table of positions, which is no parameter.
    assert size(trained, "dit.") == (908, 2_243_171_520)
    # 35 live layers of 7 linear layers, and the embedding; two matrices each.
    assert size(trained, f"{LANGUAGE}layers.") == (490, 116_408_320)
    assert size(trained, f"{LANGUAGE}embed_tokens.") == (2, 9_854_976)
    assert size(trained, LANGUAGE) == (492, 126_263_296)
    assert size(trained, "") == (103 + 908 + 492, 432_449_532 + 2_243_171_520 + 126_263_296)
    layer = f"{LANGUAGE}layers.34."
    linear = [f"self_attn.{each}_proj" for each in "qkvo"]
    linear += [f"mlp.{each}_proj" for each in ("gate", "up", "down")]
    assert {name for name in trained if name.startswith(layer)} == {
        f"{layer}{each}.lora_{matrix}.default.weight" for each in linear for matrix in "AB"
    }
    frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
    assert {name.split(".")[0] for name in frozen} == {"vae", "conditioner"}
    assert not any("lora" in name for name in frozen)


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=2)])
def test_a_small_update_is_not_rounded_away_in_what_is_trained(lora: LoraConfig | None) -> None:
    model = tiny_model().to(torch.bfloat16)
    trained = make_trainable(model, "sft", lora=lora)
    assert all(value.dtype == torch.float32 for value in trained.values())
    assert model.vae.dtype == torch.bfloat16
    assert any(name.startswith(LANGUAGE) for name in trained) == (lora is not None)
    assert model.conditioner.vlm.embedding.dtype == torch.bfloat16


def test_adapters_begin_as_published_and_the_same_for_the_same_seed() -> None:
    one, two, other = (tiny_model() for _ in range(3))
    config = LoraConfig(rank=8)
    for model, seed in ((one, 0), (two, 0), (other, 1)):
        make_trainable(model, "sft", lora=config, seed=seed)
    name = "language_model.layers.0.mlp.up_proj"
    mine, same, different = (
        model.conditioner.vlm.get_parameter(f"{name}.lora_A.default.weight")
        for model in (one, two, other)
    )
    assert mine.std().item() == pytest.approx(1 / 8, rel=0.2)
    assert torch.equal(mine, same)
    assert not torch.equal(mine, different)
    assert not one.conditioner.vlm.get_parameter(f"{name}.lora_B.default.weight").any()
