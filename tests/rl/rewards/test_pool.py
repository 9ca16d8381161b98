from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence

import pytest
from PIL import Image

from deepgen.errors import ScorerError
from deepgen.rl.rewards.base import Reward, RewardItem, count_missing, reward_tensors
from deepgen.rl.rewards.pool import RetryPolicy, RewardPool
from deepgen.scoring.answers import Answer, AnswerStatus
from deepgen.scoring.scorer import ScorerInput

FAST = RetryPolicy(backoff_seconds=0.001, deadline_seconds=5.0)
Score = Callable[[Sequence[ScorerInput]], list[Answer[float]]]


class Scripted:
    name = "scripted"
    identity: dict[str, str] = {}  # noqa: RUF012
    bounds = (0.0, 1.0)

    def __init__(self, score: Score) -> None:
        self._score = score
        self.calls: list[int] = []

    def score(self, inputs: Sequence[ScorerInput]) -> list[Answer[float]]:
        self.calls.append(len(inputs))
        return self._score(inputs)


def answer(value: float) -> Answer[float]:
    return Answer(status=AnswerStatus.SCORED, value=value)


def brightness(inputs: Sequence[ScorerInput]) -> list[Answer[float]]:
    return [answer(each.image.getpixel((0, 0)) / 255) for each in inputs]  # type: ignore[operator]


def reward(score: Score = brightness, **changes: object) -> Reward:
    return Reward(name="r", scorer=Scripted(score), **changes)  # type: ignore[arg-type]


def group(*levels: int, category: str = "general") -> list[RewardItem]:
    return [
        RewardItem(image=Image.new("L", (1, 1), level), prompt="a", category=category)
        for level in levels
    ]


def collect(
    pool: RewardPool, *groups: list[RewardItem]
) -> list[dict[str, tuple[float, ...] | None]]:
    found = pool.collect([pool.submit(each) for each in groups])
    return [{name: each.values for name, each in group.items()} for group in found]


def test_groups_come_back_in_the_order_in_which_they_are_collected() -> None:
    def slow_if_dark(inputs: Sequence[ScorerInput]) -> list[Answer[float]]:
        time.sleep(0.05 if inputs[0].image.getpixel((0, 0)) == 0 else 0)
        return brightness(inputs)

    with RewardPool(
        {"r": reward(slow_if_dark, concurrency=3)}, {"general": {"r": 1.0}}, FAST
    ) as pool:
        found = collect(pool, group(0, 51), group(102, 153), group(204, 255))
    assert found == [{"r": (0.0, 0.2)}, {"r": (0.4, 0.6)}, {"r": (0.8, 1.0)}]


def test_a_reward_without_weight_for_a_category_is_not_called() -> None:
    used, unused = reward(), reward()
    weights = {"general": {"used": 1.0, "unused": 0.0}}
    with RewardPool({"used": used, "unused": unused}, weights, FAST) as pool:
        assert collect(pool, group(255)) == [{"used": (1.0,)}]
    assert isinstance(unused.scorer, Scripted)
    assert unused.scorer.calls == []


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (lambda inputs: [answer(math.nan), *brightness(inputs[1:])], "gave nan"),
        (lambda inputs: [answer(1.5), *brightness(inputs[1:])], "gave 1.5"),
        (lambda inputs: brightness(inputs[1:]), "gave 1 answers for 2 images"),
        (lambda inputs: 1 / 0, "division by zero"),
    ],
    ids=["NaN", "out of its declared range", "wrong length", "raising"],
)
def test_one_bad_answer_makes_the_reward_missing_for_the_group_and_leaves_the_others(
    bad: Score, reason: str
) -> None:
    rewards = {"bad": reward(bad), "good": reward()}
    with RewardPool(rewards, {"general": {"bad": 0.5, "good": 0.5}}, FAST) as pool:
        (found,) = pool.collect([pool.submit(group(0, 255))])
    assert found["bad"].values is None
    assert reason in found["bad"].reason
    assert found["good"].values == (0.0, 1.0)
    assert count_missing([found]) == {"bad": (1, 1), "good": (0, 1)}


def test_only_the_images_that_failed_are_scored_again() -> None:
    def fail_once(inputs: Sequence[ScorerInput]) -> list[Answer[float]]:
        found = brightness(inputs)
        if len(inputs) == 3:
            found[1] = Answer(status=AnswerStatus.ERROR, reason="busy")
        return found

    flaky = reward(fail_once)
    with RewardPool({"r": flaky}, {"general": {"r": 1.0}}, FAST) as pool:
        assert collect(pool, group(0, 51, 102)) == [{"r": (0.0, 0.2, 0.4)}]
        counts = pool.take_counts()["r"]
    assert isinstance(flaky.scorer, Scripted)
    assert flaky.scorer.calls == [3, 1]
    assert (counts.calls, counts.retries, counts.errors) == (2, 1, 1)


