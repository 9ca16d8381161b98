"""How well an image fits a text: CLIPScore, and the cosine itself, which suits a reward."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from deepgen.errors import ScorerError
from deepgen.reading import read_json
from deepgen.scoring.answers import Answer, AnswerStatus, error_answer
from deepgen.scoring.scorer import ScorerInput
from deepgen.scoring.weights import find_weights, loading

CHECKPOINT = "openai/clip-vit-large-patch14"
"""What CLIPScore was defined with, and what CVTG-2K uses."""

PATTERNS = ("*.json", "merges.txt", "model*.safetensors")
"""Files needed from the hub."""

DEPICTS = "A photo depicts"
"""Prefix of every text of CLIPScore."""

WEIGHT = 2.5
"""Scales CLIPScore, whose cosines rarely exceed 0.4, to about the range from 0 to 1."""

Embeddings = Float[Tensor, "rows channels"]
"""One unit vector a row, so that products of rows are cosines."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocessing:
    """Image preprocessing of a checkpoint."""

    side: int
    """The shorter side is resized to it, then a square of it is cropped from the center."""
    mean: tuple[float, ...]
    """Mean of each channel of pixels in [0, 1]."""
    std: tuple[float, ...]

    @classmethod
    def from_folder(cls, folder: Path) -> Preprocessing:
        """Read ``preprocessor_config.json``, where sizes are numbers or mappings."""
        stated = read_json(folder / "preprocessor_config.json")
        size, crop = stated["size"], stated["crop_size"]
        side = size["shortest_edge"] if isinstance(size, dict) else size
        crops = {crop["height"], crop["width"]} if isinstance(crop, dict) else {crop}
        if crops != {side}:
            raise ScorerError(
                f"{folder} crops {sorted(crops)} pixels from images resized to {side}; expected a "
                "CLIP that uses the whole shorter side"
            )
        return cls(side=side, mean=tuple(stated["image_mean"]), std=tuple(stated["image_std"]))

    def __call__(self, image: Image.Image) -> Float[Tensor, "3 side side"]:
        """Resize with bicubic filtering, crop the central square, normalise."""
        image = image.convert("RGB")
        shorter = min(image.size)
        # The original truncates the longer side.
        width, height = (int(self.side * length / shorter) for length in image.size)
        resized = image.resize((width, height), Image.Resampling.BICUBIC)
        left, top = round((width - self.side) / 2), round((height - self.side) / 2)
        square = resized.crop((left, top, left + self.side, top + self.side))
        pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1).float() / 255
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        return (pixels - mean[:, None, None]) / std[:, None, None]


class Clip:
    """Image and text embeddings of a transformers ``CLIPModel`` (arXiv 2103.00020)."""

    def __init__(self, model: Any, tokenizer: Any, preprocessing: Preprocessing) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.preprocessing = preprocessing

    @torch.inference_mode()
    def embed_images(self, images: Sequence[Image.Image]) -> Embeddings:
        """Unit vectors of images, computed in one batch."""
        pixels = torch.stack([self.preprocessing(image) for image in images])
        pooled = self.model.vision_model(pixel_values=pixels.to(self.model.device)).pooler_output
        return normalize(self.model.visual_projection(pooled).float(), dim=-1)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        """Unit vectors of texts, each truncated to the model's context, usually 77 tokens."""
        tokens = self.tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self.model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        ).to(self.model.device)
        pooled = self.model.text_model(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        ).pooler_output
        return normalize(self.model.text_projection(pooled).float(), dim=-1)

    def score(self, images: Sequence[Image.Image], texts: Sequence[str]) -> list[float]:
        """CLIPScore of each image with its text.

        The words "A photo depicts" are put before each text, as Hessel et al.
        (arXiv 2104.08718) define it.

        Raises:
            ValueError: There are not as many texts as images.
        """
        if len(images) != len(texts):
            raise ValueError(f"{len(images)} images and {len(texts)} texts, expected as many")
        image_embeds = self.embed_images(images)
        text_embeds = self.embed_texts([f"{DEPICTS} {text}" for text in texts])
        scores: list[float] = clip_scores(image_embeds, text_embeds).tolist()
        return scores


def clip_scores(images: Embeddings, texts: Embeddings) -> Float[Tensor, " rows"]:
    """``2.5 max(cos, 0)``, row by row."""
    return WEIGHT * (images * texts).sum(dim=-1).clamp(min=0)


