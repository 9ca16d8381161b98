"""The stream of reinforcement learning: every iteration's rollouts, rewards and advantages.

One iteration of MR-GRPO (DeepGen paper, section 4.3): sample groups of images, measure rewards,
compute advantages, and learn, in one optimizer step or several. Rewards of a group are measured
while the next groups are sampled, the reference policy is asked and the supervised loss is
computed; only then does the loop wait for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import torch
from torch import Tensor

from deepgen.config.rl import RlConfig
from deepgen.errors import TrainingError
from deepgen.images.tensors import to_image
from deepgen.model import DeepGen
from deepgen.rl.advantages import Advantages, estimate
from deepgen.rl.grpo import PolicyBatch
from deepgen.rl.iteration import Iteration, groups_of, update_batches
from deepgen.rl.measures import measures
from deepgen.rl.prompts import Prompt, PromptStream
from deepgen.rl.reference import ReferencePolicy
from deepgen.rl.rewards.base import Rewards, Weights, count_missing, reward_tensors
from deepgen.rl.rewards.limits import FailureLimits, FailureWatch
from deepgen.rl.rewards.pool import RewardPool
from deepgen.rl.rollout import (
    Group,
    GroupKey,
    GroupSampler,
    RolloutRng,
    Schedule,
    keys_of,
    noised_again,
    schedule,
)
from deepgen.train.monitor.speed import Clock
from deepgen.train.objective import FlowBatch
from deepgen.train.parallel.distributed import SINGLE_PROCESS, Processes
from deepgen.train.stream import StreamState
from deepgen.types import Condition
from deepgen.types import Prompt as VlmPrompt

Watcher = Callable[[int, Sequence[Group], Sequence[Rewards], Tensor], None]
"""Gets an iteration, and this process's groups with images, their rewards and advantages."""

MAX_START_DISTANCE = 1e-3
"""Mean squared distance of velocities between policy and reference at the start that rounding to
bfloat16 stays far below."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What a stream is built from, besides the model."""

    config: RlConfig
    prompts: PromptStream
    pool: RewardPool
    sampler: GroupSampler
    rng: RolloutRng
    sigmas: Sequence[float]
    """Noise levels of a rollout."""
    seed: int
    microbatch_size: int
    """Rows of a micro-batch: images at one noise level."""
    reference: ReferencePolicy | None = None
    """None where there is no divergence."""
    supervised: Callable[[int], Sequence[FlowBatch]] | None = None
    """Micro-batches of the supervised loss, by step, as many on every process."""
    processes: Processes = SINGLE_PROCESS
    clock: Clock = field(default_factory=Clock)
    watcher: Watcher | None = None
    limits: FailureLimits = field(default_factory=FailureLimits)
    encodes_together: bool = False
    """Run the conditioner once for all prompts of a process. Needed where it is sharded, since all
    processes must run it equally often; else every prompt alone, so that its condition has the same
    bits in any company."""


