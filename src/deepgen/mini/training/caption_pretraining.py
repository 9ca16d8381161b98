"""Captioning pre-training: stage 0 of the mini's language model.

The large model's language model has seen a web of images and texts before DeepGen begins. The
mini's is trained on conversations about its training samples: a prompt or an instruction with its
image, answered by a caption of the result; or a finished image and a question. So what an answer
needs is computed where an answer would begin, which is where the think tokens stand.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from deepgen.conditioning.prompts import PromptTokenizer, TokenRow
from deepgen.conditioning.vlm import VisionLanguageModel
from deepgen.images.tensors import to_pixels
from deepgen.mini.training.samples import any_sample, labels
from deepgen.mini.world.drawing import draw
from deepgen.mini.world.scene import Scene
from deepgen.train.objective import Loss
from deepgen.types import Pixels, Prompt

END = "<|im_end|>"

# Of the samples: the result of a request, all that an image shows, one thing that it shows.
SHARES = {"request": 0.6, "describe": 0.25, "question": 0.15}

DESCRIBE = ("describe the picture", "what does the picture show?", "描述这张图片", "图里有什么？")
QUESTIONS: dict[str, tuple[str, ...]] = {
    "background": ("what colour is the background?", "背景是什么颜色？"),
    "word": ("what does it say?", "写着什么？"),
    "things": ("what is in the picture?", "图里有哪些东西？"),
}

# Their text does not say where the objects are; of all others it does, or there is one only.
LAYOUT_FREE = ("two", "two tints", "count", "sum", "difference")


@dataclass(frozen=True, slots=True)
class CaptioningSample:
    """A prompt, with its images, and the answer to learn."""

    prompt: Prompt
    answer: str


def captioning_sample(number: int) -> CaptioningSample:
    """Sample ``number``, about the training sample of that number."""
    # The string is a seed: to change it is to change every sample.
    rng = random.Random(f"captioning, {number}")
    own = any_sample(number)
    kind = rng.choices(tuple(SHARES), tuple(SHARES.values()))[0]
    if kind == "request":
        answer = labels(own.target, places=own.kind not in LAYOUT_FREE)
        return CaptioningSample(Prompt(text=own.text, references=_pixels(*own.sources)), answer)
    scene = rng.choice((own.target, *own.sources))
    if kind == "describe":
        prompt = Prompt(text=rng.choice(DESCRIBE), references=_pixels(scene))
        return CaptioningSample(prompt, labels(scene))
    background, *items = labels(scene).split("; ")
    words = [item for item in items if item.startswith("word ")]
    things = [item for item in items if not item.startswith("word ")]
    answers = {"background": background, "word": "; ".join(words), "things": "; ".join(things)}
    about = rng.choice([name for name, answer in answers.items() if answer])
    prompt = Prompt(text=rng.choice(QUESTIONS[about]), references=_pixels(scene))
    return CaptioningSample(prompt, answers[about])


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptioningBatches:
    """The one micro-batch of a step, by the step's number; picklable."""

    batch_size: int

    def __call__(self, step: int) -> list[list[CaptioningSample]]:
        """Render the samples of a step."""
        first = step * self.batch_size
        return [[captioning_sample(first + index) for index in range(self.batch_size)]]


def _pixels(*scenes: Scene) -> tuple[Pixels, ...]:
    return tuple(to_pixels(draw(scene)) for scene in scenes)


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
        wanted = torch.tensor([token for each in answers for token in each]).to(states[0].device)
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
        device = model.embedding.device
        references = [image.to(device) for each in batch for image in each.prompt.references]
        encoded = iter(model.encode_references(references) if references else ())
        images = [[next(encoded) for _ in each.prompt.references] for each in batch]
        states: list[Tensor] = model(rows, images, torch.zeros(0, model.width, device=device))
        return [own[start - 1 : -1] for own, start in zip(states, starts, strict=True)], answers