class ClipScorer:
    """CLIPScore of images with their prompts, from 0 to 2.5."""

    name = "clip"
    bounds = (0.0, WEIGHT)

    def __init__(self, clip: Clip, identity: Mapping[str, str]) -> None:
        self.clip = clip
        self.identity = identity
        self._lock = threading.Lock()

    def score(self, inputs: Sequence[ScorerInput]) -> list[Answer[float]]:
        """All inputs in one batch; where that fails, such as for memory, none of it is scored."""
        try:
            with self._lock:
                values = self.clip.score(
                    [each.image for each in inputs], [each.prompt for each in inputs]
                )
        except RuntimeError as error:  # Out of memory is one.
            return [error_answer(error, self.name) for _ in inputs]
        return [
            Answer(status=AnswerStatus.SCORED, value=value, model=self.name) for value in values
        ]


class ClipSimilarity:
    """Cosine of the embeddings of images and their prompts, nothing put before the prompts.

    Prompts are truncated to the model's context. The images of a group have embeddings anyway, so
    it also measures how different they are.

    Args:
        is_general: Whether the model knows photos and texts of all kinds, as OpenAI's does;
            decides what :meth:`check` asks it.
    """

    name = "clip_similarity"
    bounds = (-1.0, 1.0)

    def __init__(
        self, clip: Clip, identity: Mapping[str, str], *, is_general: bool = False
    ) -> None:
        self.clip = clip
        self.identity = identity
        self._is_general = is_general
        self._lock = threading.Lock()
        self._diversity: list[float] = []

    def score(self, inputs: Sequence[ScorerInput]) -> list[Answer[float]]:
        """All inputs in one batch; where that fails, such as for memory, none of it is scored."""
        prompts = list(dict.fromkeys(each.prompt for each in inputs))
        rows = [prompts.index(each.prompt) for each in inputs]
        try:
            with self._lock:
                images = self.clip.embed_images([each.image for each in inputs])
                texts = self.clip.embed_texts(prompts)[rows]
        except RuntimeError as error:  # Out of memory is one.
            return [error_answer(error, self.name) for _ in inputs]
        if len(prompts) == 1 and len(inputs) > 1:
            self._diversity.append(diversity(images))
        values = (images * texts).sum(dim=-1).tolist()
        return [
            Answer(status=AnswerStatus.SCORED, value=value, model=self.name) for value in values
        ]

    def check(self) -> None:
        """Compare plain images: different ones differ, and a general model knows their colours.

        Raises:
            ScorerError: They do not, or it does not.
        """
        blue, yellow = (Image.new("RGB", (64, 64), color) for color in ("blue", "yellow"))
        asked = [
            ScorerInput(image=image, prompt=f"a plain {color} image")
            for color in ("blue", "yellow")
            for image in (blue, yellow)
        ]
        values = [answer.value for answer in self.score(asked)]
        same, swapped = (values[0], values[3]), (values[1], values[2])
        if None in values or values[0] == values[1]:
            raise ScorerError(
                f"the CLIP gives plain blue and plain yellow the values {values[:2]} for one text, "
                "expected two different ones; use other weights"
            )
        if self._is_general and not sum(same) > sum(swapped):  # type: ignore[arg-type]
            raise ScorerError(
                "the CLIP takes plain blue for yellow or the other way round; use other weights"
            )

    def take_metrics(self) -> dict[str, float]:
        """The mean diversity of the groups since the last call."""
        with self._lock:
            found, self._diversity = self._diversity, []
        return {"diversity": sum(found) / len(found)} if found else {}


def diversity(images: Embeddings) -> float:
    """How different images are: 1 minus the mean cosine of two of them."""
    count = len(images)
    total = (images @ images.T).sum().item() - images.square().sum().item()
    return 1 - total / (count * (count - 1))


def create_scorer(*, weights: str = CHECKPOINT, device: str = "cpu") -> ClipScorer:
    """CLIPScore with the weights of a folder or hub id.

    Raises:
        ScorerError: There is no CLIP.
    """
    found = find_weights(weights, PATTERNS, wanted="a CLIP")
    return ClipScorer(load_clip(found.folder, device=device), {"clip": found.identity})


def load_clip(folder: Path, *, device: str = "cpu") -> Clip:
    """Load a CLIP from a folder, in float32; safetensors only.

    Raises:
        ScorerError: It is not a CLIP.
    """
    # Imported here because it takes seconds.
    from transformers import CLIPModel, CLIPTokenizer

    with loading("CLIP", folder, instead=f"a folder with the files of {CHECKPOINT}"):
        model = CLIPModel.from_pretrained(folder, use_safetensors=True, dtype=torch.float32)
        tokenizer = CLIPTokenizer.from_pretrained(folder)
        preprocessing = Preprocessing.from_folder(folder)
    return Clip(model.to(device), tokenizer, preprocessing)
