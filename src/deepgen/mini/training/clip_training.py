"""A small CLIP of the mini's world (arXiv 2103.00020), for the reward ``clip`` of its last stage.

Images and prompts of training samples, contrasted within a batch. Captions of the same content
("two cats" on another layout) are no negatives of each other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from deepgen.checkpoint.writing import atomic_folder
from deepgen.mini.training.feed import render, to_pixel_batch
from deepgen.mini.training.samples import SIDE, labels, training_sample
from deepgen.train.objective import Loss

MARKER = "preprocessor_config.json"
"""The last file of a CLIP's folder to be written."""

CONTEXT = 48
"""Tokens of a text at most; prompts of the world have up to 32."""

NOISE = 0.2
"""Most deviation of the noise on images, which range from -1 to 1: generated ones are less clean
than renderings."""

_ENDS = ("<|startoftext|>", "<|endoftext|>")

_LAYERS = {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipBatch:
    """Images and their prompts."""

    images: UInt8[Tensor, "batch height width 3"]
    texts: Sequence[str]
    contents: Sequence[str]
    """What each image shows, places aside."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipBatches:
    """The one micro-batch of a step, by the step's number; picklable."""

    batch_size: int

    def __call__(self, step: int) -> list[ClipBatch]:
        """Render the samples of a step."""
        first = step * self.batch_size
        own = [training_sample(first + each, 0, split="clip") for each in range(self.batch_size)]
        return [
            ClipBatch(
                images=render([each.target for each in own]),
                texts=[each.text for each in own],
                contents=[labels(each.target, places=False) for each in own],
            )
        ]


def train_clip_tokenizer(texts: Iterable[str], *, vocabulary: int) -> CLIPTokenizer:
    """Learn CLIP's byte-level BPE of at most ``vocabulary`` entries."""
    letters = sorted(ByteLevel.alphabet())
    names = [*letters, *(f"{each}</w>" for each in letters)]
    merges: list[tuple[str, str]] = []
    untrained = CLIPTokenizer(vocab=_numbered([*names, *_ENDS]), merges=merges)
    trained = untrained.train_new_from_iterator(
        iter(texts), vocab_size=vocabulary - len(letters), show_progress=False
    )
    # The trainer leaves out letters that it did not see at the end of a word.
    found = json.loads(trained.backend_tokenizer.to_str())["model"]["merges"]
    merges = [(first, second) for first, second in found]
    names += dict.fromkeys(first + second for first, second in merges)
    return CLIPTokenizer(vocab=_numbered([*names, *_ENDS]), merges=merges)


def _numbered(names: Sequence[str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(names)}


def new_clip(tokenizer: CLIPTokenizer, seed: int) -> CLIPModel:
    """An untrained CLIP of two million parameters."""
    torch.manual_seed(seed)
    text: dict[str, Any] = {
        **_LAYERS,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": CONTEXT,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {**_LAYERS, "image_size": SIDE, "patch_size": 12}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=64))


class ClipObjective:
    """Symmetric cross-entropy of a batch's cosines.

    Args:
        tokenizer: Of the texts.
        autocast: Type of matrix products; None for that of the weights.
    """

    def __init__(self, tokenizer: CLIPTokenizer, autocast: torch.dtype | None = None) -> None:
        self.tokenizer = tokenizer
        self.autocast = autocast

    def __call__(self, model: CLIPModel, batch: ClipBatch, generator: torch.Generator) -> Loss:
        """Mean loss, and how often an image's own text is the nearest in the batch."""
        device = model.logit_scale.device
        pixels = to_pixel_batch(batch.images)
        deviations = NOISE * torch.rand(len(pixels), 1, 1, 1, generator=generator)
        noise = torch.randn(pixels.shape, generator=generator)
        tokens = self.tokenizer(
            list(batch.texts),
            padding=True,
            truncation=True,
            max_length=CONTEXT,
            return_tensors="pt",
        ).to(device)
        with torch.autocast(device.type, self.autocast, enabled=self.autocast is not None):
            seen = model.vision_model(pixel_values=(pixels + deviations * noise).to(device))
            read = model.text_model(
                input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
            )
            images = model.visual_projection(seen.pooler_output)
            texts = model.text_projection(read.pooler_output)
        cosines = F.normalize(images.float(), dim=-1) @ F.normalize(texts.float(), dim=-1).T
        logits = model.logit_scale.exp() * cosines
        numbers = {content: place for place, content in enumerate(dict.fromkeys(batch.contents))}
        contents = torch.tensor([numbers[each] for each in batch.contents], device=device)
        same = contents[:, None] == contents[None, :]
        own = torch.arange(len(contents), device=device)
        logits = logits.masked_fill(same & (own[:, None] != own), -torch.inf)
        total = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
        right = (logits.argmax(dim=1) == own).float().mean()
        return Loss(total=total, parts={"loss": total.detach(), "accuracy": right})


def save_clip(model: CLIPModel, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write the files of a CLIP, as transformers and the reward ``clip`` read them."""
    stated = {
        "size": {"shortest_edge": SIDE},
        "crop_size": {"height": SIDE, "width": SIDE},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    with atomic_folder(folder, overwrite=True, marker=MARKER) as part:
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
        (part / MARKER).write_text(json.dumps(stated), encoding="utf-8")
