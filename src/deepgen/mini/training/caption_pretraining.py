"""Captioning pre-training: stage 0 of the mini's language model.

The large model's language model has seen a web of images and texts before DeepGen begins. The
mini's is trained on conversations about its training samples: a prompt or an instruction with its
image, answered by a caption of the result; or a finished image and a question. So what an answer
needs is computed where an answer would begin, which is where the think tokens stand.
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
from deepgen.mini.training.samples import labels, training_sample
from deepgen.mini.world.drawing import draw
from deepgen.mini.world.scene import Scene
from deepgen.train.objective import Loss
from deepgen.types import Prompt

END = "<|im_end|>"

# Of the samples: the result of a request, all that an image shows, one thing that it shows.
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
class CaptioningSample:
    """A prompt, with its images, and the answer to learn."""

    prompt: Prompt
    answer: str


def captioning_sample(number: int) -> CaptioningSample:
    """Sample ``number``, about the training sample of that number."""
    # The string is a seed: to change it is to change every sample.
    rng = random.Random(f"turns, {number}")
    own = training_sample(number)
    kind = rng.choices(tuple(SHARES), tuple(SHARES.values()))[0]
    if kind == "request":
        references = () if own.source is None else (to_pixels(draw(own.source)),)
        return CaptioningSample(Prompt(text=own.text, references=references), labels(own.target))
    scene = own.target if own.source is None or rng.random() < 0.5 else own.source
    if kind == "describe":
        return CaptioningSample(_about(scene, rng.choice(DESCRIBE)), labels(scene))
    place, _, answer = rng.choice(labels(scene).split("; ")).partition(" ")
    return CaptioningSample(_about(scene, rng.choice(QUESTIONS[place])), answer)


def captioning_batches(batch_size: int) -> Callable[[int], list[list[CaptioningSample]]]:
    """The one micro-batch of a step, by the step's number."""
    return lambda step: [[captioning_sample(step * batch_size + i) for i in range(batch_size)]]


def _about(scene: Scene, text: str) -> Prompt:
    return Prompt(text=text, references=(to_pixels(draw(scene)),))


class CaptioningObjective:
    """Next-token prediction over the answers; all answer tokens of a batch weigh the same."""

    def __init__(self, tokenize: PromptTokenizer) -> None:
        self.tokenize = tokenize
        self._end = tokenize.tokenizer.convert_tokens_to_ids(END)

    def __call__(
        self,
        model: VisionLanguageModel,
        batch: Sequence[CaptioningSample],
        generator: torch.Generator,
    ) -> Loss:
        """Mean cross-entropy of the answers' tokens."""
        states, answers = self.read(model, batch)
        wanted = torch.tensor([token for each in answers for token in each])
        # The embedding is the head, as the configuration's tied embeddings say.
        logits = torch.cat(states) @ model.embedding.T
        total = F.cross_entropy(logits.float(), wanted)
        right = (logits.argmax(dim=-1) == wanted).sum()
        return Loss(total=total, parts={"loss": total.detach(), "accuracy": right / len(wanted)})

    def read(
        self, model: VisionLanguageModel, batch: Sequence[CaptioningSample]
    ) -> tuple[list[Float[Tensor, "_ channels"]], list[list[int]]]:
        """For each sample, the hidden states that predict its answer's tokens, and these tokens."""
        rows, answers, starts = [], [], []
        for each in batch:
            row = self.tokenize(each.prompt)
            ids = self.tokenize.tokenizer(each.answer, add_special_tokens=False)["input_ids"]
            answers.append([*ids, self._end])
            starts.append(len(row))
            rows.append(TokenRow((*row.token_ids, *answers[-1]), row.images))
        references = [image for each in batch for image in each.prompt.references]
        encoded = iter(model.encode_references(references) if references else ())
        images = [[next(encoded) for _ in each.prompt.references] for each in batch]
        states: list[Tensor] = model(rows, images, torch.zeros(0, model.width))
        return [own[start - 1 : -1] for own, start in zip(states, starts, strict=True)], answers
