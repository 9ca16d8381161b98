"""A micro-batch: what an objective gets to see of the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    """The text drawn for this visit, empty where the caption was dropped, and the references."""
    target: Pixels


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
        """What is to be drawn."""
        return [each.target for each in self.examples]

    @property
    def prompts(self) -> list[Prompt]:
        """What the conditioner reads, references included."""
        return [each.prompt for each in self.examples]

    @property
    def sample_ids(self) -> list[str]:
        """For reports of losses that went wrong."""
        return [each.record.sample_id for each in self.examples]

    @property
    def randomness(self) -> list[tuple[int, int]]:
        """(sid, epoch) of each sample: with the seed, the key of its timestep and noise."""
        return [(each.record.sid, each.visit.epoch) for each in self.examples]

    @property
    def is_uniform(self) -> bool:
        """Whether all samples have equal sizes throughout, so that no padding is needed."""
        shapes = {
            (each.target.shape, tuple(other.shape for other in each.prompt.references))
            for each in self.examples
        }
        return len(shapes) == 1


def draw_text(record: Record, visit: Visit, *, seed: int, caption_drop: float) -> str:
    """The text of a sample for one visit: one of its prompts by weight, or none at all.

    A function of seed, sample and epoch alone, so every rank and every restart draws the same.

    Args:
        record: The sample.
        visit: Its turn.
        seed: Of the run.
        caption_drop: Probability of the empty text, from which guidance moves away. Applied to
            text-to-image only; the public implementation drops nothing of an edit.
    """
    if record.task == "t2i":
        drop = sample_generator(seed, record.sid, visit.epoch, "caption_drop").random()
        if drop < caption_drop:
            return ""
    total = sum(each.weight for each in record.prompts)
    left = sample_generator(seed, record.sid, visit.epoch, "prompt").random() * total
    for prompt in record.prompts[:-1]:
        left -= prompt.weight
        if left < 0:
            return prompt.text
    return record.prompts[-1].text
