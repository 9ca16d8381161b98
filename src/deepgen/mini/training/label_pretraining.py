"""Label-conditioned pre-training: stage 0 of the mini's DiT, before it is given any text.

The large model's DiT was pre-trained with other text encoders, which the bridge then replaces. The
mini's is conditioned on labels ("left fox", "background pink"), one context token each, from an
embedding table that is discarded afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import nn

from deepgen.conditioning.encoder import Conditioner
from deepgen.config.model import BridgeConfig, Padding
from deepgen.mini.training.dataset import sample_of
from deepgen.mini.training.samples import labels
from deepgen.mini.world.lettering import ALPHABET
from deepgen.mini.world.scene import BACKGROUNDS
from deepgen.mini.world.version0 import OBJECT_NAMES
from deepgen.stages.batches import FlowBatches
from deepgen.train.objective import FlowBatch
from deepgen.types import Condition, Prompt

LONGEST_WORD = 6


class LabelConditioner(Conditioner):
    """Conditions from labels instead of texts.

    The token of a label is the sum of two embeddings, one of its place and one of what is there.
    The first context token is the same for all prompts, and the only one of an empty prompt. The
    pooled vector is a linear map of the tokens' mean.
    """

    def __init__(self, bridge: BridgeConfig) -> None:
        # Skips the base class's: there is no language model and no bridge here.
        nn.Module.__init__(self)
        width = bridge.joint_attention_dim
        spelled = [
            f"{place} {number}" for place in ("written", "below") for number in range(LONGEST_WORD)
        ]
        self._places = _numbered(["one", "left", "right", "above", "background", *spelled])
        self._values = _numbered([*OBJECT_NAMES, *BACKGROUNDS, *ALPHABET])
        self.places = nn.Embedding(len(self._places), width)
        self.values = nn.Embedding(len(self._values), width)
        self.start = nn.Parameter(torch.zeros(width))
        self.pooled = nn.Linear(width, bridge.pooled_projection_dim)

    def clear_cache(self) -> None:
        """There is no cache to clear."""

    def forward(
        self,
        positive: Sequence[Prompt],
        negative: Sequence[Prompt],
        padding: Padding,
        guided: bool,
    ) -> tuple[list[Condition], list[Condition] | None]:
        """Conditions of prompts whose texts are labels; see ``Conditioner.encode``."""
        found = [self._condition(each.text) for each in (*positive, *negative)]
        return found[: len(positive)], found[len(positive) :] if guided else None

    def _condition(self, text: str) -> Condition:
        pairs = list(_label_pairs(text))
        tokens = self.start[None]
        if pairs:
            places = torch.tensor([self._places[place] for place, _ in pairs])
            values = torch.tensor([self._values[value] for _, value in pairs])
            tokens = torch.cat([tokens, self.places(places) + self.values(values)])
        return Condition(
            prompt_embeds=tokens, pooled_prompt_embeds=self.pooled(tokens.mean(dim=0)), padding=0
        )


class LabelBatches:
    """The flow's batches with labels for prompts; images, latents and noise stay the same."""

    def __init__(self, batches: FlowBatches) -> None:
        self.batches = batches

    def __call__(self, step: int) -> list[FlowBatch]:
        """The micro-batches of a step."""
        return [
            replace(
                each,
                prompts=[Prompt(text=labels(sample_of(own.sample).target)) for own in each.keys],
            )
            for each in self.batches(step)
        ]


def _numbered(names: Iterable[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(names)}


def _label_pairs(text: str) -> Iterable[tuple[str, str]]:
    """(place, what is there) of each label; letters have a place each."""
    for label in text.split("; ") if text else ():
        place, *values = label.split(" ")
        if place in ("written", "below"):
            yield from ((f"{place} {number}", value) for number, value in enumerate(values))
        else:
            yield place, values[0]
