"""The whole loop on a tiny model: one step per update, missing rewards, resuming."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from deepgen.config.rl import PolicyConfig, RlConfig
from deepgen.config.train import CheckpointConfig, LoggingConfig
from deepgen.errors import ScorerError, TrainingError
from deepgen.rl.grpo import PolicyBatch
from deepgen.rl.reference import ReferencePolicy
from deepgen.rl.rewards.base import Reward
from deepgen.rl.rewards.limits import FailureLimits
from deepgen.rl.rewards.pool import RetryPolicy, RewardPool
from deepgen.train.checkpoints import Checkpoints
from tests.checkpoint.models import tiny_model
from tests.rl.running import PROMPTS, REWARDS, ROLLOUT, WEIGHTS, Measured, setting, trainer, weights

PLAIN = RlConfig(rollout=ROLLOUT, policy=PolicyConfig(sft_weight=0.0, beta=0.0))


def with_policy(**options: Any) -> RlConfig:
    return replace(PLAIN, policy=PolicyConfig(**{"sft_weight": 0.0, "beta": 0.0, **options}))


def steps_of(made: Any) -> set[float]:
    tensors = made.optimizer.tensors()
    return {float(value) for name, value in tensors.items() if name.startswith("step.")}


def test_every_update_is_one_step_of_the_optimizer_and_metrics_say_what_happened() -> None:
    made = trainer()
    calls: list[int] = []
    vlm = made.model.conditioner.vlm
    read = vlm.forward

    def counted(rows: Any, *others: Any) -> Any:
        calls.append(len(rows))
        return read(rows, *others)

    vlm.forward = counted
    before = weights(made)
    values = made.step()
    drawn = {each.id for each in made.stream.setting.prompts.take(0, 4)}
    supervised = sum(len(each.prompts) for each in made.stream.setting.supervised(0))
    # One pass per different prompt, and those of the supervised micro-batches.
    assert sum(calls) == len(drawn) + supervised
    assert steps_of(made) == {1.0}
    report = {**values, **{name: a / b for name, (a, b) in made.report.means.items() if b}}
    assert report["ratio"] == 1
    assert report["ratio_error"] == report["clipped/high"] == 0
    # But for the rounding of other batches; in the same batch it is 0, see test_objectives.py.
    assert report["kl"] < 1e-12
    assert report["missing/bright"] == report["flat/bright"] == 0
    assert 0 < report["reward/bright"] < 1
    assert report["reward_std/bright"] > 0
    assert report["advantage/square"] == pytest.approx(1, abs=0.01)
    assert report["diversity"] > 0
    assert report["sft"] > 0
    assert 0 < report["grad_norm_sft"] < report["grad_norm"]
    frozen = [name for name, _ in made.model.named_parameters() if name not in before]
    assert frozen and all(name.startswith("dit.") for name in before)
    assert any(not torch.equal(value, before[name]) for name, value in made.trained.items())
    values = made.step()
    assert values["kl"] > 1e-9
    assert steps_of(made) == {2.0}


def test_several_updates_learn_from_one_rollout_each_from_its_images() -> None:
    config = with_policy(updates=2)
    made = trainer(config)
    batches = []
    objective = made.objective

    def record(model: Any, batch: Any, generator: Any) -> Any:
        batches.append((made.done, batch))
        return objective(model, batch, generator)

    made.objective = record
    first, second = made.step(), made.step()
    assert steps_of(made) == {2.0}
    # The first update is still that of the rollout's policy; the second is not.
    ratio_error = [made.report.means["ratio_error"]]
    assert first["skipped"] == second["skipped"] == 0
    assert ratio_error[0][0] / ratio_error[0][1] > 1e-6
    rows = {
        update: {
            (name, x.sum().item())
            for done, batch in batches
            if done == update
            for name, x in zip(batch.row_ids, batch.following, strict=True)
        }
        for update in (0, 1)
    }
    assert not rows[0] & rows[1]
    for update in (0, 1):
        total = sum(float(b.weights.sum()) for done, b in batches if done == update)
        assert total == pytest.approx(1)


@pytest.mark.parametrize(
    ("objective", "lora", "lr"), [("grpo", False, 1e-2), ("nft", False, 3e-2), ("grpo", True, 3e-2)]
)
def test_rewards_rise(objective: Any, lora: bool, lr: float) -> None:
    config = replace(
        with_policy(objective=objective), rollout=replace(ROLLOUT, group_size=8, prompts=2)
    )
    made = trainer(config, lora=lora, lr=lr)
    before = brightness(made)
    for _ in range(9):
        made.step()
    assert brightness(made) > before + 0.01


def brightness(made: Any) -> float:
    """Of the images of a later iteration's prompts, always with the same noise."""
    rollout = made.stream._rolled_out(made.model, 1000)
    rewards = made.stream.setting.pool.collect(rollout.pending)
    values = [value for each in rewards for value in each["bright"].values]
    return float(sum(values) / len(values))


