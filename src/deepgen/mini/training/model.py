"""The mini's sizes, and a new mini with random weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from diffusers import AutoencoderKL
from transformers import PreTrainedTokenizerFast

from deepgen.conditioning.vlm import VisionLanguageModel
from deepgen.config.model import BridgeConfig, DiTConfig, GenerationDefaults, ScheduleConfig
from deepgen.dit.model import DiT
from deepgen.mini.training.samples import SIDE

DEFAULTS = GenerationDefaults(
    height=SIDE,
    width=SIDE,
    num_inference_steps=20,
    guidance_scale=1.0,
    edit_negative_prompt="",
    padding="none",
    trained_size_ratio=1.0,
    trained_references=1,
)

SCHEDULE = ScheduleConfig(shift=2.0)
"""Less shift than the large model's 3: few latent cells have little redundancy."""

BRIDGE = BridgeConfig(
    num_queries=8,
    llm_hidden_size=128,
    num_selected_layers=6,
    hidden_size=192,
    intermediate_size=576,
    num_hidden_layers=2,
    num_attention_heads=3,
    pooled_projection_dim=192,
    joint_attention_dim=192,
)

DIT = DiTConfig(
    sample_size=SIDE // 8,
    num_layers=6,
    num_attention_heads=3,
    joint_attention_dim=192,
    caption_projection_dim=192,
    pooled_projection_dim=192,
    pos_embed_max_size=16,
    dual_attention_layers=(0, 1, 2),
)

AUTOENCODER: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 16,
    "block_out_channels": (16, 32, 64, 128),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "sample_size": SIDE,
    "force_upcast": False,
}


def vlm_config(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """A Qwen2.5-VL of 12 narrow layers, with the vocabulary of a tokenizer."""
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in tokenizer.all_special_tokens}
    return {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "tie_word_embeddings": True,
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "vision_token_id": ids["<|vision_pad|>"],
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "text_config": {
            "model_type": "qwen2_5_vl_text",
            "vocab_size": len(tokenizer),
            "hidden_size": 128,
            "intermediate_size": 352,
            "num_hidden_layers": 12,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [8, 12, 12],
            },
            "tie_word_embeddings": True,
            "bos_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
        },
        "vision_config": {
            "model_type": "qwen2_5_vl",
            "depth": 2,
            "hidden_size": 64,
            "intermediate_size": 160,
            "num_heads": 2,
            "out_hidden_size": 128,
            "fullatt_block_indexes": [1],
        },
    }


def new_autoencoder(seed: int) -> AutoencoderKL:
    """An untrained autoencoder; scale and shift are set once it is trained."""
    torch.manual_seed(seed)
    return AutoencoderKL(**AUTOENCODER)


def new_vlm(tokenizer: PreTrainedTokenizerFast, bridge: BridgeConfig) -> VisionLanguageModel:
    """An untrained VLM without the layers that a bridge does not read."""
    return VisionLanguageModel(vlm_config(tokenizer), bridge, rope_precision="fp32")


def new_language_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> VisionLanguageModel:
    """An untrained VLM with its last layer and norm; its embedding serves as its head."""
    torch.manual_seed(seed)
    vlm = new_vlm(tokenizer, replace(BRIDGE, kind="last"))
    for module in vlm.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Embedding | torch.nn.Conv3d):
            torch.nn.init.normal_(module.weight, std=0.05)
    return vlm


def new_dit(seed: int) -> DiT:
    """An untrained DiT whose blocks begin as identities and whose velocity begins at zero."""
    torch.manual_seed(seed)
    dit = DiT(DIT)
    for name, value in dit.named_parameters():
        if name.endswith(("norm1.linear.weight", "norm1_context.linear.weight")) or name in (
            "norm_out.linear.weight",
            "proj_out.weight",
        ):
            torch.nn.init.zeros_(value)
        elif value.ndim >= 2:
            torch.nn.init.xavier_uniform_(value.flatten(1) if value.ndim > 2 else value)
        elif name.endswith("bias"):
            torch.nn.init.zeros_(value)
    return dit
