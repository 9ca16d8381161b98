"""CVTG-2K's words, read back by an OCR engine, and how well an image fits its prompt, by CLIP."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from deepgen.eval.benchmark import ImageRecord
from deepgen.eval.benchmarks.cvtg.benchmark import read_words
from deepgen.eval.judged.judging import failed, status_of
from deepgen.eval.scorer import Drawing
from deepgen.scoring.answers import Status
from deepgen.scoring.clip import Clip
from deepgen.scoring.ocr import TextReader


class CvtgScorer:
    """Reads one image at a time, whoever asks.

    Args:
        reader: The engine, by which results are named.
        clip: None leaves CLIPScore out.
        identity: Names of both.
    """

    concurrency = 1

    def __init__(self, reader: TextReader, clip: Clip | None, identity: Mapping[str, str]) -> None:
        self.reader = reader
        self.clip = clip
        self.identity = identity
        self._lock = threading.Lock()

    def check(self) -> None:
        """Everything was loaded or reached when the scorer was opened."""

    def __call__(self, drawing: Drawing) -> ImageRecord:
        """Read the words of one image."""
        with self._lock:
            answer = self.reader.read(drawing.image)
            if answer.status is not Status.SCORED:
                return failed(drawing, status_of(answer), f"{self.reader.name}: {answer.reason}")
            lines = answer.value or []
            values = dict(read_words(drawing.item.fields["words"], lines))
            try:
                if self.clip is not None:
                    (score,) = self.clip.score([drawing.image], [drawing.item.prompt])
                    values["clip_score"] = score
            except RuntimeError as error:  # Out of memory is one.
                return failed(drawing, "error", f"CLIP: {error}")
        return ImageRecord(
            item=drawing.item.id,
            copy=drawing.copy,
            values={**values, "lines": lines},
            reason=f"read: {' / '.join(lines)}" if lines else "read: nothing",
        )
