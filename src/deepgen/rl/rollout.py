"""Rollouts: images of every prompt by the policy, and what is learned from them.

Groups with shared initial noise: DanceGRPO (Xue et al., arXiv 2505.07818, section 3.3). A window of
stochastic steps: MixGRPO (Li et al., arXiv 2507.21802, section 3.1); without noise all images of a
group are one, so the steps before the window are computed once per group.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from deepgen.config.rl import RolloutConfig
from deepgen.data.randomness import sample_generator
from deepgen.devices import send
from deepgen.flow.sde import (
    SampledStep,
    Transition,
    Velocity,
    log_probabilities,
    sample,
    scaling_factors,
    trajectory,
)
from deepgen.model import DeepGen
from deepgen.rl.grpo import PolicyBatch, predicted
from deepgen.rl.prompts import Prompt
from deepgen.train.sample_rng import SampleKey, SampleRng
from deepgen.types import Condition, Latents

Images = Float[Tensor, "images channels height width"]
"""Latents of all images of a group, in float32."""

START, STEP = 0, 1
"""Purposes of random numbers: initial noise, and that of step 0; later steps follow."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """The steps of an iteration's rollouts, the same on all processes."""

    transitions: Sequence[Transition]
    """All steps."""
    trained: tuple[int, ...]
    """Indices of those that are learned from, rising."""
    factors: Mapping[int, float]
    """Of log-probabilities, by trained index."""


