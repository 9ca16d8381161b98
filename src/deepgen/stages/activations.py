"""An estimate of activation memory, to see whether a GPU is large enough.

The tensors that each kind of layer keeps for the backward pass are counted by hand, in multiples of
its width, per token. Fragmentation and workspaces are not included, so it may be off by a third.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from deepgen.config.stage import STAGES, StageConfig
from deepgen.data.dataset import BucketKey
from deepgen.data.records import Task
from deepgen.model import DeepGen
from deepgen.train.monitor.flops import SampleLengths

BLOCK_TRAINED, BLOCK_FROZEN = 20, 14
"""Values stored per token by a block of the DiT, in widths: two norms and their modulations,
queries, keys, values, the output of attention, input and output of the MLP's activation, each four
widths; inputs of linear layers only where these are trained."""

SECOND_TRAINED, SECOND_FROZEN = 8, 7
"""The same for a block's second attention, for image tokens."""

MLP_TENSORS = 3
"""Tensors stored by a layer of the language model: its MLP's gate, activated gate and up projection
dominate."""

ADAPTED = 2
"""Adapters keep their input before and after dropout: about as much again."""

DIT_PIXELS, VLM_PIXELS = 16**2, 32**2
"""Pixels of a token."""

PROMPT_TOKENS = 150
"""Tokens of a caption of about a hundred words in the prompt template."""


def largest_sample(
    model: DeepGen, sizes: Iterable[BucketKey], tasks: Collection[Task]
) -> SampleLengths:
    """Lengths of the longest sample."""
    think = model.conditioner.bridge.config.num_queries
    found: list[SampleLengths] = []
    for target, references in sizes:
        if ("edit" if references else "t2i") not in tasks:
            continue
        seen = sum(height * width for height, width in references)
        image = (target[0] * target[1] + seen) // DIT_PIXELS
        found.append(SampleLengths(image=image, context=PROMPT_TOKENS + think + seen // VLM_PIXELS))
    return max(found, key=lambda each: each.image + each.context)


def activation_bytes(
    model: DeepGen, config: StageConfig, tokens: SampleLengths, *, bytes_each: int
) -> int:
    """Bytes of the activations of one sample.

    Args:
        bytes_each: Of a value in the precision of matrix products.
    """
    return bytes_each * (
        _of_dit(model, config, tokens)
        + _of_language_model(model, config, tokens)
        + _of_connector(model, config, tokens)
    )


def _of_dit(model: DeepGen, config: StageConfig, tokens: SampleLengths) -> int:
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


def _of_language_model(model: DeepGen, config: StageConfig, tokens: SampleLengths) -> int:
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


def _of_connector(model: DeepGen, config: StageConfig, tokens: SampleLengths) -> int:
    if not STAGES[config.stage].trains_bridge:
        return 0
    sizes = model.conditioner.bridge.config
    inputs = sizes.hidden_size * tokens.context
    whole = BLOCK_TRAINED * inputs * sizes.num_hidden_layers
    return _kept(config, whole, inputs, sizes.num_hidden_layers)


def _kept(config: StageConfig, whole: int, inputs: int, layers: int) -> int:
    """Values kept by all layers; with recomputation, by their inputs and one layer at a time."""
    return inputs * layers + whole // layers if config.compute.checkpoint_activations else whole
