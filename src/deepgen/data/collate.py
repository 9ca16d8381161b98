"""A micro-batch: what an objective gets of the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deepgen.data.latents import PosteriorParameters
from deepgen.data.order import Occurrence
from deepgen.data.randomness import sample_generator
from deepgen.data.records import Record, Task
from deepgen.types import Pixels, Prompt


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedSample:
    """One occurrence of a sample, read and decoded."""

    occurrence: Occurrence
    record: Record
    prompt: Prompt
    """The text drawn for this occurrence, and the references."""
    target: Pixels | None
    """None where its posteriors are cached: nothing else needs the target."""
    posteriors: tuple[PosteriorParameters, ...] | None = None
    """Posteriors of the target and then of each reference, where they are cached."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MicroBatch:
    """Samples of one forward and backward pass of one rank, of equal sizes where possible."""

    step: int
    task: Task
    samples: Sequence[LoadedSample]

    @property
    def prompts(self) -> list[Prompt]:
        """What the conditioner reads, references included."""
        return [each.prompt for each in self.samples]

    @property
    def sample_ids(self) -> list[str]:
        """For reports of losses that are not finite."""
        return [each.record.sample_id for each in self.samples]


def draw_text(record: Record, epoch: int, *, seed: int) -> str:
    """The text of a sample in one epoch: one of its prompts, by their weights.

    A function of seed, sample and epoch alone, so every rank and every restart draws the same.
    Dropping captions for guidance is up to the objective.
    """
    total = sum(each.weight for each in record.prompts)
    left = sample_generator(seed, record.sid, epoch, "prompt").random() * total
    for prompt in record.prompts[:-1]:
        left -= prompt.weight
        if left < 0:
            return prompt.text
    return record.prompts[-1].text
