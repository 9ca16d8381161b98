"""A model of all parts, small enough to be saved, damaged and loaded many times."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor

from deepgen.config.model import DiTConfig, GenerationDefaults, ScheduleConfig
from deepgen.dit.model import DiT
from deepgen.model import DeepGen
from deepgen.vae import LatentCodec
from tests.conditioning.models import TINY_BRIDGE, tiny_conditioner

TINY_DIT = DiTConfig(
    sample_size=8,
    num_layers=2,
    attention_head_dim=8,
    num_attention_heads=2,
    joint_attention_dim=TINY_BRIDGE.joint_attention_dim,
    caption_projection_dim=16,
    pooled_projection_dim=TINY_BRIDGE.pooled_projection_dim,
    pos_embed_max_size=8,
    dual_attention_layers=(0,),
)

DEFAULTS = GenerationDefaults(
    height=64,
    width=96,
    num_inference_steps=3,
    guidance_scale=2.5,
    edit_negative_prompt="gloom",
    padding="none",
)


def tiny_autoencoder() -> AutoencoderKL:
    torch.manual_seed(2)
    return AutoencoderKL(
        latent_channels=16,
        block_out_channels=(4, 4, 4, 4),
        norm_num_groups=2,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        scaling_factor=1.5,
        shift_factor=0.25,
        use_quant_conv=False,
        use_post_quant_conv=False,
    ).eval()


def tiny_model() -> DeepGen:
    torch.manual_seed(3)
    return DeepGen(
        tiny_conditioner(),
        DiT(TINY_DIT),
        LatentCodec(tiny_autoencoder()),
        ScheduleConfig(shift=2.0),
        DEFAULTS,
        {"transformer": "pretrain, 10 steps"},
    ).eval()


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")


def edit_weights(path: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = {name: value.clone() for name, value in load_file(path).items()}
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def state(model: DeepGen) -> dict[str, Tensor]:
    """All weights, those of the vision tower included."""
    model.conditioner.vlm.require_vision()
    return model.state_dict()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(value, other[name]) for name, value in one.items()
    )