def test_errors_and_unreadable_answers_have_limits_of_their_own() -> None:
    def gone(inputs: Sequence[ScorerInput]) -> list[Answer[float]]:
        raise ScorerError("the server is gone")

    down, wrong = reward(gone, attempts=4), reward(lambda inputs: [answer(7.0)], attempts=4)
    rewards = {"down": down, "wrong": wrong}
    with RewardPool(rewards, {"general": {"down": 1.0, "wrong": 1.0}}, FAST) as pool:
        assert collect(pool, group(0)) == [{"down": None, "wrong": None}]
    assert isinstance(down.scorer, Scripted)
    assert isinstance(wrong.scorer, Scripted)
    assert (len(down.scorer.calls), len(wrong.scorer.calls)) == (4, 2)


def test_a_call_that_hangs_is_given_up_and_delays_no_other_reward() -> None:
    released = threading.Event()

    def hang(inputs: Sequence[ScorerInput]) -> list[Answer[float]]:
        released.wait(10)
        return brightness(inputs)

    rewards = {"slow": reward(hang, timeout_seconds=0.02, attempts=2), "quick": reward()}
    with RewardPool(rewards, {"general": {"slow": 1.0, "quick": 1.0}}, FAST) as pool:
        (found,) = pool.collect([pool.submit(group(0, 255))])
        released.set()
        counts = pool.take_counts()["slow"]
    assert found["slow"].values is None
    assert found["slow"].reason == "no answer within 0.02 s"
    assert found["quick"].values == (0.0, 1.0)
    assert counts.timeouts == 2


def test_what_is_not_there_at_the_deadline_is_missing_and_later_answers_change_nothing() -> None:
    released = threading.Event()

    def hang(inputs: Sequence[ScorerInput]) -> list[Answer[float]]:
        released.wait(10)
        return brightness(inputs)

    policy = RetryPolicy(deadline_seconds=0.05)
    with RewardPool({"r": reward(hang)}, {"general": {"r": 1.0}}, policy) as pool:
        pending = [pool.submit(group(0)), pool.submit(group(255))]
        found = pool.collect(pending)
        released.set()
        assert [each["r"].reason for each in found] == ["no reward within 0.05 s"] * 2
        time.sleep(0.02)
        assert pool.collect(pending)[0]["r"].values is None
        assert pool.waited_seconds >= 0.05


def test_a_full_pool_lets_the_next_group_wait() -> None:
    released, submitted = threading.Event(), []

    def hang(inputs: Sequence[ScorerInput]) -> list[Answer[float]]:
        released.wait(10)
        return brightness(inputs)

    policy = RetryPolicy(most_groups=2)
    with RewardPool({"r": reward(hang)}, {"general": {"r": 1.0}}, policy) as pool:

        def submit() -> None:
            for level in (0, 51, 102):
                submitted.append(pool.submit(group(level)))

        thread = threading.Thread(target=submit)
        thread.start()
        time.sleep(0.05)
        assert len(submitted) == 2
        released.set()
        thread.join()
        assert [each["r"].values for each in pool.collect(submitted)] == [(0.0,), (0.2,), (0.4,)]


def test_a_pairwise_reward_gets_the_whole_group_every_time() -> None:
    def first_call_fails(inputs: Sequence[ScorerInput]) -> list[Answer[float]]:
        if len(pairwise.calls) == 1:
            return [Answer(status=AnswerStatus.ERROR), *brightness(inputs[1:])]
        return brightness(inputs)

    pairwise = Scripted(first_call_fails)
    rewards = {"r": Reward(name="r", scorer=pairwise, is_pairwise=True, attempts=2)}
    with RewardPool(rewards, {"general": {"r": 1.0}}, FAST) as pool:
        assert collect(pool, group(0, 255)) == [{"r": (0.0, 1.0)}]
    assert pairwise.calls == [2, 2]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"general": {"r": 0.0}}, "sum to 0"),
        ({"general": {}}, "the category general has no rewards"),
        ({"general": {"other": 1.0}}, "the reward other, which is not among r"),
        ({"general": {"r": -1.0}}, "must be at least 0"),
    ],
)
def test_weights_that_cannot_be_used_are_refused_before_anything_is_scored(
    weights: dict[str, dict[str, float]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        RewardPool({"r": reward()}, weights)


def test_a_group_of_a_category_without_rewards_or_of_two_categories_is_refused() -> None:
    with RewardPool({"r": reward()}, {"general": {"r": 1.0}}, FAST) as pool:
        with pytest.raises(ValueError, match="'text', which has no rewards"):
            pool.submit(group(0, category="text"))
        with pytest.raises(ValueError, match="expected exactly one"):
            pool.submit([*group(0), *group(0, category="text")])


def test_missing_rewards_are_masked_in_the_tensors() -> None:
    bad = reward(lambda inputs: [answer(math.nan) for _ in inputs])
    rewards = {"good": reward(), "bad": bad}
    with RewardPool(
        rewards, {"general": {"good": 1.0, "bad": 1.0}, "x": {"good": 1.0}}, FAST
    ) as pool:
        found = pool.collect([pool.submit(group(0, 51)), pool.submit(group(255, 51, category="x"))])
    values, present = reward_tensors(found, ["bad", "good"])
    assert values.tolist() == [[[0.0, 0.0], [0.0, 0.2]], [[0.0, 1.0], [0.0, 0.2]]]
    assert present.tolist() == [[False, True], [False, True]]
