"""Stage 0 of the mini's language model: it learns to say what an image shows, or should show.

The large model's language model has seen a web of images and texts before DeepGen begins. The
mini's sees its lessons as conversations: a sentence or an instruction with its image, answered by
what the result shows; or a finished image and a question. So what an answer needs is known where
an answer would begin, which is where the think tokens stand.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from deepgen.conditioning.prompts import PromptTokenizer, TokenRow
from deepgen.conditioning.vlm import VisionLanguageModel
from deepgen.images.tensors import to_pixels
from deepgen.mini.training.lessons import Lesson, labels, lesson
from deepgen.mini.world.drawing import draw
from deepgen.mini.world.scene import Scene
from deepgen.train.objective import Loss
from deepgen.types import Prompt

END = "<|im_end|>"

# Of the turns: what a request asks for, what an image shows, and one thing about an image.
SHARES = {"request": 0.6, "describe": 0.25, "question": 0.15}

DESCRIBE = ("describe the picture", "what does the picture show?", "描述这张图片", "图里有什么？")
QUESTIONS: dict[str, tuple[str, ...]] = {
    "background": ("what colour is the background?", "背景是什么颜色？"),
    "left": ("what is on the left?", "左边是什么？"),
    "right": ("what is on the right?", "右边是什么？"),
    "one": ("what is it?", "这是什么？"),
    "above": ("what is it?", "这是什么？"),
    "below": ("what does it say?", "写着什么？"),
    "written": ("what does it say?", "写着什么？"),
}


@dataclass(frozen=True, slots=True)
class Turn:
    """Something to read, and what is to be answered."""

    prompt: Prompt
    answer: str


def turn(number: int) -> Turn:
    """Turn number ``number``; the lessons are those of the other stages."""
    rng = random.Random(f"turns, {number}")
    own = lesson(number)
    kind = rng.choices(tuple(SHARES), tuple(SHARES.values()))[0]
    if kind == "request":
        return _request(own)
    scene = own.target if own.source is None or rng.random() < 0.5 else own.source
    if kind == "describe":
        return Turn(_about(scene, rng.choice(DESCRIBE)), labels(scene))
    place, _, answer = rng.choice(labels(scene).split("; ")).partition(" ")
    return Turn(_about(scene, rng.choice(QUESTIONS[place])), answer)


def _request(own: Lesson) -> Turn:
    references = () if own.source is None else (to_pixels(draw(own.source)),)
    return Turn(Prompt(text=own.text, references=references), labels(own.target))


def _about(scene: Scene, text: str) -> Prompt:
    return Prompt(text=text, references=(to_pixels(draw(scene)),))


class ReadingObjective:
    """Next-token prediction over the answers; all of an update's tokens count alike.

    Args:
        tokenize: Puts prompts into tokens.
    """

    def __init__(self, tokenize: PromptTokenizer) -> None:
        self.tokenize = tokenize
        self._end = tokenize.tokenizer.convert_tokens_to_ids(END)

    def __call__(
        self, model: VisionLanguageModel, batch: Sequence[Turn], generator: torch.Generator
    ) -> Loss:
        """Mean cross-entropy of the answers' tokens."""
        features, prompts, answers = self.read(model, batch)
        count = sum(len(each) for each in answers)
        states = torch.cat(
            [own[start - 1 : -1] for own, start in zip(features, prompts, strict=True)]
        )
        wanted = torch.tensor([token for each in answers for token in each])
        # The embedding is the head, as the configuration's tied embeddings say.
        logits = states @ model.embedding.T
        total = F.cross_entropy(logits.float(), wanted)
        right = (logits.argmax(dim=-1) == wanted).sum()
        return Loss(total=total, parts={"loss": total.detach(), "right": right / count})

    def read(
        self, model: VisionLanguageModel, batch: Sequence[Turn]
    ) -> tuple[list[Float[Tensor, "_ channels"]], list[int], list[list[int]]]:
        """States of each turn, how many tokens its prompt has, and the tokens of its answer."""
        rows, answers, prompts = [], [], []
        for each in batch:
            row = self.tokenize(each.prompt)
            ids = self.tokenize.tokenizer(each.answer, add_special_tokens=False)["input_ids"]
            answers.append([*ids, self._end])
            prompts.append(len(row))
            rows.append(TokenRow((*row.token_ids, *answers[-1]), row.images))
        shown = [each for turn in batch for each in turn.prompt.references]
        seen = iter(model.encode_references(shown) if shown else ())
        images = [[next(seen) for _ in each.prompt.references] for each in batch]
        nothing = torch.zeros(0, model.width)
        features: list[Tensor] = model(rows, images, nothing)
        return features, prompts, answers


def answers_right(
    model: VisionLanguageModel, tokenize: PromptTokenizer, turns: Sequence[Turn]
) -> float:
    """Share of turns whose answer the model prefers token by token, given those before."""
    objective = ReadingObjective(tokenize)
    with torch.no_grad():
        features, prompts, answers = objective.read(model, turns)
        hits = [
            (own[start - 1 : -1] @ model.embedding.T).argmax(dim=-1).tolist() == answer
            for own, start, answer in zip(features, prompts, answers, strict=True)
        ]
    return sum(hits) / len(hits)


def turns_of(size: int) -> Callable[[int], list[list[Turn]]]:
    """The turns of an update, by its number."""
    return lambda step: [[turn(step * size + place) for place in range(size)]]
