"""Scores groups in the background: all rewards of all groups at once, with limits on everything.

Each reward has workers of its own, so that a slow one delays no other. A call that fails, hangs or
answers with what no reward can be is repeated by :class:`RetryPolicy`; after that the reward is
missing for the whole group, and the other rewards of the group stay.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from deepgen.config.checks import check_at_least, check_positive
from deepgen.errors import ScorerError
from deepgen.rl.rewards.base import (
    GroupReward,
    Reward,
    RewardItem,
    Rewards,
    Weights,
    active_rewards,
    check_weights,
)
from deepgen.scoring.answers import Answer, AnswerStatus, error_answer
from deepgen.scoring.scorer import score_images


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """How often, and for how long, a reward is tried."""

    unreadable_attempts: int = 2
    """Calls for an image while the answers are no rewards: NaN, out of range, too few. (Errors:
    ``Reward.attempts``.)"""
    backoff_seconds: float = 1.0
    """Wait before the second call, doubled before each further one, with 50 % jitter."""
    deadline_seconds: float = 180.0
    """From the submission of the last group to the end of the wait for its rewards."""
    most_groups: int = 256
    """Groups in the pool; the next one waits."""

    def __post_init__(self) -> None:
        check_at_least("unreadable_attempts", self.unreadable_attempts, 1)
        check_at_least("backoff_seconds", self.backoff_seconds, 0)
        check_positive("deadline_seconds", self.deadline_seconds)
        check_at_least("most_groups", self.most_groups, 1)


@dataclass(kw_only=True, slots=True)
class RewardCounts:
    """What became of the calls for one reward."""

    calls: int = 0
    retries: int = 0
    timeouts: int = 0
    errors: int = 0
    """Calls in which an image failed with an error, time-outs included."""
    unreadable: int = 0
    """Calls in which an answer was no reward."""
    seconds: list[float] = field(default_factory=list)
    """From the first call for a group to its result."""

    def latency(self) -> dict[str, float]:
        """Median, 95th percentile and maximum of the seconds; empty without groups."""
        ranked = sorted(self.seconds)
        if not ranked:
            return {}
        middle, late = (ranked[int(part * (len(ranked) - 1))] for part in (0.5, 0.95))
        return {"p50": middle, "p95": late, "max": ranked[-1]}


class PendingGroup:
    """A group in the pool: its rewards, once they are there."""

    def __init__(
        self, items: Sequence[RewardItem], names: Sequence[str], on_done: Callable[[], None]
    ) -> None:
        self.items = tuple(items)
        self.names = tuple(names)
        self.submitted = time.monotonic()
        self._lock = threading.Lock()
        self._found: dict[str, GroupReward] = {}
        self._done = threading.Event()
        self._on_done = on_done

    def settle(self, name: str, found: GroupReward) -> bool:
        """Store a reward; False if it was given up, and so came too late."""
        with self._lock:
            if name in self._found:
                return False
            self._found[name] = found
            is_last = len(self._found) == len(self.names)
        if is_last:
            self._on_done()
            self._done.set()
        return True

    def is_settled(self, name: str) -> bool:
        """Whether a reward is there, or was given up."""
        with self._lock:
            return name in self._found

    def wait(self, seconds: float) -> bool:
        """Wait for all rewards; whether they are there."""
        return self._done.wait(max(seconds, 0.0))

    def rewards(self) -> Rewards:
        """All rewards, in the order of the names."""
        with self._lock:
            return {name: self._found[name] for name in self.names}


class RewardPool:
    """Workers for every reward; a context manager.

    Args:
        rewards: By the names that the weights use.
        weights: Of the rewards for each category; those without weight are not called.
        policy: See there.

    Raises:
        ValueError: Weights name no reward, or sum to zero.
    """

    def __init__(
        self,
        rewards: Mapping[str, Reward],
        weights: Weights,
        policy: RetryPolicy | None = None,
    ) -> None:
        check_weights(weights, rewards)
        self.rewards = dict(rewards)
        self.weights = weights
        self.policy = policy or RetryPolicy()
        self.waited_seconds = 0.0
        """Total time that :meth:`collect` has waited."""
        self._counts = {name: RewardCounts() for name in rewards}
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(self.policy.most_groups)
        self._closed = threading.Event()
        self._queues: dict[str, queue.SimpleQueue[PendingGroup | None]] = {
            name: queue.SimpleQueue() for name in rewards
        }
        for name, reward in self.rewards.items():
            for _ in range(reward.concurrency):
                threading.Thread(
                    target=self._work, args=(reward, name), name=f"reward {name}", daemon=True
                ).start()

    def submit(self, items: Sequence[RewardItem]) -> PendingGroup:
        """Start scoring a finished group; returns at once unless the pool is full.

        Raises:
            ValueError: The group is empty or of several categories, or its category has no rewards.
        """
        categories = {each.category for each in items}
        if len(categories) != 1:
            raise ValueError(
                f"a group has the categories {sorted(categories)}, expected exactly one"
            )
        names = active_rewards(self.weights, categories.pop())
        self._room.acquire()
        group = PendingGroup(items, names, self._room.release)
        for name in names:
            self._queues[name].put(group)
        return group

    def collect(self, groups: Sequence[PendingGroup]) -> list[Rewards]:
        """The rewards of groups, in this order; waits until the deadline, and gives up the rest."""
        began = time.monotonic()
        last = max((each.submitted for each in groups), default=began)
        deadline = last + self.policy.deadline_seconds
        for group in groups:
            if not group.wait(deadline - time.monotonic()):
                reason = f"no reward within {self.policy.deadline_seconds:g} s"
                for name in group.names:
                    if group.settle(name, GroupReward(values=None, reason=reason)):
                        self._count(name, timeouts=1)
        self.waited_seconds += time.monotonic() - began
        return [each.rewards() for each in groups]

    def take_counts(self) -> dict[str, RewardCounts]:
        """What happened since the last call, by reward."""
        with self._lock:
            taken, self._counts = self._counts, {name: RewardCounts() for name in self.rewards}
        return taken

    def close(self) -> None:
        """End all workers; calls under way are left to end by themselves."""
        self._closed.set()
        for name, reward in self.rewards.items():
            for _ in range(reward.concurrency):
                self._queues[name].put(None)

    def __enter__(self) -> RewardPool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _work(self, reward: Reward, name: str) -> None:
        while (group := self._queues[name].get()) is not None:
            if self._closed.is_set() or group.is_settled(name):
                continue
            began = time.monotonic()
            found = GroupReward.from_answers(self._measure(reward, name, group))
            with self._lock:
                self._counts[name].seconds.append(time.monotonic() - began)
            group.settle(name, found)

    def _measure(self, reward: Reward, name: str, group: PendingGroup) -> list[Answer[float]]:
        """The answers of a group, after all repetitions."""
        answers: dict[int, Answer[float]] = {}
        waiting = list(range(len(group.items)))
        for attempt in range(reward.attempts):
            fresh = self._call(reward, name, [group.items[index] for index in waiting])
            answers.update(zip(waiting, fresh, strict=True))
            again = [index for index in waiting if self._may_retry(reward, answers[index], attempt)]
            if again and reward.is_pairwise:
                again = list(range(len(group.items)))
            if not again or group.is_settled(name):
                break
            waiting = again
            self._count(name, retries=1)
            pause = self.policy.backoff_seconds * 2**attempt * random.uniform(0.5, 1.5)
            if self._closed.wait(pause):
                break
        return [answers[index] for index in range(len(group.items))]

    def _may_retry(self, reward: Reward, answer: Answer[float], attempt: int) -> bool:
        limit = {
            AnswerStatus.ERROR: reward.attempts,
            AnswerStatus.UNREADABLE: min(self.policy.unreadable_attempts, reward.attempts),
        }
        return attempt + 1 < limit.get(answer.status, 0)

    def _call(
        self, reward: Reward, name: str, items: Sequence[RewardItem]
    ) -> Sequence[Answer[float]]:
        result = _within(reward.timeout_seconds, lambda: score_images(reward.scorer, items))
        if isinstance(result, Exception):
            answers = [_failed(result, name) for _ in items]
        else:
            answers = result
        found = {each.status for each in answers}
        self._count(
            name,
            calls=1,
            timeouts=int(isinstance(result, TimeoutError)),
            errors=int(AnswerStatus.ERROR in found),
            unreadable=int(AnswerStatus.UNREADABLE in found),
        )
        return answers

    def _count(self, name: str, **amounts: int) -> None:
        with self._lock:
            counts = self._counts[name]
            for key, amount in amounts.items():
                setattr(counts, key, getattr(counts, key) + amount)


def _failed(error: Exception, name: str) -> Answer[float]:
    if isinstance(error, ScorerError | TimeoutError):
        return Answer(status=AnswerStatus.ERROR, reason=str(error), model=name)
    return error_answer(error, name)


def _within(
    seconds: float, call: Callable[[], list[Answer[float]]]
) -> list[Answer[float]] | Exception:
    """The answers of a call, or what it raised; a ``TimeoutError`` if it takes longer.

    Python cannot end a thread: a late call is left behind, and its answers are dropped.
    """
    results: queue.SimpleQueue[list[Answer[float]] | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put(call())
        except Exception as error:  # Rewards are anybody's code; the run must not end in a thread.
            results.put(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return results.get(timeout=seconds)
    except queue.Empty:
        return TimeoutError(f"no answer within {seconds:g} s")