def test_with_adapters_off_the_policy_is_its_reference() -> None:
    made = trainer(with_policy(beta=0.1), lora=True, lr=1e-2)
    assert made.step()["kl"] < 1e-12
    assert made.step()["kl"] > 1e-9
    plain, adapted = tiny_model(), made.model
    batch = made.stream._policy_batches(made.stream._iteration, 0)[0]
    expected = ReferencePolicy(plain)(batch)
    for one, other in zip(ReferencePolicy(adapted)(batch), expected, strict=True):
        torch.testing.assert_close(one, other)
    assert all(value.requires_grad for value in made.trained.values())


def test_lambda_mixes_the_gradients_of_rewards_and_data() -> None:
    def gradients(sft_weight: float) -> dict[str, torch.Tensor]:
        made = trainer(with_policy(sft_weight=sft_weight))
        kept: dict[str, torch.Tensor] = {}
        made.optimizer.step = lambda lr: kept.update(
            {n: v.grad.clone() for n, v in made.trained.items() if v.grad is not None}
        )
        made.loop = replace(made.loop, max_grad_norm=1e9)
        made.step()
        return kept

    policy, quarter, half = gradients(0.0), gradients(0.25), gradients(0.5)
    # Linear in lambda, and at 0 that of the rewards alone.
    for name, value in policy.items():
        supervised = (half[name] - 0.5 * value) / 0.5
        expected = 0.75 * value + 0.25 * supervised
        torch.testing.assert_close(quarter[name], expected, rtol=1e-4, atol=1e-6)


class Failing(Measured):
    """Fails for prompts whose text is listed."""

    def __init__(self, texts: Sequence[str]) -> None:
        super().__init__("bright", lambda x: float(x.mean()))
        self.texts = texts

    def score(self, inputs: Any) -> Any:
        if inputs[0].prompt in self.texts:
            raise ScorerError("the server is gone")
        return super().score(inputs)


def failing(texts: Sequence[str]) -> dict[str, Any]:
    bright = Reward(name="bright", scorer=Failing(texts), attempts=1)
    rewards = {**REWARDS, "bright": bright}
    return {"pool": RewardPool(rewards, WEIGHTS, RetryPolicy(backoff_seconds=0.0))}


def test_a_failed_reward_is_missing_for_its_group_and_counted() -> None:
    texts = [each.prompt for each in PROMPTS if each.category == "text"]
    # Text prompts keep their other reward.
    made = trainer(PLAIN, **failing(texts))
    values = made.step()
    assert values["skipped"] == 0
    missing, groups = made.report.means["missing/bright"]
    drawn = [each.category for each in made.stream.setting.prompts.take(0, 4)]
    assert (missing, groups) == (drawn.count("text"), 4)
    assert made.report.means["missing/red"][0] == 0
    assert missing > 0


def test_without_any_reward_no_step_is_made_and_at_last_the_run_stops_saved(
    tmp_path: Path,
) -> None:
    config = with_policy(sft_weight=0.1)
    everything = failing([each.prompt for each in PROMPTS])
    everything["pool"] = RewardPool(
        {"bright": Reward(name="bright", scorer=Failing([p.prompt for p in PROMPTS]), attempts=1)},
        {"general": {"bright": 1.0}, "text": {"bright": 1.0}},
        RetryPolicy(backoff_seconds=0.0),
    )
    made = trainer(config, steps=4, **everything, limits=FailureLimits(bad_iterations=3))
    before = weights(made)
    with (
        pytest.warns(UserWarning, match="no group with a reward"),
        pytest.raises(TrainingError, match=r"more than 50% of the groups in 3 iterations.*saved"),
    ):
        made.run(tmp_path, checkpoint=CheckpointConfig(every=100))
    assert made.done == 3
    for name, value in made.trained.items():
        assert torch.equal(value, before[name])
    newest = Checkpoints(tmp_path / "checkpoints").newest()
    assert newest is not None and newest.step == 3
    # Once the reward is repaired, the same command resumes.
    again = trainer(config, steps=4)
    again.run(tmp_path)
    assert again.done == 4


