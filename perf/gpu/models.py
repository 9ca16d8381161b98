"""Models with random weights, of the released size and as toys, made on the device itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from transformers import Qwen2Tokenizer

from deepgen.conditioning.bridge import Bridge
from deepgen.conditioning.encoder import Conditioner
from deepgen.conditioning.vlm import VisionLanguageModel
from deepgen.config.model import BridgeConfig, DiTConfig, GenerationDefaults, ScheduleConfig
from deepgen.dit.model import DiT
from deepgen.dit.patchify import sinusoidal_table
from deepgen.model import DeepGen
from deepgen.types import Prompt
from deepgen.vae import LatentCodec
from gpu.plan import Context

M = TypeVar("M", bound=nn.Module)

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """Sizes of all parts of a model, and of the images it makes."""

    dit: DiTConfig
    bridge: BridgeConfig
    vlm: Mapping[str, Any]
    """Configuration of the Qwen2.5-VL."""
    autoencoder: Mapping[str, Any]
    side: int
    """Side of an image in pixels, where nothing else is said."""


RELEASED = Sizes(
    dit=DiTConfig(),
    bridge=BridgeConfig(),
    vlm={
        "text_config": {
            "vocab_size": 151_936,
            "hidden_size": 2048,
            "intermediate_size": 11_008,
            "num_hidden_layers": 36,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
            "max_position_embeddings": 128_000,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [16, 24, 24],
            },
            "bos_token_id": None,
            "eos_token_id": None,
        },
        "vision_config": {
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "out_hidden_size": 2048,
            "fullatt_block_indexes": [7, 15, 23, 31],
            "window_size": 112,
        },
        "tie_word_embeddings": True,
    },
    autoencoder={"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2},
    side=512,
)

TOY = Sizes(
    dit=DiTConfig(
        sample_size=32,
        num_layers=3,
        num_attention_heads=2,
        attention_head_dim=16,
        joint_attention_dim=40,
        caption_projection_dim=32,
        pooled_projection_dim=24,
        pos_embed_max_size=64,
        dual_attention_layers=(0, 1),
    ),
    bridge=BridgeConfig(
        num_queries=4,
        llm_hidden_size=32,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=3,
        pooled_projection_dim=24,
        joint_attention_dim=40,
    ),
    vlm={
        "text_config": {
            "vocab_size": 272,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 6,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [2, 1, 1],
            },
            "bos_token_id": None,
            "eos_token_id": None,
        },
        "vision_config": {
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "out_hidden_size": 32,
            "fullatt_block_indexes": [1],
            "window_size": 112,
        },
        "tie_word_embeddings": True,
    },
    autoencoder={
        "block_out_channels": (4, 4, 4, 4),
        "layers_per_block": 1,
        "norm_num_groups": 2,
    },
    side=64,
)


def sizes_of(context: Context) -> Sizes:
    """The released model's sizes, or toy sizes for a rehearsal."""
    return TOY if context.toy else RELEASED


def new_dit(config: DiTConfig, device: torch.device, dtype: torch.dtype) -> DiT:
    """A DiT with random weights."""
    with torch.device("meta"):
        dit = DiT(config)
    return fill(dit, device, dtype)


def new_model(
    sizes: Sizes,
    device: torch.device,
    dtype: torch.dtype,
    *,
    seed: int = 0,
    with_vision: bool = True,
) -> DeepGen:
    """A whole model with random weights, in evaluation mode.

    Without the vision tower it is as ``from_pretrained`` loads it, and makes no edits.
    """
    with torch.device("meta"):
        model = DeepGen(
            Conditioner(
                VisionLanguageModel(sizes.vlm, sizes.bridge, with_vision=with_vision),
                Bridge(sizes.bridge),
                byte_tokenizer(),
            ),
            DiT(sizes.dit),
            LatentCodec(new_autoencoder(sizes)),
            ScheduleConfig(),
            replace(GenerationDefaults(), height=sizes.side, width=sizes.side),
        )
    return fill(model, device, dtype, seed=seed).eval().requires_grad_(False)


def new_autoencoder(sizes: Sizes) -> AutoencoderKL:
    """The released autoencoder, with these channels."""
    return AutoencoderKL(
        latent_channels=16,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=1.5305,
        shift_factor=0.0609,
        **sizes.autoencoder,
    )


def fill(module: M, device: torch.device, dtype: torch.dtype, *, seed: int = 0) -> M:
    """Give a module on the meta device random weights that keep activations of order 1.

    The same values on every GPU, others on a CPU.
    """
    module.to_empty(device=device)
    module.to(dtype)
    generator = torch.Generator(device).manual_seed(seed)
    with torch.no_grad():
        for name, value in module.named_parameters():
            _draw(name, value, generator)
        for part in module.modules():
            if isinstance(part, DiT):
                config, table = part.config, part.pos_embed.pos_embed
                base = config.sample_size // config.patch_size
                made = sinusoidal_table(config.width, config.pos_embed_max_size, base)
                table.copy_(made[None])
    return module


def _draw(name: str, value: Tensor, generator: torch.Generator) -> None:
    if value.ndim < 2:
        # Gains of norms are 1, biases 0, both roughly.
        is_gain = "norm" in name and name.endswith("weight")
        value.normal_(1.0 if is_gain else 0.0, 0.05, generator=generator)
    elif "embed_tokens" in name or "meta_queries" in name:
        value.normal_(0.0, 1.0, generator=generator)
    else:
        value.normal_(0.0, 0.8 * value[0].numel() ** -0.5, generator=generator)


def byte_tokenizer() -> Qwen2Tokenizer:
    """One token per byte, so a text of n ASCII characters has n tokens."""
    alphabet = sorted(Qwen2Tokenizer().backend_tokenizer.pre_tokenizer[1].alphabet())
    return Qwen2Tokenizer(
        vocab={byte: place for place, byte in enumerate(alphabet)},
        merges=[],
        extra_special_tokens=list(SPECIAL_TOKENS),
    )


def prompt_text(model: DeepGen, tokens: int, number: int = 0) -> str:
    """A text whose prompt has that many tokens; different for each number below 26."""
    frame = len(model.conditioner.tokenize(Prompt(text="")))
    return chr(ord("a") + number % 26) * max(1, tokens - frame)


def random_pixels(side: int, count: int) -> list[Tensor]:
    """Images in [-1, 1] on the CPU."""
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(3, side, side, generator=generator) * 2 - 1 for _ in range(count)]


def parameters_of(module: nn.Module) -> int:
    """How many there are."""
    return sum(value.numel() for value in module.parameters())
