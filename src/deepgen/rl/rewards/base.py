"""What reinforcement learning asks of a reward: one number for each image of a group, or nothing.

A reward is a scorer (:mod:`deepgen.scoring.scorer`) and how it is called. A group is all images of
one prompt. What fails is missing, with its reason, and never a number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from deepgen.config.checks import check_at_least, check_positive
from deepgen.scoring.answers import Answer, AnswerStatus
from deepgen.scoring.ocr import letters_of
from deepgen.scoring.scorer import Scorer, ScorerInput

Need = Literal["prompt", "target_texts", "scene"]
"""What a prompt must come with for a reward: nothing more, texts to write, a scene of the mini."""

Weights = Mapping[str, Mapping[str, float]]
"""Category of a prompt to reward to weight; a weight of 0 is as none."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RewardItem(ScorerInput):
    """A generated image and what was asked for: its prompt, target texts, scene (in ``details``),
    and for edits its source images."""

    category: str = "general"
    """Decides the weights of the rewards."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reward:
    """A scorer, and how reinforcement learning calls it.

    Pointwise scorers look at each image alone. Pairwise ones compare the images of a group, so they
    get all of it, and a failed image leaves the others without values too.
    """

    name: str
    scorer: Scorer
    is_pairwise: bool = False
    needs: Need = "prompt"
    concurrency: int = 1
    """Groups that are scored at a time."""
    timeout_seconds: float = 90.0
    """For one call of the scorer."""
    attempts: int = 3
    """Calls for an image while they end in errors. One for scorers that repeat requests
    themselves."""

    def __post_init__(self) -> None:
        check_at_least("concurrency", self.concurrency, 1)
        check_at_least("attempts", self.attempts, 1)
        check_positive("timeout_seconds", self.timeout_seconds)

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest possible value."""
        return self.scorer.bounds

    @property
    def identity(self) -> Mapping[str, str]:
        """Models, versions and settings: values are comparable only where all of it is equal."""
        return self.scorer.identity

    def has_needs(self, target_texts: Sequence[str], details: Mapping[str, Any]) -> bool:
        """Whether a prompt comes with what the scorer reads.

        Args:
            target_texts: That the image should show; only letters and digits are compared.
            details: Of the prompt, such as a scene.
        """
        if self.needs == "target_texts":
            return any(map(letters_of, target_texts))
        return self.needs != "scene" or "scene" in details

    def check(self) -> None:
        """Score images of which the result is known, where the scorer has such.

        Raises:
            ScorerError: It is wrong, or there is none.
        """
        probe = getattr(self.scorer, "check", None)
        if probe is not None:
            probe()

    def take_metrics(self) -> dict[str, float]:
        """What the scorer has measured besides since the last call, where it does."""
        take = getattr(self.scorer, "take_metrics", None)
        return {} if take is None else dict(take())


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupReward:
    """One reward of one group."""

    values: tuple[float, ...] | None
    """One per image, in order; None where the reward is missing for the whole group."""
    reason: str = ""
    """Why it is missing."""

    @classmethod
    def from_answers(cls, answers: Sequence[Answer[float]]) -> GroupReward:
        """The values of a group; one failed image makes the reward missing for all of it."""
        values = [each.value for each in answers if each.status is AnswerStatus.SCORED]
        found = [each for each in values if each is not None]
        if answers and len(found) == len(answers):
            return cls(values=tuple(found))
        reasons = Counter(
            each.reason or each.status.value
            for each in answers
            if each.status is not AnswerStatus.SCORED
        )
        (reason, _), *_ = reasons.most_common(1) or [("the group is empty", 0)]
        return cls(values=None, reason=reason)


Rewards = Mapping[str, GroupReward]
"""All rewards of one group by name: those with a weight for its category."""


def reward_tensors(
    groups: Sequence[Rewards], names: Sequence[str]
) -> tuple[Float[Tensor, "groups images rewards"], Bool[Tensor, "groups rewards"]]:
    """Rewards of groups of equal size, and which of them are there.

    Missing ones are 0 in the first tensor, which means nothing: only the second one says so.
    """
    sizes = {
        len(each.values) for group in groups for each in group.values() if each.values is not None
    }
    if len(sizes) > 1:
        raise ValueError(f"groups have {sorted(sizes)} images, expected equal sizes")
    size = sizes.pop() if sizes else 0
    rewards = torch.zeros(len(groups), size, len(names), dtype=torch.float64)
    present = torch.zeros(len(groups), len(names), dtype=torch.bool)
    for row, group in enumerate(groups):
        for column, name in enumerate(names):
            found = group.get(name)
            if found is not None and found.values is not None:
                rewards[row, :, column] = torch.tensor(found.values, dtype=torch.float64)
                present[row, column] = True
    return rewards, present


def count_missing(groups: Sequence[Rewards]) -> dict[str, tuple[int, int]]:
    """By reward, in how many groups it is missing, and for how many it was asked."""
    counts: dict[str, tuple[int, int]] = {}
    for group in groups:
        for name, found in group.items():
            missing, asked = counts.get(name, (0, 0))
            counts[name] = (missing + (found.values is None), asked + 1)
    return counts


def check_weights(
    weights: Weights, rewards: Collection[str], categories: Collection[str] = ()
) -> None:
    """Check weights against the rewards that there are and the categories of the prompts.

    Raises:
        ValueError: A category has no positive weight, a weight is negative or names no reward.
    """
    for category in (*weights, *categories):
        own = weights.get(category, {})
        for name, weight in own.items():
            if name not in rewards:
                raise ValueError(
                    f"the category {category} has a weight for the reward {name}, which is not "
                    f"among {', '.join(rewards) or 'no rewards'}; add it or remove the weight"
                )
            if not 0 <= weight < float("inf"):
                raise ValueError(
                    f"the weight of {name} for the category {category} must be at least 0, got "
                    f"{weight}"
                )
        if not own:
            raise ValueError(
                f"the category {category} has no rewards; give it weights of some of "
                f"{', '.join(rewards) or 'no rewards'}"
            )
        if not sum(own.values()) > 0:
            raise ValueError(
                f"the weights of the category {category} sum to 0; expected a positive one"
            )


def active_rewards(weights: Weights, category: str) -> tuple[str, ...]:
    """The rewards that are measured for a category.

    Raises:
        ValueError: There are no weights for it.
    """
    if category not in weights:
        raise ValueError(
            f"a prompt has the category {category!r}, which has no rewards; expected one of "
            f"{', '.join(weights)}"
        )
    return tuple(name for name, weight in weights[category].items() if weight > 0)
