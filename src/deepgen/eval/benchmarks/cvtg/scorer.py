"""CVTG-2K's words, read back by an OCR engine, and how well an image fits its prompt, by CLIP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from deepgen.eval.benchmark import ImageRecord
from deepgen.eval.judged.judging import failed, status_of
from deepgen.eval.scorer import Drawing
from deepgen.scoring.clip import Clip, ClipScorer
from deepgen.scoring.ocr import TextReader, WordAccuracy
from deepgen.scoring.scorer import ScorerInput, score_images


class CvtgScorer:
    """Reads one image at a time, whoever asks.

    Args:
        reader: The engine, by which results are named.
        clip: None leaves CLIPScore out.
        identity: Names of both.
    """

    concurrency = 1

    def __init__(self, reader: TextReader, clip: Clip | None, identity: Mapping[str, str]) -> None:
        self.words = WordAccuracy(reader)
        self.clip = None if clip is None else ClipScorer(clip, identity)
        self.identity = identity

    def check(self) -> None:
        """Everything was loaded or reached when the scorer was opened."""

    def __call__(self, drawing: Drawing) -> ImageRecord:
        """Read the words of one image."""
        given = ScorerInput(
            image=drawing.image,
            prompt=drawing.item.prompt,
            target_texts=tuple(drawing.item.fields["words"]),
        )
        measured = self.words.measure(given)
        if measured.value is None:
            return failed(drawing, status_of(measured), f"{measured.model}: {measured.reason}")
        values = asdict(measured.value)
        lines = values.pop("lines")
        if self.clip is not None:
            (fit,) = score_images(self.clip, [given])
            if fit.value is None:
                return failed(drawing, status_of(fit), f"CLIP: {fit.reason}")
            values["clip_score"] = fit.value
        return ImageRecord(
            item=drawing.item.id,
            copy=drawing.copy,
            values={**values, "lines": lines},
            reason=f"read: {' / '.join(lines)}" if lines else "read: nothing",
        )
