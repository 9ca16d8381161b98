"""The mini's training samples as a data set: rendered once, then trained on like any images."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

from deepgen.data.dataset import DataSet
from deepgen.data.importers.source import BadRow, RawSample, Revision, Source
from deepgen.data.importing import ImportOptions, import_source
from deepgen.data.records import PromptKind, PromptVariant
from deepgen.mini.training.caption_pretraining import DESCRIBE, QUESTIONS
from deepgen.mini.training.samples import labels, training_sample
from deepgen.mini.world.drawing import draw
from deepgen.mini.world.scene import Scene
from deepgen.mini.world.version0 import OBJECT_NAMES, SIDE, TextSample

NAME = "lessons"
"""Begins every sample's id, which seeds its noise: another name would train another model."""


class SampleSource(Source):
    """The first training samples of a split."""

    def __init__(self, count: int, split: str = "train") -> None:
        self.root = Path()
        self.count = count
        self.split = split

    def revision(self) -> Revision:
        """Hash of the first 100 texts and scenes; the others follow from the same rules."""
        digest = blake2b(f"{self.split} {self.count}".encode(), digest_size=16)
        for number in range(min(self.count, 100)):
            digest.update(repr(training_sample(number, split=self.split)).encode())
        return Revision(content=digest.hexdigest(), state=digest.hexdigest())

    def rows(self) -> Iterator[RawSample | BadRow]:
        """One row per sample, its images as PNG."""
        for number in range(self.count):
            yield _row(number, training_sample(number, split=self.split))


def write_samples(folder: Path, count: int) -> DataSet:
    """Render training samples into a data set, or resume where that was interrupted."""
    options = ImportOptions(
        name=NAME, licence="CC BY-SA 4.0 (OpenMoji)", redistributable=True, min_side=SIDE
    )
    # One thread: rendering is the work here, decoding takes no time.
    import_source(SampleSource(count), folder, options, workers=1)
    return DataSet.open(folder)


def vocabulary_texts(count: int) -> list[str]:
    """Everything the tokenizer will meet between special tokens, for so many samples."""
    texts = ["user\n", "assistant\n", *DESCRIBE]
    texts += [question for each in QUESTIONS.values() for question in each]
    for number in range(count):
        own = training_sample(number)
        texts.append(f"Generate an image: {own.text}" if own.source is None else f"\n{own.text}")
        texts.append(labels(own.target))
    # Names alone, too: a byte pair that only ever follows a space cannot begin a sentence.
    random.Random(0).shuffle(texts)
    return [*texts, *OBJECT_NAMES]


@lru_cache(maxsize=1 << 17)
def sample_of(sample_id: str) -> TextSample:
    """The training sample that a record of the data set was rendered from.

    Raises:
        ValueError: The record is of another data set.
    """
    source, _, number = sample_id.partition("/")
    if source != NAME:
        raise ValueError(
            f"{sample_id!r} is not a training sample of the mini, expected {NAME}/NUMBER"
        )
    return training_sample(int(number))


def _row(number: int, own: TextSample) -> RawSample:
    kind: PromptKind = "caption_short" if own.source is None else "instruction"
    words = tuple(word.text for word in own.target.words)
    return RawSample(
        native_id=str(number),
        prompts=(PromptVariant(text=own.text, kind=kind, lang=own.language, weight=1.0),),
        target=_png(own.target),
        references=() if own.source is None else (_png(own.source),),
        skills=("text_rendering",) if "word" in own.kind else ("general",),
        render_text=words,
    )


def _png(scene: Scene) -> bytes:
    out = io.BytesIO()
    draw(scene).save(out, "PNG")
    return out.getvalue()