class Rollouts:
    """Micro-batches from rollouts of the model that is trained; see ``train.stream.BatchStream``.

    Raises:
        ValueError: The prompts of an iteration cannot be divided among the processes, or the images
            of a group among the updates.
    """

    def __init__(self, setting: Setting) -> None:
        rollout, policy = setting.config.rollout, setting.config.policy
        world = setting.processes.world_size
        if rollout.prompts % world:
            raise ValueError(
                f"{rollout.prompts} prompts per iteration cannot be divided among {world} "
                "processes; make rollout.prompts a multiple of them"
            )
        if rollout.group_size % policy.updates:
            raise ValueError(
                f"the {rollout.group_size} images of a group cannot be divided among "
                f"{policy.updates} updates; make policy.updates a divisor of rollout.group_size"
            )
        self.setting = setting
        self.config = setting.config
        self._watch = FailureWatch(setting.limits)
        self._iteration: Iteration | None = None
        self._stored: list[StreamState] | None = None

    def batches(self, model: DeepGen, step: int) -> Sequence[Any]:
        """The micro-batches of an update: supervised ones first, while rewards are measured."""
        number, update = divmod(step, self.config.policy.updates)
        if update == 0:
            self._stored = None
            self._iteration = self._rolled_out(model, number)
        elif self._iteration is None:
            self._iteration = self._resumed(model, number)
        iteration = self._iteration
        source = self.setting.supervised
        supervised = [] if source is None else list(source(step))
        count = self._microbatches()
        return _Deferred(supervised, lambda: self._policy_batches(iteration, update), count)

    def state(self) -> StreamState:
        """Counts of failures, and what later updates of an iteration learn from."""
        values: dict[str, Any] = {"watch": self._watch.state()}
        iteration = self._iteration
        if self.config.policy.updates == 1 or iteration is None or iteration.advantages is None:
            return StreamState(values=values)
        values |= {"iteration": iteration.number, "used_everywhere": iteration.used_everywhere}
        return StreamState(values=values, tensors=iteration.tensors())

    def load_state(self, states: Sequence[StreamState]) -> None:
        """Resume from a checkpoint, on any number of processes that divides the prompts."""
        self._watch = FailureWatch(self.setting.limits)
        # It counts the groups of all processes, so each has the same.
        self._watch.resume(states[0].values["watch"])
        self._iteration = None
        self._stored = list(states) if "iteration" in states[0].values else None

    def _slice(self, count: int) -> slice:
        """This process's part of what all have, in order."""
        each = count // self.setting.processes.world_size
        return slice(self.setting.processes.rank * each, (self.setting.processes.rank + 1) * each)

    def _plan(self, number: int) -> Schedule:
        return schedule(
            self.config.rollout,
            self.setting.sigmas,
            self.setting.seed,
            number,
            noisy=self.config.policy.objective == "grpo",
        )

    def _keys(self, number: int) -> list[GroupKey]:
        """Keys of this process's groups in an iteration."""
        # Of all processes, since the same prompt may be on two of them.
        count = self.config.rollout.prompts
        every = keys_of(list(self.setting.prompts.take(number * count, count)), number)
        return every[self._slice(count)]

    def _conditions(self, model: DeepGen, prompts: Sequence[Prompt]) -> list[Condition]:
        """One pass of the conditioner for every different prompt."""
        texts = list(dict.fromkeys(each.prompt for each in prompts))
        shortened = model.conditioner.tokenize.shortened
        wanted = [shortened(VlmPrompt(text=text)) for text in texts]
        together = self.setting.encodes_together
        sampler = self.setting.sampler
        with (
            self.setting.clock.phase("encode"),
            torch.set_grad_enabled(together),
            sampler.computing(),
        ):
            found, _ = model.conditioner.encode(wanted, [], padding="none", guided=False)
        by_text = dict(zip(texts, found, strict=True))
        return [by_text[each.prompt] for each in prompts]

    def _rolled_out(self, model: DeepGen, number: int) -> Iteration:
        """Sample the groups of an iteration, and start measuring their rewards."""
        setting = self.setting
        plan, keys = self._plan(number), self._keys(number)
        conditions = self._conditions(model, [each.prompt for each in keys])
        iteration = Iteration(number=number, plan=plan, groups=[])
        found = setting.sampler(keys, conditions, plan)
        while True:
            with setting.clock.phase("rollout"):
                groups = next(found, None)
            if groups is None:
                break
            with setting.clock.phase("decode"), torch.no_grad():
                for group in groups:
                    group.images = [to_image(p) for p in model.vae.decode(list(group.final))]
            for group in groups:
                items = [group.key.prompt.item(image) for image in group.images]
                iteration.pending.append(setting.pool.submit(items))
            iteration.groups += groups
        with torch.no_grad():
            self._prepare(model, iteration)
        return iteration

    def _prepare(self, model: DeepGen, iteration: Iteration) -> None:
        """Compute what no reward is needed for: noised images, velocities of other policies."""
        setting, plan = self.setting, iteration.plan
        is_nft = self.config.policy.objective == "nft"
        if is_nft:
            for group in iteration.groups:
                group.noised = noised_again(group, plan, setting.rng)
        reference = setting.reference
        if reference is not None:
            with setting.clock.phase("reference"):
                for group in iteration.groups:
                    group.references = self._velocities(reference, group, plan)
                if iteration.number == 0:
                    self._check_reference(iteration)
        if is_nft and self.config.policy.updates > 1:
            with setting.clock.phase("reference"):
                for group in iteration.groups:
                    group.old_velocities = self._velocities(setting.sampler.predicted, group, plan)

    def _check_reference(self, iteration: Iteration) -> None:
        """At the start the policy must be the reference policy.

        Raises:
            TrainingError: It is another.
        """
        group = iteration.groups[0]
        mine = self._velocities(self.setting.sampler.predicted, group, iteration.plan)
        apart = max(
            float((mine[index] - group.references[index]).square().mean()) for index in mine
        )
        if not apart <= MAX_START_DISTANCE:
            raise TrainingError(
                f"at the start the velocities of policy and reference policy differ by {apart:.3g} "
                f"(mean square), expected at most {MAX_START_DISTANCE:g}; begin from the model "
                "that the run is to stay near, or use policy.beta 0"
            )

    def _velocities(
        self, policy: Callable[[PolicyBatch], Sequence[Tensor]], group: Group, plan: Schedule
    ) -> dict[int, Tensor]:
        """A policy's velocities at the trained steps of a group."""
        found = {}
        for index in plan.trained:
            latents = group.noised[index] if group.noised else group.states[index]
            count = len(latents)
            batch = PolicyBatch(
                latents=list(latents),
                sigmas=torch.full((count,), plan.transitions[index].sigma),
                conditions=[group.condition] * count,
                advantages=torch.zeros(count),
                weights=torch.zeros(count),
                reference_velocities=None,
            )
            found[index] = torch.stack(list(policy(batch)))
        return found

    def _settle(self, iteration: Iteration) -> None:
        """Wait for the rewards, and compute the advantages of all processes' images."""
        setting = self.setting
        with setting.clock.phase("rewards"):
            own = setting.pool.collect(iteration.pending)
        categories = [group.key.prompt.category for group in iteration.groups]
        every = setting.processes.gather((own, categories))
        rewards = [each for some, _ in every for each in some]
        of_groups = [each for _, some in every for each in some]
        found = advantages_of(
            rewards, of_groups, setting.pool.weights, self.config, list(setting.pool.rewards)
        )
        mine = self._slice(len(rewards))
        iteration.advantages, iteration.used = found.values[mine], found.is_used[mine]
        iteration.used_everywhere = int(found.is_used.sum())
        iteration.stop = self._stop_reason(rewards)
        iteration.metrics = measures(
            own, iteration.groups, iteration.advantages, found, setting.pool
        )
        if setting.watcher is not None:
            setting.watcher(iteration.number, iteration.groups, own, iteration.advantages)
        iteration.pending = []
        for group in iteration.groups:
            group.images = []

    def _stop_reason(self, rewards: Sequence[Rewards]) -> str:
        """Why the run has to end, if too many rewards are missing."""
        reasons = {
            name: each.reason
            for group in rewards
            for name, each in group.items()
            if each.values is None
        }
        try:
            self._watch.add(count_missing(rewards), reasons)
        except TrainingError as error:
            # What was repaired is not to be held against the resumed run.
            self._watch = FailureWatch(self.setting.limits)
            return str(error)
        return ""

    def _resumed(self, model: DeepGen, number: int) -> Iteration:
        """An iteration that a checkpoint has cut, of whose groups this process has its own."""
        assert self._stored is not None, "a stream resumed within an iteration without its state"
        parts = [groups_of(each.tensors, model.device) for each in self._stored]
        every = [group for groups, _, _ in parts for group in groups]
        mine = self._slice(len(every))
        keys = self._keys(number)
        conditions = self._conditions(model, [each.prompt for each in keys])
        found = Iteration(
            number=number,
            plan=self._plan(number),
            groups=[
                Group.restored(key, condition, tensors)
                for key, condition, tensors in zip(keys, conditions, every[mine], strict=True)
            ],
            advantages=torch.cat([rows for _, rows, _ in parts])[mine],
            used=torch.cat([rows for _, _, rows in parts])[mine],
            used_everywhere=self._stored[0].values["used_everywhere"],
        )
        self._stored = None
        return found

    def _microbatches(self) -> int:
        rollout, policy = self.config.rollout, self.config.policy
        prompts = rollout.prompts // self.setting.processes.world_size
        rows = prompts * rollout.group_size // policy.updates * rollout.trained
        return -(-rows // self.setting.microbatch_size)

    def _policy_batches(self, iteration: Iteration, update: int) -> list[PolicyBatch]:
        """The micro-batches of an update, once the rewards are there."""
        if iteration.advantages is None:
            self._settle(iteration)
        setting = self.setting
        made = update_batches(
            iteration, update, setting.config, seed=setting.seed, size=setting.microbatch_size
        )
        iteration.metrics, iteration.stop = {}, ""
        return made


def advantages_of(
    rewards: Sequence[Rewards],
    categories: Sequence[str],
    weights: Weights,
    config: RlConfig,
    names: Sequence[str],
) -> Advantages:
    """Advantages of groups from their rewards.

    Args:
        rewards: Of every group.
        categories: Of every group, which decide its weights.
        weights: By category and reward.
        config: Group size and estimator.
        names: Of all rewards.
    """
    values, present = reward_tensors(rewards, names)
    if not present.any():
        values = torch.zeros(len(rewards), config.rollout.group_size, len(names)).double()
    table = torch.tensor(
        [[weights[each].get(name, 0.0) for name in names] for each in categories],
        dtype=torch.float64,
    )
    return estimate(values, present, table, config.advantages)


class _Deferred(Sequence[Any]):
    """Micro-batches, of which the last ones are made when the first of them is asked for."""

    def __init__(self, ready: Sequence[Any], make: Callable[[], Sequence[Any]], count: int) -> None:
        self._ready = ready
        self._make = make
        self._count = count
        self._made: Sequence[Any] | None = None

    def __len__(self) -> int:
        return len(self._ready) + self._count

    @overload
    def __getitem__(self, place: int) -> Any: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Any]: ...

    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        if not 0 <= place < len(self):
            raise IndexError(place)
        if place < len(self._ready):
            return self._ready[place]
        if self._made is None:
            self._made = self._make()
            assert len(self._made) == self._count, "an update has other micro-batches than planned"
        return self._made[place - len(self._ready)]

    def __iter__(self) -> Iterator[Any]:
        return (self[place] for place in range(len(self)))
