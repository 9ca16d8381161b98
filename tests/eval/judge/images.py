"""Drawings of one plain colour, and a judge that remembers what it was asked."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TypeVar

from PIL import Image

from deepgen.eval.benchmark import Benchmark, ImageRecord, Item
from deepgen.eval.judge.prompts import JudgePrompts, paraphrased_prompts
from deepgen.eval.judge.scorer import JudgeProtocol, JudgeScorer
from deepgen.eval.scorer import GeneratedImage, ScoringOptions
from deepgen.scoring.answers import Answer, AnswerStatus, Parse, Unreadable
from deepgen.scoring.questions import EncodedImage, Question

T = TypeVar("T")

COLORS = {"source": (200, 20, 20), "reference": (20, 160, 20), "result": (20, 20, 200)}
SIZE = (24, 16)


def paint(path: Path, what: str, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, COLORS[what]).save(path)
    return path


def draw(
    folder: Path, item: Item, image_index: int = 0, *, size: tuple[int, int] = SIZE
) -> GeneratedImage:
    """A result, and what it was edited from where the prompts' folder would have it."""
    path = paint(folder / "run" / f"{item.id.replace('/', '-')}-{image_index}.png", "result", size)
    sources = tuple(paint(folder / "data" / source, "source") for source in item.sources)
    return GeneratedImage(
        item=item, image_index=image_index, image=Image.open(path), path=path, sources=sources
    )


def shown_in(question: Question) -> list[str]:
    """What a question consists of: ``text``, and its images by what they show."""
    return ["text" if isinstance(part, str) else seen_in(part) for part in question.parts]


def seen_in(image: EncodedImage) -> str:
    color = Image.open(io.BytesIO(image.data)).convert("RGB").getpixel((0, 0))
    assert isinstance(color, tuple)
    distances = {
        what: sum(abs(a - b) for a, b in zip(color, rgb, strict=True))
        for what, rgb in COLORS.items()
    }
    return min(distances, key=lambda what: distances[what])


def protocol_of(benchmark: Benchmark, prompts: JudgePrompts, model: str = "") -> JudgeProtocol:
    """That of a benchmark, from its folder."""
    module = import_module(f"deepgen.eval.benchmarks.{benchmark.family}.scorer")
    protocol: JudgeProtocol = module.load_protocol(
        benchmark, prompts, ScoringOptions(judge_model=model)
    )
    return protocol


@dataclass
class StubJudge:
    """Answers once, without any retries."""

    reply: Callable[[Question], str | AnswerStatus]
    asked: list[Question] = field(default_factory=list)
    name: str = "stub"

    def ask(self, question: Question, parse: Parse[T]) -> Answer[T]:
        self.asked.append(question)
        reply = self.reply(question)
        if isinstance(reply, AnswerStatus):
            return Answer(status=reply, reason="as told", model="stub")
        parsed = parse(reply)
        if isinstance(parsed, Unreadable):
            return Answer(
                status=AnswerStatus.UNREADABLE, reason=parsed.reason, reply=reply, model="stub"
            )
        return Answer(status=AnswerStatus.SCORED, value=parsed, reply=reply, model="stub")


def judge_with(
    benchmark: Benchmark,
    generated: GeneratedImage,
    *replies: str | AnswerStatus,
    model: str = "stub",
) -> tuple[ImageRecord, list[Question]]:
    """One image's record, and what was asked; the last reply holds for all further questions."""
    left = list(replies)
    judge = StubJudge(lambda _: left.pop(0) if len(left) > 1 else left[0])
    protocol = protocol_of(benchmark, paraphrased_prompts(benchmark), model)
    return JudgeScorer(protocol, judge)(generated), judge.asked
