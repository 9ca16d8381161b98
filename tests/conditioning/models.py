"""Models for the tests of conditioning: the golden one, and a random one of our own."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer

from deepgen.conditioning.bridge import Bridge
from deepgen.conditioning.encoder import Conditioner
from deepgen.conditioning.prompts import PromptTemplate, PromptTokenizer
from deepgen.conditioning.vlm import VisionLanguageModel
from deepgen.conditioning.vlm_layers import module_key, unused_keys
from deepgen.config.model import BridgeConfig
from deepgen.types import Prompt
from tests.shared import golden

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
)

TINY_BRIDGE = BridgeConfig(
    num_queries=4,
    llm_hidden_size=32,
    num_selected_layers=3,
    hidden_size=24,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=3,
    pooled_projection_dim=20,
    joint_attention_dim=28,
)
TINY_LAST_BRIDGE = BridgeConfig(
    kind="last",
    num_queries=4,
    llm_hidden_size=32,
    hidden_size=24,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=3,
    pooled_projection_dim=20,
    joint_attention_dim=28,
)


def tiny_tokenizer() -> Qwen2Tokenizer:
    """Bytes and special tokens only."""
    alphabet = sorted(Qwen2Tokenizer().backend_tokenizer.pre_tokenizer[1].alphabet())
    return Qwen2Tokenizer(
        vocab={byte: place for place, byte in enumerate(alphabet)},
        merges=[],
        extra_special_tokens=list(SPECIAL_TOKENS),
    )


def tiny_config(layers: int = 6) -> Qwen2_5_VLConfig:
    return Qwen2_5_VLConfig(
        text_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 272,
            "bos_token_id": None,
            "eos_token_id": None,
            "max_position_embeddings": 4096,
            "initializer_range": 0.2,
            "rope_scaling": {"rope_type": "default", "mrope_section": [2, 1, 1]},
            "rope_theta": 1e6,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "out_hidden_size": 32,
            "fullatt_block_indexes": [1],
            "window_size": 112,
            "initializer_range": 0.2,
        },
        tie_word_embeddings=False,
    )


def random_vlm(layers: int = 6) -> Qwen2_5_VLForConditionalGeneration:
    """The stock model, whole, with weights large enough for every term to matter."""
    torch.manual_seed(0)
    config = tiny_config(layers)
    config._attn_implementation = "sdpa"
    model = Qwen2_5_VLForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.normal_(std=0.2)
            elif "norm" in name:
                weight.normal_(mean=1, std=0.2)
    return model


def take_over(
    model: Qwen2_5_VLForConditionalGeneration,
    bridge: BridgeConfig = TINY_BRIDGE,
    **options: Any,
) -> VisionLanguageModel:
    """Our model with the stock model's weights."""
    ours = VisionLanguageModel(model.config, bridge, **{"rope_precision": "fp32", **options})
    is_unused = unused_keys(model.config.text_config.num_hidden_layers, bridge)
    weights = {
        module_key(key): value for key, value in model.state_dict().items() if not is_unused(key)
    }
    ours.load_state_dict(weights)
    return ours.eval()


def random_bridge(config: BridgeConfig = TINY_BRIDGE) -> Bridge:
    """A bridge whose zeros are filled, so that the condition depends on the prompt."""
    torch.manual_seed(1)
    bridge = Bridge(config).eval()
    with torch.no_grad():
        for weight in bridge.parameters():
            if not weight.any():
                weight.normal_(std=0.2)
    return bridge


def tiny_conditioner(bridge: BridgeConfig = TINY_BRIDGE) -> Conditioner:
    vlm = take_over(random_vlm(), bridge)
    return Conditioner(vlm, random_bridge(bridge), tiny_tokenizer()).eval()


def image(seed: int, height: int = 32, width: int = 64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(3, height, width, generator=generator) * 2 - 1


def golden_json(path: str) -> Any:
    return json.loads(golden(path).read_text(encoding="utf-8"))


@cache
def golden_image(name: str) -> Tensor:
    (file,) = Path(golden("inputs")).glob(f"{name}_h*.png")
    values = torch.from_numpy(np.array(Image.open(file))).float()
    return (2 * (values / 255) - 1).permute(2, 0, 1)


def golden_prompt(text: str, references: list[str] | None = None) -> Prompt:
    return Prompt(text=text, references=tuple(golden_image(name) for name in references or []))


def golden_tokenizer(*, compat: bool = False) -> PromptTokenizer:
    template = PromptTemplate.from_json(golden_json("model/prompt_template.json"))
    tokenizer = Qwen2Tokenizer.from_pretrained(golden("model/tokenizer"))
    return PromptTokenizer(tokenizer, template, compat=compat)


def golden_bridge_config() -> BridgeConfig:
    values = golden_json("model/connector/config.json")
    known = BridgeConfig.__dataclass_fields__
    return BridgeConfig(**{name: value for name, value in values.items() if name in known})


def golden_bridge() -> Bridge:
    bridge = Bridge(golden_bridge_config())
    bridge.load_state_dict(load_file(golden("model/connector/model.safetensors")))
    return bridge.eval()


def golden_vlm() -> VisionLanguageModel:
    bridge = golden_bridge_config()
    config = golden_json("model/vlm/config.json")
    with torch.device("meta"):
        vlm = VisionLanguageModel(config, bridge, rope_precision="fp32")
    is_unused = unused_keys(config["text_config"]["num_hidden_layers"], bridge)
    weights = load_file(golden("model/vlm/model.safetensors"))
    live = {module_key(key): value for key, value in weights.items() if not is_unused(key)}
    vlm.load_state_dict(live, assign=True)
    return vlm.eval()


def golden_conditioner() -> Conditioner:
    prompts = golden_tokenizer()
    return Conditioner(golden_vlm(), golden_bridge(), prompts.tokenizer, prompts.template).eval()
