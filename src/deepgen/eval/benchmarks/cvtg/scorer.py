"""CVTG-2K's words, read back by an OCR engine, and how well an image fits its prompt, by CLIP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from deepgen.errors import ScorerError
from deepgen.eval.benchmark import Benchmark, ImageRecord
from deepgen.eval.models import NO_CLIP, find_clip, find_worker
from deepgen.eval.scorer import (
    GeneratedImage,
    ImageScorer,
    ScoringOptions,
    library_versions,
    require_one,
    status_of,
)
from deepgen.scoring.clip import Clip, ClipScorer
from deepgen.scoring.ocr import RapidOcrReader, TextReader, WordAccuracy
from deepgen.scoring.remote import RemoteTextReader
from deepgen.scoring.scorer import ScorerInput, score_images

RAPIDOCR = "rapidocr"


def create_scorer(benchmark: Benchmark, options: ScoringOptions) -> ImageScorer:
    """A worker or rapidocr, and CLIP unless the user leaves it out."""
    require_one(benchmark, options, "worker_url", "ocr")
    if options.ocr not in (None, RAPIDOCR):
        raise ScorerError(
            f"there is no OCR engine {options.ocr!r} here; there is {RAPIDOCR}, and any other as a "
            "worker (--worker-url)"
        )
    reader: TextReader
    reader = RemoteTextReader(find_worker(options)) if options.worker_url else RapidOcrReader()
    if options.clip == NO_CLIP:
        return CvtgScorer(reader, None, {"ocr": reader.name})
    model, name = find_clip(options)
    return CvtgScorer(reader, model, {"ocr": reader.name, "clip": name, **library_versions()})


class CvtgScorer(ImageScorer):
    """Reads one image at a time, from any thread.

    Args:
        reader: The engine, by which results are named.
        clip: None leaves CLIPScore out.
        identity: Names of both.
    """

    def __init__(self, reader: TextReader, clip: Clip | None, identity: Mapping[str, str]) -> None:
        self.words = WordAccuracy(reader)
        self.clip = None if clip is None else ClipScorer(clip, identity)
        super().__init__(identity)

    def __call__(self, generated: GeneratedImage) -> ImageRecord:
        """Read the words of one image."""
        given = ScorerInput(
            image=generated.image,
            prompt=generated.item.prompt,
            target_texts=tuple(generated.item.fields["words"]),
        )
        measured = self.words.measure(given)
        if measured.value is None:
            return generated.failed(status_of(measured), f"{measured.model}: {measured.reason}")
        values = asdict(measured.value)
        lines = values.pop("lines")
        if self.clip is not None:
            (fit,) = score_images(self.clip, [given])
            if fit.value is None:
                return generated.failed(status_of(fit), f"CLIP: {fit.reason}")
            values["clip_score"] = fit.value
        reason = f"read: {' / '.join(lines)}" if lines else "read: nothing"
        return generated.record({**values, "lines": lines}, reason)
