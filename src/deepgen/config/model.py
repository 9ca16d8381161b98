"""Sizes of the model and defaults of its use; no torch in here.

The defaults of every class are those of the released DeepGen 1.0 (5B).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Padding = Literal["pair", "none", "batch"]
RopePrecision = Literal["bf16", "fp32"]
BridgeKind = Literal["stacked", "last"]

PADDINGS: tuple[Padding, ...] = get_args(Padding)
ROPE_PRECISIONS: tuple[RopePrecision, ...] = get_args(RopePrecision)

SIZE_UNIT = 32
"""Image sides are multiples of this: 8 (VAE) x 2 (patch) x 2 (merge of the vision tower)."""

MAX_PROMPT_TOKENS = 4096

EDIT_NEGATIVE_PROMPT = (
    "blurry, low quality, low resolution, distorted, deformed, broken content, missing parts, "
    "damaged details, artifacts, glitch, noise, pixelated, grainy, compression artifacts, "
    "bad composition, wrong proportion, incomplete editing, unfinished, unedited areas."
)
"""The published default for edits, a fact of the released model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DiTConfig:
    """Fields of diffusers' ``SD3Transformer2DModel`` configuration, under the same names."""

    sample_size: int = 128
    patch_size: int = 2
    in_channels: int = 16
    out_channels: int = 16
    num_layers: int = 24
    attention_head_dim: int = 64
    num_attention_heads: int = 24
    joint_attention_dim: int = 4096
    """Width of the context tokens that come from the bridge."""
    caption_projection_dim: int = 1536
    """Width of the context tokens inside; always heads x head_dim."""
    pooled_projection_dim: int = 2048
    pos_embed_max_size: int = 384
    """Side of the stored table of positions, in patches."""
    dual_attention_layers: tuple[int, ...] = tuple(range(13))
    """Blocks that have a second self-attention among image tokens."""
    qk_norm: Literal["rms_norm"] | None = "rms_norm"

    @property
    def width(self) -> int:
        """Width of the image tokens."""
        return self.num_attention_heads * self.attention_head_dim

    def __post_init__(self) -> None:
        if self.caption_projection_dim != self.width:
            raise ValueError(
                f"caption_projection_dim must be heads x head_dim = {self.width}, "
                f"got {self.caption_projection_dim}"
            )
        outside = [i for i in self.dual_attention_layers if not 0 <= i < self.num_layers]
        if outside:
            raise ValueError(f"dual_attention_layers {outside} are not among the blocks")


@dataclass(frozen=True, kw_only=True, slots=True)
class BridgeConfig:
    """Stacked Channel Bridging: think tokens, projectors and the connector between them."""

    kind: BridgeKind = "stacked"
    """``stacked`` reads six layers of the VLM, ``last`` its normalised last state only."""
    num_queries: int = 128
    """Think tokens; the checkpoints call them ``meta_queries``."""
    llm_hidden_size: int = 2048
    num_selected_layers: int = 6
    hidden_size: int = 2048
    intermediate_size: int = 11946
    num_hidden_layers: int = 6
    num_attention_heads: int = 32
    layer_norm_eps: float = 1e-6
    pooled_projection_dim: int = 2048
    joint_attention_dim: int = 4096

    @property
    def input_size(self) -> int:
        """Channels that enter ``projector_1``."""
        taps = self.num_selected_layers if self.kind == "stacked" else 1
        return taps * self.llm_hidden_size

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of "
                f"num_attention_heads {self.num_attention_heads}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationDefaults:
    """What a call uses where the user says nothing; ``defaults`` in ``model_index.json``."""

    height: int = 512
    width: int = 512
    num_inference_steps: int = 50
    guidance_scale: float = 4.0
    edit_negative_prompt: str = EDIT_NEGATIVE_PROMPT
    padding: Padding = "pair"

    def __post_init__(self) -> None:
        if self.guidance_scale < 0:
            raise ValueError(f"guidance_scale must be at least 0, got {self.guidance_scale}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleConfig:
    """Fields of ``scheduler_config.json`` that decide the sigmas, under the same names."""

    num_train_timesteps: int = 1000
    shift: float = 3.0
    """Static shift; unused where ``use_dynamic_shifting`` is set."""
    use_dynamic_shifting: bool = False
    base_shift: float = 0.5
    max_shift: float = 1.15
    base_image_seq_len: int = 256
    max_image_seq_len: int = 4096

    def __post_init__(self) -> None:
        if self.num_train_timesteps < 1:
            raise ValueError(
                f"num_train_timesteps must be positive, got {self.num_train_timesteps}"
            )
        if not self.shift > 0:
            raise ValueError(f"shift must be positive, got {self.shift}")
