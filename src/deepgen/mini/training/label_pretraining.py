"""Label-conditioned pre-training: stage 0 of the mini's DiT, before it is given any text.

The large model's DiT was pre-trained with other text encoders, which the bridge then replaces. The
mini's is conditioned on labels ("fox left red", "background pink"), one context token each, from an
embedding table that is discarded afterwards.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from deepgen.config.model import BridgeConfig
from deepgen.dit.model import DiT
from deepgen.flow.path import interpolate
from deepgen.mini.training.feed import render, to_pixel_batch
from deepgen.mini.training.samples import labels, training_sample
from deepgen.mini.world.knowledge import OBJECTS, TINTS
from deepgen.mini.world.lettering import ALPHABET
from deepgen.mini.world.scene import BACKGROUNDS, MAX_ITEMS, MAX_LETTERS
from deepgen.train.objective import Loss
from deepgen.types import Condition
from deepgen.vae import LatentCodec

PLACES = ("top", "bottom", "left", "right")
FEATURES = ("line", "small", "large")
COLORS = tuple(dict.fromkeys([*BACKGROUNDS, *TINTS]))
LETTER_PLACES = tuple(f"letter-{index}" for index in range(MAX_LETTERS))

VOCABULARY: tuple[str, ...] = (
    "background",
    *PLACES,
    *FEATURES,
    *COLORS,
    *(name.replace(" ", "-") for name in OBJECTS),
    "word",
    *LETTER_PLACES,
    *(f"letter {letter}" for letter in ALPHABET),
)
_NUMBERS = {word: number for number, word in enumerate(VOCABULARY, start=1)}
"""0 is no word."""

TOKENS = 1 + max(MAX_ITEMS, 2 + MAX_LETTERS)
"""Labels of a scene: its background, then items, or one item, a word and its letters."""

WORDS = 5
"""Most words of a label: name, two places, tint, and style or size."""

# Prompts seldom say where things are ("three cats"): then the layout is the DiT's to choose.
PLACES_DROPPED = 0.3
LABELS_DROPPED = 0.1
"""Fraction of text-to-image samples without labels, for classifier-free guidance."""

ENCODE_AT_ONCE = 32
"""Images; more would not fit the caches of a CPU, and a GPU splits its work itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelBatch:
    """Samples with equally many references."""

    targets: UInt8[Tensor, "batch height width 3"]
    references: UInt8[Tensor, "batch references height width 3"]
    words: Int[Tensor, "batch tokens words"]
    """Numbers of the words of each label; 0 where there are fewer."""
    weight: float
    """Weight of every sample in the loss of the step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelBatches:
    """The micro-batches of a step, one for each number of references; picklable.

    Args:
        sizes: Samples per step without references, with one, and with two.
        side: Of the images, in pixels.
    """

    sizes: tuple[int, ...]
    side: int

    def __call__(self, step: int) -> list[LabelBatch]:
        """Render the micro-batches of a step."""
        return [
            self._batch(step, references, size)
            for references, size in enumerate(self.sizes)
            if size
        ]

    def _batch(self, step: int, references: int, size: int) -> LabelBatch:
        numbers = range(step * size, (step + 1) * size)
        own = [training_sample(number, references, side=self.side) for number in numbers]
        words = []
        for number, each in zip(numbers, own, strict=True):
            rng = random.Random(f"labels, {references}, {number}")
            is_dropped = references == 0 and rng.random() < LABELS_DROPPED
            places = references > 0 or rng.random() >= PLACES_DROPPED
            words.append(word_numbers("" if is_dropped else labels(each.target, places=places)))
        sources = [render(each.sources) for each in own] if references else []
        targets = render([each.target for each in own])
        return LabelBatch(
            targets=targets,
            references=torch.stack(sources) if references else targets[:, None][:, :0],
            words=torch.tensor(words),
            weight=1 / sum(self.sizes),
        )


def word_numbers(text: str) -> list[list[int]]:
    """The numbers of the words of each label; each letter of a word is a label of its own."""
    rows: list[list[str]] = []
    for label in text.split("; ") if text else ():
        first, *others = label.split(" ")
        if first != "word":
            rows.append([first, *others])
            continue
        place = [other for other in others if other in PLACES]
        letters = [other for other in others if other not in PLACES]
        rows.append(["word", *place])
        rows += [
            ["word", f"letter-{index}", f"letter {letter}", *place]
            for index, letter in enumerate(letters)
        ]
    numbers = [[_NUMBERS[word] for word in row] for row in rows]
    padded = [[*row, *[0] * (WORDS - len(row))] for row in numbers]
    return [*padded, *[[0] * WORDS] * (TOKENS - len(padded))]


class LabelConditioned(nn.Module):
    """A DiT with an embedding of labels in place of language model and bridge.

    The token of a label is the sum of the embeddings of its words. The first context token is the
    same for all samples, and absent labels are zero, so that all contexts are equally long. The
    pooled vector is a linear map of the tokens' mean.
    """

    def __init__(self, dit: DiT, bridge: BridgeConfig) -> None:
        super().__init__()
        width = bridge.joint_attention_dim
        self.dit = dit
        self.values = nn.Embedding(len(VOCABULARY) + 1, width, padding_idx=0)
        self.start = nn.Parameter(torch.zeros(width))
        self.pooled = nn.Linear(width, bridge.pooled_projection_dim)

    def conditions(self, words: Int[Tensor, "batch tokens words"]) -> list[Condition]:
        """Conditions from the numbers of the words of each label."""
        tokens = self.values(words).sum(dim=2)
        tokens = torch.cat([self.start.expand(len(words), 1, -1), tokens], dim=1)
        pooled = self.pooled(tokens.mean(dim=1))
        return [
            Condition(prompt_embeds=own, pooled_prompt_embeds=each)
            for own, each in zip(tokens, pooled, strict=True)
        ]


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentBatch:
    """A :class:`LabelBatch` whose images are encoded."""

    latents: Float[Tensor, "batch channels height width"]
    references: Float[Tensor, "batch references channels height width"]
    words: Int[Tensor, "batch tokens words"]
    weight: float


class LatentBatches:
    """The micro-batches of a step as latents; each sample is used in several steps.

    Encoding an image takes half as long as training on it, on a CPU. So ``block`` batches are
    encoded once and used ``uses`` times, in another order and with new noise each time.

    Args:
        batches: Micro-batches by number, for example a :class:`LabelBatches` computed ahead.
        codec: Encodes the images; not trained.
        uses: How often each sample is used.
        block: Batches that are used in turns.
        autocast: Type of the encoder's products; None for that of the weights.
    """

    def __init__(
        self,
        batches: Callable[[int], Sequence[LabelBatch]],
        codec: LatentCodec,
        *,
        uses: int = 1,
        block: int = 8,
        autocast: torch.dtype | None = None,
    ) -> None:
        self.batches = batches
        self.codec = codec
        self.uses = uses
        self.block = block
        self.autocast = autocast
        self._encoded: dict[int, list[LatentBatch]] = {}

    def __call__(self, step: int) -> list[LatentBatch]:
        """The micro-batches of a step."""
        block, place = divmod(step, self.block * self.uses)
        use, index = divmod(place, self.block)
        order = list(range(self.block))
        if use:
            random.Random(f"block {block}, use {use}").shuffle(order)
        number = block * self.block + order[index]
        if number not in self._encoded:
            self._encoded = {
                other: own
                for other, own in self._encoded.items()
                if other // self.block == block and self.uses > 1
            }
            self._encoded[number] = [self._encode(each) for each in self.batches(number)]
        return self._encoded[number]

    def _encode(self, batch: LabelBatch) -> LatentBatch:
        count, references = batch.references.shape[:2]
        images = torch.cat([batch.targets, batch.references.flatten(0, 1)])
        device = next(self.codec.parameters()).device
        pixels = to_pixel_batch(images.to(device))
        mixed = torch.autocast(device.type, self.autocast, enabled=self.autocast is not None)
        with torch.no_grad(), mixed:
            encoded = [self.codec.encode(list(some)) for some in pixels.split(ENCODE_AT_ONCE)]
        latents = torch.stack([own for some in encoded for own in some])
        return LatentBatch(
            latents=latents[:count],
            references=latents[count:].unflatten(0, (count, references)),
            words=batch.words.to(device),
            weight=batch.weight,
        )


class LabelObjective:
    """Flow matching (DeepGen paper, section 3.1; see :func:`deepgen.flow.path.interpolate`).

    All noise comes from the generator of the micro-batch.

    Args:
        sigmas: Noise levels to draw from.
        autocast: Type of matrix products; None for that of the weights.
    """

    def __init__(
        self, sigmas: Float[Tensor, " levels"], autocast: torch.dtype | None = None
    ) -> None:
        self.sigmas = sigmas
        self.autocast = autocast

    def __call__(
        self, model: LabelConditioned, batch: LatentBatch, generator: torch.Generator
    ) -> Loss:
        """Mean squared error of the predicted velocities."""
        clean = batch.latents
        levels = torch.randint(len(self.sigmas), (len(clean),), generator=generator)
        sigmas = self.sigmas[levels].to(clean.device)
        noise = torch.randn(clean.shape, generator=generator).to(clean.device)
        noisy, velocity = interpolate(clean, noise, sigmas)
        with torch.autocast(clean.device.type, self.autocast, enabled=self.autocast is not None):
            conditions = model.conditions(batch.words)
            found = model.dit(
                list(noisy), 1000 * sigmas, conditions, [list(own) for own in batch.references]
            )
        mean = (torch.stack(found) - velocity).square().mean()
        total = mean * batch.weight * len(clean)
        kind = ("t2i", "edit", "combine")[batch.references.shape[1]]
        return Loss(
            total=total,
            parts={"loss": total.detach()},
            means={f"loss/{kind}": (mean.detach(), 1)},
            work={"images": float(len(clean))},
        )