def schedule(
    config: RolloutConfig, sigmas: Sequence[float], seed: int, iteration: int, *, noisy: bool = True
) -> Schedule:
    """Draw the steps that are learned from in an iteration.

    Args:
        config: The window, or how many steps of all.
        sigmas: Noise levels of the rollout.
        seed: Of the run.
        iteration: Of the run.
        noisy: Whether trained steps are stochastic; DiffusionNFT samples without noise, and only
            learns at the noise levels of these steps.
    """
    rng = sample_generator(seed, iteration, 0, "rl/steps")
    if config.window is None:
        drawn = rng.choice(config.last, config.trained, replace=False)
        trained = tuple(sorted(int(each) for each in drawn))
        stochastic: Sequence[int] = range(config.last)
    else:
        first = int(rng.integers(config.steps // 2 + 1))
        trained = tuple(range(first, first + config.window))
        stochastic = trained
    transitions = trajectory(
        sigmas, stochastic if noisy else (), sampler=config.sampler, eta=config.eta
    )
    learned = [transitions[index] for index in trained]
    factors = scaling_factors(learned, config.scaling) if noisy else {}
    return Schedule(transitions=transitions, trained=trained, factors=factors)


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupKey:
    """A prompt in an iteration."""

    prompt: Prompt
    iteration: int
    occurrence: int = 0
    """How often the iteration had this prompt before."""

    def sample(self, member: int | str) -> SampleKey:
        """What random numbers of an image, or of the whole group, are keyed by."""
        return SampleKey(
            sample=f"{self.prompt.id}#{self.occurrence}/{member}", epoch=self.iteration
        )


def keys_of(prompts: Sequence[Prompt], iteration: int) -> list[GroupKey]:
    """Keys of an iteration's groups."""
    seen: dict[str, int] = {}
    keys = []
    for prompt in prompts:
        seen[prompt.id] = seen.get(prompt.id, -1) + 1
        keys.append(GroupKey(prompt=prompt, iteration=iteration, occurrence=seen[prompt.id]))
    return keys


@dataclass(kw_only=True, slots=True)
class Group:
    """All images of a prompt."""

    key: GroupKey
    condition: Condition
    states: dict[int, Images]
    """Latents before a trained step and after it, by the index of the step that they precede."""
    final: Images
    log_probs: dict[int, Float[Tensor, " images"]]
    """Of trained transitions, by index."""
    images: list[Image.Image] = field(default_factory=list)
    """Decoded; not kept after the rewards are there."""
    references: dict[int, Images] = field(default_factory=dict)
    """Velocities of the reference policy at the trained steps."""
    noised: dict[int, Images] = field(default_factory=dict)
    """DiffusionNFT: the sampled images, noised again to the levels of the trained steps."""
    old_velocities: dict[int, Images] = field(default_factory=dict)
    """DiffusionNFT with several updates: the sampling policy's velocities there."""

    def tensors(self) -> dict[str, Tensor]:
        """What of it is learned from, for checkpoints; the condition is computed again."""
        named = {"final": self.final}
        for name in ("states", "log_probs", "references", "noised", "old_velocities"):
            named |= {f"{name}.{index}": each for index, each in getattr(self, name).items()}
        return named

    @classmethod
    def restored(cls, key: GroupKey, condition: Condition, tensors: Mapping[str, Tensor]) -> Group:
        """A group from what :meth:`tensors` gave."""
        found = cls(key=key, condition=condition, states={}, final=tensors["final"], log_probs={})
        for name, value in tensors.items():
            what, _, index = name.partition(".")
            if index:
                getattr(found, what)[int(index)] = value
        return found


class RolloutRng:
    """Noise of single images: a function of seed, iteration, prompt, image and step.

    So it is the same bits on any number of processes, in any batch and order.
    """

    def __init__(self, seed: int) -> None:
        self._rng = SampleRng(seed, "rl")

    def start(self, key: GroupKey, member: int, shape: torch.Size, *, shared: bool) -> Latents:
        """Initial noise, of the group or of one of its images."""
        return self._rng.normal(key.sample("group" if shared else member), START, shape)

    def step(self, key: GroupKey, member: int, index: int, shape: torch.Size) -> Latents:
        """Noise of a step; for DiffusionNFT that of a level."""
        return self._rng.normal(key.sample(member), STEP + index, shape)


class GroupSampler:
    """Samples groups with the policy, without guidance.

    Args:
        model: The policy; conditions are computed before.
        config: Group size, shared noise, images at once.
        rng: Noise.
        side: Height and width of the images, in pixels.
        autocast: Compute the network in this dtype; latents stay in float32.
    """

    def __init__(
        self,
        model: DeepGen,
        config: RolloutConfig,
        rng: RolloutRng,
        *,
        side: int,
        autocast: torch.dtype | None = None,
    ) -> None:
        self.model = model
        self.config = config
        self.rng = rng
        self.autocast = autocast
        cells = side // 8
        self.shape = torch.Size([model.dit.config.in_channels, cells, cells])

    def computing(self) -> torch.autocast:
        """The precision of matrix products, as a context."""
        is_mixed = self.autocast is not None
        return torch.autocast(self.model.device.type, self.autocast, enabled=is_mixed)

    def predicted(self, batch: PolicyBatch) -> Sequence[Latents]:
        """The policy's velocities at the rows of a batch."""
        return predicted(self.model, batch, self.autocast)

    def __call__(
        self, keys: Sequence[GroupKey], conditions: Sequence[Condition], plan: Schedule
    ) -> Iterator[list[Group]]:
        """Groups, as many at once as there is room for; not decoded yet."""
        at_once = max(1, self.config.images_at_once // self.config.group_size)
        for first in range(0, len(keys), at_once):
            some = slice(first, first + at_once)
            yield self._groups(keys[some], conditions[some], plan)

    @torch.no_grad()
    def _groups(
        self, keys: Sequence[GroupKey], conditions: Sequence[Condition], plan: Schedule
    ) -> list[Group]:
        size, device = self.config.group_size, self.model.device
        count = len(plan.transitions)
        noisy = next((each.index for each in plan.transitions if each.std), count)
        # Without any noise later, images of a group would be one.
        shared = self.config.shared_noise and noisy < count
        # One row per group while all its images are the same.
        prefix = noisy if shared else 0
        rows = [(key, member) for key in keys for member in range(1 if prefix else size)]
        latents = [
            send(self.rng.start(key, member, self.shape, shared=shared), device)
            for key, member in rows
        ]
        if prefix:
            velocity = self._velocity(conditions, plan)
            for step in sample(velocity, latents, plan.transitions[:prefix], lambda _: []):
                latents = step.after
            latents = [each for each in latents for _ in range(size)]
            rows = [(key, member) for key in keys for member in range(size)]
        expanded = [each for each in conditions for _ in range(size)]
        groups = [
            Group(
                key=key,
                condition=each,
                states={},
                final=torch.stack(latents[place * size : (place + 1) * size]),
                log_probs={},
            )
            for place, (key, each) in enumerate(zip(keys, conditions, strict=True))
        ]

        def noise(index: int) -> list[Latents]:
            return [send(self.rng.step(key, m, index, self.shape), device) for key, m in rows]

        velocity = self._velocity(expanded, plan)
        for step in sample(velocity, latents, plan.transitions[prefix:], noise):
            for place, group in enumerate(groups):
                _keep(group, step, slice(place * size, (place + 1) * size), plan)
        return groups

    def _velocity(self, conditions: Sequence[Condition], plan: Schedule) -> Velocity:
        """The policy's, with everything computed once that is the same in all steps."""
        timesteps = 1000 * torch.tensor([each.sigma for each in plan.transitions])
        sizes = [(self.shape[1], self.shape[2])] * len(conditions)
        with self.computing():
            prepared = self.model.dit.prepare(conditions, sizes, timesteps, [[] for _ in sizes])

        def velocity(latents: Sequence[Latents], index: int) -> Sequence[Latents]:
            with self.computing():
                velocities: Sequence[Latents] = self.model.dit.velocity(latents, index, prepared)
            return velocities

        return velocity


def _keep(group: Group, step: SampledStep, own: slice, plan: Schedule) -> None:
    """Store in a group what a step made of its images, and what is learned from the step."""
    index = step.transition.index
    before, after = step.before[own], step.after[own]
    group.final = torch.stack(after)
    # Without noise nothing is learned from transitions, so there are no factors.
    if index not in plan.factors:
        return
    # Tensors of their own: checkpoints refuse memory that two of them share.
    group.states[index], group.states[index + 1] = torch.stack(before), torch.stack(after)
    steps, factors = [step.transition] * len(after), [plan.factors[index]] * len(after)
    group.log_probs[index] = log_probabilities(steps, before, step.velocities[own], after, factors)


def noised_again(group: Group, plan: Schedule, rng: RolloutRng) -> dict[int, Images]:
    """The sampled images at the noise levels of the trained steps, with noise of their own."""
    found = {}
    for index in plan.trained:
        sigma = plan.transitions[index].sigma
        noise = torch.stack(
            [
                rng.step(group.key, member, index, group.final.shape[1:])
                for member in range(len(group.final))
            ]
        )
        found[index] = (1 - sigma) * group.final + sigma * send(noise, group.final.device)
    return found
