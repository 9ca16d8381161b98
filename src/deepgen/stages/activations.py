"""What a forward pass keeps for its backward pass: an estimate, to see whether a card will do.

Counted by hand are the tensors of each kind of layer, in widths of the layer, per token. What
allocators waste and kernels borrow is not in it, so it may be off by a third.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from deepgen.config.stage import STAGES, StageConfig
from deepgen.data.dataset import BucketKey
from deepgen.data.records import Task
from deepgen.model import DeepGen
from deepgen.train.monitor.flops import Tokens

BLOCK_TRAINED, BLOCK_FROZEN = 20, 14
"""Of a block of the DiT: two norms and what modulates them, queries, keys, values, what was seen,
both ends of the MLP's activation, each four widths; inputs of layers only where these learn."""

SECOND_TRAINED, SECOND_FROZEN = 8, 7
"""Of a block's second attention, for image tokens."""

MLP_TENSORS = 3
"""Of a layer of the language model nothing is as wide as its MLP's gate, activated gate and the
other factor."""

ADAPTED = 2
"""Adapters keep what they read, and what dropout left of it: about as much again."""

DIT_PIXELS, VLM_PIXELS = 16**2, 32**2
"""Of a token."""

PROMPT_TOKENS = 150
"""Of a caption of about a hundred words, and what is written around it."""


def largest_sample(model: DeepGen, sizes: Iterable[BucketKey], tasks: Collection[Task]) -> Tokens:
    """Lengths of the longest sample.

    Args:
        model: The model.
        sizes: Those of targets and references that there are.
        tasks: What is trained.
    """
    think = model.conditioner.bridge.config.num_queries
    found: list[Tokens] = []
    for target, references in sizes:
        if ("edit" if references else "t2i") not in tasks:
            continue
        seen = sum(height * width for height, width in references)
        image = (target[0] * target[1] + seen) // DIT_PIXELS
        found.append(Tokens(image=image, context=PROMPT_TOKENS + think + seen // VLM_PIXELS))
    return max(found, key=lambda each: each.image + each.context)


def activation_bytes(
    model: DeepGen, config: StageConfig, tokens: Tokens, *, bytes_each: int
) -> int:
    """Bytes of the activations of one sample.

    Args:
        model: Ready for training.
        config: The stage.
        tokens: Lengths of the sample.
        bytes_each: Of a number that products are computed in.
    """
    return bytes_each * (
        _of_dit(model, config, tokens)
        + _of_language_model(model, config, tokens)
        + _of_connector(model, config, tokens)
    )


def _of_dit(model: DeepGen, config: StageConfig, tokens: Tokens) -> int:
    sizes = model.dit.config
    learns = STAGES[config.stage].trains_dit
    every = (BLOCK_TRAINED if learns else BLOCK_FROZEN) * (tokens.image + tokens.context)
    second = (SECOND_TRAINED if learns else SECOND_FROZEN) * tokens.image
    return _kept(
        config,
        sizes.width * every * sizes.num_layers
        + sizes.width * second * len(sizes.dual_attention_layers),
        sizes.width * (tokens.image + tokens.context),
        sizes.num_layers,
    )


def _of_language_model(model: DeepGen, config: StageConfig, tokens: Tokens) -> int:
    language = model.conditioner.vlm.language_model
    layer: int = MLP_TENSORS * language.config.intermediate_size
    layers: int = language.config.num_hidden_layers
    if any(value.requires_grad for value in language.parameters()):
        whole = ADAPTED * layer * layers * tokens.context
        return _kept(config, whole, language.config.hidden_size * tokens.context, layers)
    if not STAGES[config.stage].trains_bridge:
        return 0
    think = model.conditioner.bridge.config.num_queries
    return layer * layers * (tokens.context if config.compute.prompt_gradients else think)


def _of_connector(model: DeepGen, config: StageConfig, tokens: Tokens) -> int:
    if not STAGES[config.stage].trains_bridge:
        return 0
    sizes = model.conditioner.bridge.config
    inputs = sizes.hidden_size * tokens.context
    whole = BLOCK_TRAINED * inputs * sizes.num_hidden_layers
    return _kept(config, whole, inputs, sizes.num_hidden_layers)


def _kept(config: StageConfig, whole: int, inputs: int, layers: int) -> int:
    """Numbers of all layers; if they are computed again, of their inputs and of one at work."""
    return inputs * layers + whole // layers if config.compute.checkpoint_activations else whole
