"""Object detection: classes, boxes and masks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from deepgen.errors import ScorerError
from deepgen.extras import install_line
from deepgen.reading import read_json
from deepgen.scoring.answers import Answer, AnswerStatus, Unreadable, error_answer
from deepgen.scoring.remote import RemoteModel
from deepgen.scoring.weights import find_weights, loading

CHECKPOINT = "facebook/mask2former-swin-small-coco-instance"
"""The closest model to GenEval's own detector that needs no compiled extension."""

# No protocol counts an object below 0.3; far lower ones only cost memory.
LEAST_CONFIDENCE = 0.05

MOST_OBJECTS = 100
"""Most objects of one image, most confident first: the limit of COCO's evaluation."""

PATTERNS = ("*.json", "*.safetensors")

Mask = Bool[np.ndarray, "height width"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DetectedObject:
    """One object in an image."""

    label: str
    """The detector's name of the class."""
    box: tuple[float, float, float, float]
    """(left, top, right, bottom), in pixels."""
    confidence: float
    mask: Mask | None = None
    """Its pixels, where the detector gives them."""


@runtime_checkable
class Detector(Protocol):
    """Finds objects of fixed classes."""

    @property
    def name(self) -> str:
        """Model and version, which belong to the name of every score."""
        ...

    def find(self, image: Image.Image) -> Answer[list[DetectedObject]]:
        """All objects, most confident first; may be called from many threads."""
        ...


class TransformersDetector:
    """A detector of the transformers library: Mask2Former with masks, others with boxes alone.

    Computes in float32.

    Raises:
        ScorerError: There is none, or it is not a detector.
    """

    def __init__(self, source: str = CHECKPOINT, *, device: str = "cpu") -> None:
        # Imported here because it takes seconds.
        from transformers import AutoConfig, AutoModelForObjectDetection
        from transformers import Mask2FormerForUniversalSegmentation as Mask2Former

        weights = find_weights(source, PATTERNS, wanted="a detector (--detector)")
        try:
            with loading("detector", source, instead=f"a folder or hub id such as {CHECKPOINT}"):
                config = AutoConfig.from_pretrained(weights.folder)
                self._has_masks = config.model_type == "mask2former"
                kind = Mask2Former if self._has_masks else AutoModelForObjectDetection
                model = kind.from_pretrained(
                    weights.folder, use_safetensors=True, dtype=torch.float32
                )
                self._processor: Any = _load_processor(weights.folder)
        except ImportError as error:
            raise ScorerError(
                f"the detector {source} needs another package "
                f"({' '.join(str(error).split())[:200]}); install it with "
                f"{install_line('detector')}"
            ) from None
        self._model: Any = model.to(device).eval()
        self.name = weights.identity
        self._lock = threading.Lock()
        self.labels: Mapping[int, str] = {
            int(index): label for index, label in config.id2label.items()
        }

    def find(self, image: Image.Image) -> Answer[list[DetectedObject]]:
        """All objects of a confidence above 0.05."""
        image = image.convert("RGB")
        try:
            # One at a time: more would only share the same cores.
            with self._lock, torch.inference_mode():
                inputs = self._processor(images=image, return_tensors="pt").to(self._model.device)
                outputs = self._model(**inputs)
                found = self._read(inputs, outputs, image)
        except (RuntimeError, ValueError, IndexError) as error:  # Out of memory is a RuntimeError.
            return error_answer(error, self.name)
        return Answer(status=AnswerStatus.SCORED, value=found, model=self.name)

    def _read(self, inputs: Any, outputs: Any, image: Image.Image) -> list[DetectedObject]:
        if self._has_masks:
            return read_instances(
                outputs.class_queries_logits[0].float(),
                outputs.masks_queries_logits[0].float(),
                self.labels,
                padded=tuple(inputs["pixel_values"].shape[-2:]),
                shown=_shown_size(inputs),
                size=(image.height, image.width),
            )
        (boxes,) = self._processor.post_process_object_detection(
            outputs, threshold=LEAST_CONFIDENCE, target_sizes=[(image.height, image.width)]
        )
        rows = zip(
            boxes["scores"].tolist(), boxes["labels"].tolist(), boxes["boxes"].tolist(), strict=True
        )
        found = [
            DetectedObject(
                label=self.labels[label], box=_within(box, image.size), confidence=confidence
            )
            for confidence, label, box in rows
        ]
        return sorted(found, key=lambda each: -each.confidence)[:MOST_OBJECTS]


def _load_processor(folder: Path) -> Any:
    """The image processor of a model, without torchvision.

    ``AutoImageProcessor`` requires torchvision in some versions of transformers.
    """
    import transformers

    stated = read_json(folder / "preprocessor_config.json")
    # Older folders have its former name.
    named = stated.get("image_processor_type") or stated.get("feature_extractor_type", "nobody")
    name = named.replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast")
    name = name.removesuffix("Pil")
    kind = getattr(transformers, f"{name}Pil", None)
    if kind is None:
        raise ValueError(f"its images are prepared by a {name}, which needs torchvision")
    return kind.from_pretrained(folder)


def read_instances(
    class_logits: Float[Tensor, "queries classes_and_none"],
    mask_logits: Float[Tensor, "queries rows columns"],
    labels: Mapping[int, str],
    *,
    padded: tuple[int, int],
    shown: tuple[int, int],
    size: tuple[int, int],
) -> list[DetectedObject]:
    """Objects from the queries of a Mask2Former (arXiv 2112.01527), as in its COCO evaluation.

    A query's confidence in a class is its softmax times the mean foreground probability inside its
    mask; a query may stand for several classes, and masks may overlap.

    Args:
        class_logits: The last class means no object.
        padded: Height and width of the model's input.
        shown: Height and width of the image in it, from the top left.
        size: Height and width of the image itself.
    """
    likely = class_logits.softmax(dim=-1)[:, :-1]
    best = likely.flatten().topk(min(MOST_OBJECTS, likely.numel()))
    found = []
    masks: dict[int, tuple[Mask, float]] = {}
    for confidence, index in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        query, label = divmod(index, likely.shape[1])
        if confidence <= LEAST_CONFIDENCE:
            continue
        if query not in masks:
            masks[query] = _mask(mask_logits[query], padded, shown, size)
        mask, sureness = masks[query]
        if mask.any() and confidence * sureness > LEAST_CONFIDENCE:
            found.append(
                DetectedObject(
                    label=labels[label],
                    box=_box(mask),
                    confidence=confidence * sureness,
                    mask=mask,
                )
            )
    return sorted(found, key=lambda each: -each.confidence)


def _mask(
    logits: Float[Tensor, "rows columns"],
    padded: tuple[int, int],
    shown: tuple[int, int],
    size: tuple[int, int],
) -> tuple[Mask, float]:
    """A query's pixels, and the mean probability in them."""
    large = interpolate(logits[None, None], size=padded, mode="bilinear", align_corners=False)
    cut = large[:, :, : shown[0], : shown[1]]
    full = interpolate(cut, size=size, mode="bilinear", align_corners=False)[0, 0]
    mask = full > 0
    sureness = float(full.sigmoid()[mask].mean()) if mask.any() else 0.0
    return mask.cpu().numpy(), sureness


def _box(mask: Mask) -> tuple[float, float, float, float]:
    """Right and bottom are exclusive."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _shown_size(inputs: Any) -> tuple[int, int]:
    """Height and width of the image in the model's input; the rest is padding."""
    if "pixel_mask" not in inputs:
        height, width = inputs["pixel_values"].shape[-2:]
        return int(height), int(width)
    valid = inputs["pixel_mask"][0].bool()
    return int(valid.any(dim=1).sum()), int(valid.any(dim=0).sum())


def _within(box: Sequence[float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """A box clipped to the image."""
    left, top, right, bottom = box
    width, height = size
    return max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))


class RemoteDetector(RemoteModel):
    """A detector behind a worker, such as the official one in its old environment.

    A value is a list of objects ``{"label", "box": [left, top, right, bottom], "confidence"}``,
    optionally with a ``mask``: run lengths of pixels, row by row, beginning outside.
    """

    def find(self, image: Image.Image) -> Answer[list[DetectedObject]]:
        """Its objects, most confident first."""
        return self.score_image(image, reader_of(image.size))[0]


def reader_of(size: tuple[int, int]) -> Callable[[Any], list[DetectedObject] | Unreadable]:
    """A parser of a worker's objects for an image of a size (width, height)."""

    def read(value: Any) -> list[DetectedObject] | Unreadable:
        if not isinstance(value, list):
            return Unreadable(f"{str(value)[:60]} is not a list of objects")
        try:
            found = [_object(row, size) for row in value]
        except (KeyError, TypeError, ValueError) as error:
            return Unreadable(f"no object with label, box and confidence ({error!r})"[:200])
        return sorted(found, key=lambda each: -each.confidence)

    return read


def _object(row: Mapping[str, Any], size: tuple[int, int]) -> DetectedObject:
    left, top, right, bottom = (float(edge) for edge in row["box"])
    confidence, label = float(row["confidence"]), row["label"]
    if not isinstance(label, str) or not 0 <= confidence <= 1:
        raise ValueError("a label is a text and a confidence is from 0 to 1")
    if not (left <= right and top <= bottom):
        raise ValueError("a box is left, top, right, bottom")
    mask = None if row.get("mask") is None else mask_of_runs(row["mask"], size)
    return DetectedObject(
        label=label, box=(left, top, right, bottom), confidence=confidence, mask=mask
    )


def mask_of_runs(runs: Sequence[int], size: tuple[int, int]) -> Mask:
    """A mask of a size (width, height) from alternating runs of pixels outside and inside.

    Raises:
        ValueError: They do not sum to the image.
    """
    width, height = size
    inside = np.arange(len(runs)) % 2 == 1
    flat = np.repeat(inside, np.asarray(runs, dtype=np.int64)) if len(runs) else inside
    if flat.size != width * height:
        raise ValueError(f"a mask has {flat.size} pixels, the image {width * height}")
    mask: Mask = flat.reshape(height, width)
    return mask
