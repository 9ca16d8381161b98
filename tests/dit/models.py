"""DiTs for tests: the recorded one, and random ones beside their diffusers twin."""

import json
from functools import cache
from typing import Any

import torch
from diffusers import SD3Transformer2DModel
from safetensors.torch import load_file
from torch import Tensor

from deepgen.config.model import DiTConfig
from deepgen.dit.model import DiT
from deepgen.types import Condition
from tests.shared import golden

TINY = DiTConfig(
    sample_size=32,
    num_layers=3,
    num_attention_heads=2,
    attention_head_dim=16,
    joint_attention_dim=40,
    caption_projection_dim=32,
    pooled_projection_dim=24,
    pos_embed_max_size=64,
    dual_attention_layers=(0, 1),
)


@cache
def golden_dit() -> DiT:
    folder = golden("model/transformer")
    stored = json.loads((folder / "config.json").read_text())
    assert stored["num_layers"] == TINY.num_layers
    dit = DiT(TINY)
    dit.load_state_dict(load_file(folder / "diffusion_pytorch_model.safetensors"))
    return dit.requires_grad_(False)


def twins(**changes: Any) -> tuple[DiT, SD3Transformer2DModel]:
    """A DiT and diffusers' with the same weights, large enough for every term to matter."""
    values = {name: getattr(TINY, name) for name in TINY.__dataclass_fields__} | changes
    stock = SD3Transformer2DModel(**values)
    with torch.no_grad():
        for name, weight in stock.named_parameters():
            weight.normal_(mean=1.0 if "norm_" in name and weight.ndim == 1 else 0.0, std=0.2)
    dit = DiT(DiTConfig(**values))
    dit.load_state_dict(stock.state_dict())
    return dit.requires_grad_(False), stock.requires_grad_(False)


def conditions(context: Tensor, pooled: Tensor) -> list[Condition]:
    return [
        Condition(prompt_embeds=tokens, pooled_prompt_embeds=vector)
        for tokens, vector in zip(context, pooled, strict=True)
    ]


def random_condition(tokens: int, *, padding: int = 0, seed: int = 0) -> Condition:
    generator = torch.Generator().manual_seed(seed)
    return Condition(
        prompt_embeds=torch.randn(tokens, 40, generator=generator),
        pooled_prompt_embeds=torch.randn(24, generator=generator),
        padding=padding,
    )
