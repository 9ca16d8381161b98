"""A micro-batch: what an objective gets to see of the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from deepgen.data.latents import Moments
from deepgen.data.order import Visit
from deepgen.data.randomness import sample_generator
from deepgen.data.records import Record, Task
from deepgen.types import Pixels, Prompt


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One visit to one sample, read and decoded."""

    visit: Visit
    record: Record
    prompt: Prompt
    """The text drawn for this visit, and the references."""
    target: Pixels | None
    """None where its moments are cached: nothing else looks at the target."""
    moments: tuple[Moments, ...] | None = None
    """Of the target and then of each reference, where they are cached."""

    @property
    def sizes(self) -> tuple[torch.Size, ...]:
        """Of the target (in pixels or latents) and of each reference."""
        if self.target is not None:
            target = self.target.shape[1:]
        else:
            assert self.moments is not None
            target = self.moments[0].shape[1:]
        return target, *(each.shape[1:] for each in self.prompt.references)


@dataclass(frozen=True, kw_only=True, slots=True)
class MicroBatch:
    """One forward and backward pass of one rank.

    Sizes may differ between the samples; they are equal wherever the data allowed it, and
    ``is_uniform`` says so.
    """

    step: int
    task: Task
    examples: Sequence[Example]
    update_samples: int
    """Samples of this task in the whole update, on all ranks: each counts one such part in the
    mean of the losses, however unevenly ranks and micro-batches share them."""

    @property
    def targets(self) -> list[Pixels]:
        """What is to be drawn; empty where moments are cached."""
        return [each.target for each in self.examples if each.target is not None]

    @property
    def prompts(self) -> list[Prompt]:
        """What the conditioner reads, references included."""
        return [each.prompt for each in self.examples]

    @property
    def sample_ids(self) -> list[str]:
        """For reports of losses that went wrong."""
        return [each.record.sample_id for each in self.examples]

    @property
    def is_uniform(self) -> bool:
        """Whether all samples have equal sizes throughout, so that no padding is needed."""
        return len({each.sizes for each in self.examples}) == 1


def draw_text(record: Record, visit: Visit, *, seed: int) -> str:
    """The text of a sample for one visit: one of its prompts by weight.

    A function of seed, sample and epoch alone, so every rank and every restart draws the same.
    Whether a caption is dropped is the objective's business.
    """
    total = sum(each.weight for each in record.prompts)
    left = sample_generator(seed, record.sid, visit.epoch, "prompt").random() * total
    for prompt in record.prompts[:-1]:
        left -= prompt.weight
        if left < 0:
            return prompt.text
    return record.prompts[-1].text
