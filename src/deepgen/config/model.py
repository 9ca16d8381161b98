"""Sizes of the model and defaults of its use; no torch in here.

The defaults of every class are those of the released DeepGen 1.0 (5B).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import Field

from deepgen.config.checks import check_at_least, check_positive, check_within

Padding = Literal["pair", "none", "batch"]
RopePrecision = Literal["bf16", "fp32"]
BridgeKind = Literal["stacked", "last"]

PADDINGS: tuple[Padding, ...] = get_args(Padding)
ROPE_PRECISIONS: tuple[RopePrecision, ...] = get_args(RopePrecision)

SIZE_UNIT = 32
"""Image sides are multiples of this: 8 (VAE) x 2 (patch) x 2 (merge of the vision tower)."""

MAX_PROMPT_TOKENS = 4096

MAX_STEPS = 1000
"""The number of noise levels in training; more steps cannot be finer."""

MAX_GUIDANCE = 1000.0
"""Images are noise long before."""

MAX_LORA_SCALE = 1000.0
MAX_LORA_ALPHA = 1e6
MAX_LORA_RANK = 4096
"""Twice the width of the released DiT. Usual are 4 to 256, with an alpha of about as much."""

# What a file may say; pydantic checks it where files are read, see checkpoint.configs.
Count = Annotated[int, Field(ge=1, le=1 << 24)]
"""A width or another size; the largest in use is a vocabulary of 150,000."""
Layers = Annotated[int, Field(ge=1, le=256)]
"""The largest in use is 36."""
Positions = Annotated[int, Field(ge=1, le=4096)]
"""Patches along a side; 4,096 are images of 65,536 pixels."""
Side = Annotated[int, Field(ge=1, le=1 << 16)]
Steps = Annotated[int, Field(ge=1, le=MAX_STEPS)]
Timesteps = Annotated[int, Field(ge=1, le=100_000)]
Number = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
Epsilon = Annotated[float, Field(gt=0, le=1)]
Shift = Annotated[float, Field(ge=-20, le=20)]
"""An exponent of e."""

EDIT_NEGATIVE_PROMPT = (
    "blurry, low quality, low resolution, distorted, deformed, broken content, missing parts, "
    "damaged details, artifacts, glitch, noise, pixelated, grainy, compression artifacts, "
    "bad composition, wrong proportion, incomplete editing, unfinished, unedited areas."
)
"""The published default for edits, a fact of the released model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DiTConfig:
    """Fields of diffusers' ``SD3Transformer2DModel`` configuration, under the same names."""

    sample_size: Count = 128
    patch_size: Count = 2
    in_channels: Count = 16
    out_channels: Count = 16
    num_layers: Layers = 24
    attention_head_dim: Count = 64
    num_attention_heads: Count = 24
    joint_attention_dim: Count = 4096
    """Width of the context tokens that come from the bridge."""
    caption_projection_dim: Count = 1536
    """Width of the context tokens inside; always heads x head_dim."""
    pooled_projection_dim: Count = 2048
    pos_embed_max_size: Positions = 384
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
    num_queries: Annotated[int, Field(ge=0)] = 128
    """Think tokens; the checkpoints call them ``meta_queries``. None at all is one of the paper's
    ablations."""
    llm_hidden_size: Count = 2048
    num_selected_layers: Count = 6
    hidden_size: Count = 2048
    intermediate_size: Count = 11946
    num_hidden_layers: Layers = 6
    num_attention_heads: Count = 32
    layer_norm_eps: Epsilon = 1e-6
    pooled_projection_dim: Count = 2048
    joint_attention_dim: Count = 4096

    @property
    def input_size(self) -> int:
        """Channels that enter ``projector_1``."""
        count = self.num_selected_layers if self.kind == "stacked" else 1
        return count * self.llm_hidden_size

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of "
                f"num_attention_heads {self.num_attention_heads}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationDefaults:
    """What a call uses where the user says nothing; ``defaults`` in ``model_index.json``."""

    height: Side = 512
    width: Side = 512
    num_inference_steps: Steps = 50
    guidance_scale: Number = 4.0
    edit_negative_prompt: str = EDIT_NEGATIVE_PROMPT
    padding: Padding = "pair"
    trained_size_ratio: Number = 2.0
    """Training had images of up to so many times more, or fewer, pixels than the default size."""
    trained_references: Count | None = None
    """References of an edit in training, at most; None where it is not recorded."""

    def __post_init__(self) -> None:
        check_within("guidance_scale", self.guidance_scale, 0, MAX_GUIDANCE)
        check_at_least("trained_size_ratio", self.trained_size_ratio, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleConfig:
    """Fields of ``scheduler_config.json`` that decide the sigmas, under the same names."""

    num_train_timesteps: Timesteps = 1000
    shift: Number = 3.0
    """Static shift; unused where ``use_dynamic_shifting`` is set."""
    use_dynamic_shifting: bool = False
    base_shift: Shift = 0.5
    max_shift: Shift = 1.15
    base_image_seq_len: Count = 256
    max_image_seq_len: Count = 4096

    def __post_init__(self) -> None:
        check_within("num_train_timesteps", self.num_train_timesteps, 1, 100_000)
        check_positive("shift", self.shift)
