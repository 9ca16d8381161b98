"""Visual question answering with a small model, as DPG-Bench scores."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from PIL import Image

from deepgen.scoring.answers import Answer, AnswerStatus, Parse, Unreadable, error_answer
from deepgen.scoring.judge import Judge
from deepgen.scoring.parsing import parse_yes_no
from deepgen.scoring.questions import Question, png_image
from deepgen.scoring.remote import RemoteModel
from deepgen.scoring.templates import Template
from deepgen.scoring.weights import find_weights, loading

CHECKPOINT = "Salesforce/blip-vqa-base"
"""A VQA model that needs no old environment."""

PATTERNS = ("*.json", "*.txt", "*.safetensors")

# The longest answers that VQA models were trained on have ten words.
MOST_TOKENS = 10

# About one image at a time: prompts have up to about fifty.
QUESTIONS_AT_ONCE = 16


@runtime_checkable
class QuestionAnswerer(Protocol):
    """Answers yes-or-no questions about images; callable from several threads."""

    @property
    def name(self) -> str:
        """Model and version, part of the identity of every score."""
        ...

    def ask(self, image: Image.Image, questions: Sequence[str]) -> list[Answer[bool]]:
        """Whether the answer to each is yes."""
        ...


class BlipAnswers:
    """A BLIP model for VQA (arXiv 2201.12086) from transformers, in float32.

    Raises:
        ScorerError: There is none, or it is another kind of model.
    """

    def __init__(self, source: str = CHECKPOINT, *, device: str = "cpu") -> None:
        # Imported here because it takes seconds.
        from transformers import AutoTokenizer, BlipForQuestionAnswering, BlipImageProcessorPil

        weights = find_weights(source, PATTERNS, wanted="a VQA model (--vqa)")
        instead = f"a BLIP such as {CHECKPOINT}, or a judge or worker for other models"
        with loading("VQA model", source, instead=instead):
            model = BlipForQuestionAnswering.from_pretrained(
                weights.folder, use_safetensors=True, dtype=torch.float32
            )
            self._tokenizer: Any = AutoTokenizer.from_pretrained(weights.folder)
            self._processor: Any = BlipImageProcessorPil.from_pretrained(weights.folder)
        self._model: Any = model.to(device).eval()
        self.name = weights.identity
        self._lock = threading.Lock()

    def ask(self, image: Image.Image, questions: Sequence[str]) -> list[Answer[bool]]:
        """Yes only where the model answers exactly that."""
        try:
            with self._lock, torch.inference_mode():
                pixels = self._processor(images=image.convert("RGB"), return_tensors="pt")
                shown = pixels["pixel_values"].to(self._model.device)
                replies = [
                    reply
                    for start in range(0, len(questions), QUESTIONS_AT_ONCE)
                    for reply in self._generate(shown, questions[start : start + QUESTIONS_AT_ONCE])
                ]
        except (RuntimeError, ValueError, IndexError) as error:  # Out of memory is a RuntimeError.
            return [error_answer(error, self.name) for _ in questions]
        return [
            Answer(status=AnswerStatus.SCORED, value=reply == "yes", reply=reply, model=self.name)
            for reply in replies
        ]

    def _generate(self, pixels: torch.Tensor, questions: Sequence[str]) -> list[str]:
        tokens = self._tokenizer(list(questions), padding=True, return_tensors="pt")
        written = self._model.generate(
            input_ids=tokens["input_ids"].to(pixels.device),
            attention_mask=tokens["attention_mask"].to(pixels.device),
            pixel_values=pixels.expand(len(questions), -1, -1, -1),
            max_new_tokens=MOST_TOKENS,
            do_sample=False,
        )
        texts: list[str] = self._tokenizer.batch_decode(written, skip_special_tokens=True)
        return [text.strip() for text in texts]


class RemoteAnswers(RemoteModel):
    """A model behind a worker, such as the official mPLUG in its old environment.

    Each question is sent as the prompt of an image, and the value is the answer as text.
    """

    def ask(self, image: Image.Image, questions: Sequence[str]) -> list[Answer[bool]]:
        """Yes only where the worker answers exactly that."""
        return self.score_image(image, read_exact_yes, questions)


def read_exact_yes(value: Any) -> bool | Unreadable:
    """Whether an answer is exactly yes; every other text means no."""
    if isinstance(value, str):
        return value == "yes"
    return Unreadable(f"{str(value)[:60]} is not an answer")


class JudgeAnswers:
    """A judge that is asked one question per request, by a template with the slot ``question``."""

    def __init__(self, judge: Judge, template: Template) -> None:
        self.judge = judge
        self.template = template

    @property
    def name(self) -> str:
        """The judge's."""
        return self.judge.name

    def ask(self, image: Image.Image, questions: Sequence[str]) -> list[Answer[bool]]:
        """One after another, up to the first without an answer: then the image has no score."""
        encoded, answers = png_image(image), []
        parse: Parse[bool] = _parse_yes
        for question in questions:
            asked = Question(parts=(encoded, self.template.fill({"question": question})))
            answers.append(self.judge.ask(asked, parse))
            if answers[-1].status is not AnswerStatus.SCORED:
                break
        return answers


def _parse_yes(reply: str) -> bool | Unreadable:
    found = parse_yes_no(reply)
    return found if isinstance(found, Unreadable) else found == 1
