"""How many floating-point operations a sample needs, for MFU.

Counted is what the model requires, not what is executed: products with weights
(two operations per weight and token) and attention (four per channel, query and key). A backward
pass costs as much as the forward pass for the gradients of activations, and as much again for those
of weights. Padding, recomputation and the autoencoder, whose latents can be cached, do not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deepgen.conditioning.vision import MERGE, PATCH
from deepgen.config.model import BridgeConfig, DiTConfig
from deepgen.config.stage import STAGES, Stage
from deepgen.model import DeepGen
from deepgen.nn.lora import lora_weights

WINDOW_PIXELS = 112
"""Side of the windows in which most blocks of the vision tower attend."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleLengths:
    """Sequence lengths of a sample, in tokens."""

    image: int
    """In the DiT, of target and references together."""
    context: int
    """In the language model and in the DiT's context, think tokens included."""
    patches: tuple[int, ...] = ()
    """In the vision tower, of each reference."""


class SampleCost:
    """Floating-point operations of a sample in a stage, forward and backward.

    Args:
        model: With its adapters.
        stage: What is trained.
    """

    def __init__(self, model: DeepGen, stage: Stage) -> None:
        self.dit = model.dit.config
        self.bridge = model.conditioner.bridge.config
        self.text = model.conditioner.vlm.language_model.config
        self.vision = model.conditioner.vlm.config.vision_config
        self.trained = STAGES[stage]
        adapters = lora_weights(model.conditioner.vlm.language_model)
        # Adapters of the embedding are looked up, not multiplied with; those of the DiT come to
        # less than three hundredths of it and are not counted.
        self.adapters = sum(
            each.numel() for name, each in adapters.items() if "embedding" not in name
        )

    def __call__(self, tokens: SampleLengths) -> float:
        """Operations of a sample in one step."""
        think = min(self.bridge.num_queries, tokens.context)
        language = language_flops(self.text, tokens.context)
        total = language + sum(vision_flops(self.vision, each) for each in tokens.patches)
        if self.adapters:
            total += language + 3 * 2 * self.adapters * tokens.context
        elif self.trained.trains_bridge:
            # Nothing but the think tokens is trained, and prompts do not see them.
            total += language_flops(self.text, tokens.context, known=tokens.context - think)
        # Once for each of: forward, gradients of activations, gradients of weights.
        connector = 3 if self.trained.trains_bridge else 1
        dit = 3 if self.trained.trains_dit else 2
        total += connector_flops(self.bridge, tokens.context) * connector
        return total + dit_flops(self.dit, tokens.image, tokens.context) * dit


def dit_flops(config: DiTConfig, image: int, context: int) -> float:
    """A forward pass of the DiT, with joint attention and, in some blocks, image self-attention."""
    square = config.width**2
    dual = len(config.dual_attention_layers)
    # Four projections and an MLP of twice four; the last block only reads the context.
    image_weights = (12 * config.num_layers + 4 * dual) * square
    context_weights = (12 * (config.num_layers - 1) + 3) * square
    patch = config.patch_size**2
    image_weights += patch * (config.in_channels + config.out_channels) * config.width
    context_weights += config.joint_attention_dim * config.width
    pairs = config.num_layers * (image + context) ** 2 + dual * image**2
    return 2.0 * (image_weights * image + context_weights * context) + 4.0 * config.width * pairs


def connector_flops(config: BridgeConfig, tokens: int) -> float:
    """A forward pass of projectors and connector."""
    width = config.hidden_size
    layer = 4 * width**2 + 2 * width * config.intermediate_size
    weights = config.num_hidden_layers * layer
    weights += width * (config.input_size + config.joint_attention_dim)
    return 2.0 * weights * tokens + 4.0 * width * config.num_hidden_layers * tokens**2


def language_flops(config: Any, tokens: int, *, known: int = 0) -> float:
    """A causal pass of the language model over ``tokens``, or over those after the first ``known``.

    Args:
        config: Its configuration, of the layers that are run.
        tokens: Length of the sequence.
        known: How many have cached keys and values.
    """
    width, heads = config.hidden_size, config.num_attention_heads
    groups = config.num_key_value_heads / heads
    layer = width**2 * (2 + 2 * groups) + 3 * width * config.intermediate_size
    pairs = (tokens**2 - known**2) / 2
    each = 2.0 * layer * (tokens - known) + 4.0 * width * pairs
    return float(config.num_hidden_layers * each)


def vision_flops(config: Any, patches: int) -> float:
    """A pass of the vision tower over one image, and the merger known it."""
    width = config.hidden_size
    layer = 4 * width**2 + 3 * width * config.intermediate_size
    everywhere = len(config.fullatt_block_indexes)
    window = min(patches, (WINDOW_PIXELS // PATCH) ** 2)
    pairs = patches * (everywhere * patches + (config.depth - everywhere) * window)
    merged = width * MERGE**2
    merger = merged**2 + merged * config.out_hidden_size
    each = 2.0 * (config.depth * layer + merger / MERGE**2) * patches + 4.0 * width * pairs
    return float(each)