def test_weights_after_failures_equal_those_of_rewards_missing_by_hand() -> None:
    texts = [PROMPTS[0].prompt, PROMPTS[3].prompt]
    failed = trainer(PLAIN, **failing(texts))
    by_hand = trainer(PLAIN)
    collect = by_hand.stream.setting.pool.collect

    def without(groups: Any) -> Any:
        found = collect(groups)
        return [
            {
                name: replace(value, values=None)
                if name == "bright" and group.items[0].prompt in texts
                else value
                for name, value in rewards.items()
            }
            for group, rewards in zip(groups, found, strict=True)
        ]

    by_hand.stream.setting.pool.collect = without
    for _ in range(3):
        failed.step()
        by_hand.step()
    for name, value in failed.trained.items():
        assert torch.equal(value, by_hand.trained[name])


def test_rewards_are_measured_while_the_next_groups_are_sampled() -> None:
    started = threading.Event()
    order: list[str] = []

    class Slow(Measured):
        def score(self, inputs: Any) -> Any:
            order.append("scored")
            started.set()
            return super().score(inputs)

    reward = Reward(name="bright", scorer=Slow("bright", lambda x: float(x.mean())))
    pool = RewardPool({**REWARDS, "bright": reward}, WEIGHTS)
    config = replace(PLAIN, rollout=replace(ROLLOUT, images_at_once=4))
    made = trainer(config, pool=pool)
    sample = made.stream.setting.sampler._groups

    def sampled(*arguments: Any) -> Any:
        if order:
            assert started.wait(20)
        found = sample(*arguments)
        order.append("sampled")
        time.sleep(0.05)
        return found

    made.stream.setting.sampler._groups = sampled
    made.step()
    assert order.index("scored") < len(order) - 1 - order[::-1].index("sampled")


def test_another_reference_policy_is_refused_before_any_step() -> None:
    config = with_policy(beta=0.1)
    made = trainer(config)
    with torch.no_grad():
        for value in made.trained.values():
            value.add_(0.3 * torch.randn_like(value))
    with pytest.raises(TrainingError, match="at the start the velocities of policy and reference"):
        made.step()


def test_prompts_and_images_that_cannot_be_divided_are_refused() -> None:
    from deepgen.rl.loader import Rollouts
    from deepgen.train.parallel.distributed import Processes

    model = tiny_model()
    with pytest.raises(ValueError, match="4 prompts per iteration cannot be divided among 3"):
        Rollouts(setting(model, PLAIN, Processes(rank=0, world_size=3)))
    with pytest.raises(ValueError, match="divided among 3 updates"):
        Rollouts(setting(model, with_policy(updates=3)))


@pytest.mark.parametrize("objective", ["grpo", "nft"])
def test_a_run_cut_within_an_iteration_ends_as_the_unbroken_one(
    tmp_path: Path, objective: Any
) -> None:
    config = with_policy(updates=2, beta=0.01, objective=objective, sft_weight=0.1)
    unbroken = trainer(config, steps=4)
    unbroken.run(tmp_path / "unbroken", logging=LoggingConfig(every=1))
    first = trainer(config, steps=4)
    for _ in range(3):
        first.step()
    first.save(Checkpoints(tmp_path / "cut" / "checkpoints"))
    second = trainer(config, steps=4)
    second.run(tmp_path / "cut", logging=LoggingConfig(every=1))
    for name, value in unbroken.trained.items():
        assert torch.equal(value, second.trained[name]), name


def test_batches_are_lists_of_known_length() -> None:
    made = trainer(PLAIN)
    batches = made.stream.batches(made.model, 0)
    # 4 groups of 4 images at 2 steps, 5 rows each.
    assert len(batches) == len(list(batches)) == 7
    assert all(isinstance(each, PolicyBatch) for each in batches)
    with pytest.raises(IndexError):
        batches[7]
