"""What the mini learns from: rendered samples of its world, and their cached latents."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from deepgen.images import to_pixels
from deepgen.mini.drawing import draw
from deepgen.mini.version0 import OBJECT_NAMES, sample
from deepgen.train.draws import Visit
from deepgen.train.objective import FlowBatch, Pictures
from deepgen.types import Prompt

CAPTION_DROP = 0.1
"""Share of texts replaced by the empty one, so that guidance has something to move away from."""

EDIT_SHARE = 0.4
"""Of a batch; edits are learned more slowly than drawings."""

ENCODE_BATCH = 64


def autoencoder_batch(step: int, size: int) -> Pictures:
    """Pictures of the samples ``step * size`` and on, targets of edits included."""
    first = step * size
    scenes = [sample(first + index, "autoencoder").target for index in range(size)]
    return torch.stack([to_pixels(draw(each)) for each in scenes]).contiguous(
        memory_format=torch.channels_last
    )


@dataclass(frozen=True, kw_only=True)
class LatentCache:
    """Training samples, encoded once.

    Latents are float16 and already have zero mean and unit variance; ``shift`` and ``scale`` are
    what the autoencoder's configuration must say for that.
    """

    texts: list[str]
    targets: Float[Tensor, "samples channels height width"]
    edits: Int[Tensor, " edits"]
    """Indices of the samples that are edits."""
    sources: Float[Tensor, "edits channels height width"]
    source_pixels: UInt8[Tensor, "edits 3 pixel_height pixel_width"]
    shift: float
    scale: float

    @classmethod
    def build(cls, autoencoder: AutoencoderKL, count: int) -> LatentCache:
        """Render and encode the first ``count`` training samples."""
        samples = [sample(index) for index in range(count)]
        edits = [index for index, each in enumerate(samples) if each.source is not None]
        sources = [draw(each.source) for each in samples if each.source is not None]
        targets = _encode(autoencoder, [draw(each.target) for each in samples])
        shift, scale = targets.mean().item(), 1 / targets.std().item()
        return cls(
            texts=[each.text for each in samples],
            targets=((targets - shift) * scale).half(),
            edits=torch.tensor(edits),
            sources=((_encode(autoencoder, sources) - shift) * scale).half(),
            source_pixels=torch.stack(
                [((to_pixels(each) + 1) * 127.5).round().to(torch.uint8) for each in sources]
            ),
            shift=shift,
            scale=scale,
        )

    def save(self, path: Path) -> None:
        """Write all of it; the file appears whole or not at all."""
        aside = path.with_suffix(".tmp")
        torch.save({name: getattr(self, name) for name in self.__dataclass_fields__}, aside)
        aside.replace(path)

    @classmethod
    def load(cls, path: Path) -> LatentCache:
        """Read what :meth:`save` wrote."""
        return cls(**torch.load(path, weights_only=True))

    def batch(self, step: int, size: int) -> FlowBatch:
        """Drawings, then edits, chosen by the step alone."""
        rng = torch.Generator().manual_seed(1_000_000 + step)
        is_drawing = torch.ones(len(self.texts), dtype=torch.bool)
        is_drawing[self.edits] = False
        drawings = is_drawing.nonzero()[:, 0]
        edit_count = round(EDIT_SHARE * size)
        drawn = drawings[torch.randint(len(drawings), (size - edit_count,), generator=rng)]
        chosen = torch.randint(len(self.edits), (edit_count,), generator=rng)
        dropped = (torch.rand(size, generator=rng) < CAPTION_DROP).tolist()
        indices = torch.cat([drawn, self.edits[chosen]])
        pixels: Sequence[Tensor] = list(self.source_pixels[chosen].float() / 127.5 - 1)
        references: list[tuple[Tensor, ...]] = [()] * len(drawn) + [(each,) for each in pixels]
        latents = list(self.sources[chosen].float())
        return FlowBatch(
            latents=list(self.targets[indices].float()),
            prompts=[
                Prompt(text="" if drop else self.texts[index], references=own)
                for index, own, drop in zip(indices.tolist(), references, dropped, strict=True)
            ],
            reference_latents=[[]] * len(drawn) + [[each] for each in latents],
            # By its place in the run: a batch may have a sample twice, with noise of its own.
            visits=[Visit(sample=str(step * size + place)) for place in range(size)],
            weights=torch.full((size,), 1 / size),
        )


@torch.inference_mode()
def _encode(autoencoder: AutoencoderKL, pictures: Sequence[Image.Image]) -> Tensor:
    parts = []
    for first in range(0, len(pictures), ENCODE_BATCH):
        batch = torch.stack([to_pixels(each) for each in pictures[first : first + ENCODE_BATCH]])
        parts.append(autoencoder.encode(batch).latent_dist.mean)
    return torch.cat(parts)


def vocabulary_texts(count: int) -> list[str]:
    """Everything the tokenizer will meet between special tokens, for ``count`` samples."""
    texts = ["user\n", "assistant\n"]
    for index in range(count):
        text = sample(index).text
        texts += [f"Generate an image: {text}", f"\n{text}"]
    # Names alone, too: a byte pair that only ever follows a space cannot begin a sentence.
    random.Random(0).shuffle(texts)
    return [*texts, *OBJECT_NAMES]
