"""The mini's training samples as a data set: rendered once, then trained on like any images."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from deepgen.data.dataset import DataSet
from deepgen.data.importers.source import BadRow, RawSample, Revision, Source
from deepgen.data.importing import ImportOptions, import_source
from deepgen.data.records import PromptKind, PromptVariant
from deepgen.mini.training.caption_pretraining import DESCRIBE, QUESTIONS
from deepgen.mini.training.feed import ByStepAhead
from deepgen.mini.training.samples import SIDE, TrainingSample, any_sample, labels
from deepgen.mini.world.drawing import draw
from deepgen.mini.world.knowledge import OBJECTS
from deepgen.mini.world.scene import Scene

NAME = "mini-1"
"""Begins every sample's id, which seeds its noise: another name would train another model."""

CHUNK = 64
"""Samples that one worker renders in turn."""


class SampleSource(Source):
    """The first training samples of a split.

    Args:
        count: Number of samples.
        side: Of their images, in pixels.
        workers: Processes that render; 0 renders in this one.
    """

    def __init__(self, count: int, *, side: int = SIDE, workers: int = 0) -> None:
        self.root = Path()
        self.count = count
        self.side = side
        self.workers = workers

    def revision(self) -> Revision:
        """Hash of the first 100 texts and scenes; the others follow from the same rules."""
        digest = blake2b(f"{self.side} {self.count}".encode(), digest_size=16)
        for number in range(min(self.count, 100)):
            digest.update(repr(any_sample(number, side=self.side)).encode())
        found = digest.hexdigest()
        return Revision(content=found, state=found, rows=self.count)

    def rows(self) -> Iterator[RawSample | BadRow]:
        """One row per sample, its images as PNG."""
        chunks = ByStepAhead(_Chunk(side=self.side, count=self.count), self.workers)
        for number in range(-(-self.count // CHUNK)):
            yield from chunks(number)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Chunk:
    """Renders a chunk of samples by its number."""

    side: int
    count: int

    def __call__(self, chunk: int) -> list[RawSample]:
        numbers = range(chunk * CHUNK, min((chunk + 1) * CHUNK, self.count))
        return [_row(number, any_sample(number, side=self.side)) for number in numbers]


def write_samples(folder: Path, count: int, *, side: int = SIDE, workers: int = 0) -> DataSet:
    """Render training samples into a data set, or resume where that was interrupted."""
    options = ImportOptions(
        name=NAME, licence="CC BY-SA 4.0 (OpenMoji)", redistributable=True, min_side=side
    )
    # One thread: rendering is the work here, decoding takes no time.
    import_source(SampleSource(count, side=side, workers=workers), folder, options, workers=1)
    return DataSet.open(folder)


def vocabulary_texts(count: int) -> list[str]:
    """Everything the tokenizer will meet between special tokens, for so many samples."""
    texts = ["user\n", "assistant\n", *DESCRIBE]
    texts += [question for each in QUESTIONS.values() for question in each]
    for number in range(count):
        own = any_sample(number)
        texts.append(f"\n{own.text}" if own.sources else f"Generate an image: {own.text}")
        texts.append(labels(own.target))
    # Names alone, too: a byte pair that only ever follows a space cannot begin a sentence.
    names = [each for kind in OBJECTS.values() for each in (kind.singular, kind.chinese)]
    random.Random(0).shuffle(texts)
    return [*texts, *names]


def _row(number: int, own: TrainingSample) -> RawSample:
    kind: PromptKind = "instruction" if own.sources else "caption_short"
    words = tuple(word.text for word in own.target.words)
    return RawSample(
        native_id=str(number),
        prompts=(PromptVariant(text=own.text, kind=kind, lang=own.language, weight=1.0),),
        target=_png(own.target),
        references=tuple(_png(source) for source in own.sources),
        skills=("text_rendering",) if "word" in own.kind else ("general",),
        render_text=words,
    )


def _png(scene: Scene) -> bytes:
    out = io.BytesIO()
    draw(scene).save(out, "PNG")
    return out.getvalue()
