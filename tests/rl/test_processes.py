"""Several processes learn as one does; killed runs end as unbroken ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deepgen.config.rl import PolicyConfig, RlConfig
from deepgen.config.train import CheckpointConfig, Sharding
from deepgen.rl.rewards.base import Reward
from deepgen.rl.rewards.pool import RewardPool
from deepgen.train.checkpoints import Checkpoints
from deepgen.train.parallel.distributed import SINGLE_PROCESS, Processes
from tests.rl.running import ROLLOUT, WEIGHTS, Measured, run, trainer
from tests.train.killing import Killer, outcome, step_seconds
from tests.train.parallel.together import Together

CONFIG = RlConfig(
    rollout=replace(ROLLOUT, group_size=2),
    policy=PolicyConfig(sft_weight=0.1, beta=0.1),
)


# Rewards in steps, as those of OCR and scenes are: sums of gradients differ in their last bits
# between numbers of processes, and in the next rollout a level of an 8-bit image here and there.
COARSE = {
    "bright": Reward(
        name="bright", scorer=Measured("bright", lambda x: round(500 * float(x.mean())) / 500)
    ),
    "red": Reward(
        name="red",
        scorer=Measured("red", lambda x: round(500 * float(x[..., 0].mean() - x.mean())) / 500),
    ),
}


def learn(processes: Processes, folder: str, sharding: Sharding = "none") -> None:
    """Three updates, the last advantages, and a checkpoint."""
    pool = RewardPool(COARSE, WEIGHTS)
    made = trainer(CONFIG, processes, sharding=sharding, pool=pool)
    made.run(Path(folder), checkpoint=CheckpointConfig(every=100))
    iteration = made.stream._iteration
    advantages = processes.gather(iteration.advantages)
    if processes.is_rank_zero:
        torch.save(torch.cat(advantages), Path(folder, "advantages.pt"))


def weights_in(folder: Path) -> dict[str, torch.Tensor]:
    newest = Checkpoints(folder / "checkpoints").newest()
    assert newest is not None
    return newest.tensors("model")


@pytest.mark.parametrize("sharding", ["none", "full"])
def test_two_processes_have_the_advantages_and_weights_of_one(
    tmp_path: Path, sharding: Sharding
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    learn(SINGLE_PROCESS, str(tmp_path / "one"))
    assert Together(learn, 2, str(tmp_path / "two"), sharding).exit_codes() == [0, 0]
    one, two = (torch.load(tmp_path / name / "advantages.pt") for name in ("one", "two"))
    assert one.shape == (4, 2)
    assert one.abs().max() > 0.5
    # A sharded conditioner encodes all prompts together, which rounds otherwise; then a level of an
    # 8-bit image differs here and there, and so its reward.
    near = 1e-6 if sharding == "none" else 1e-3
    torch.testing.assert_close(two, one, rtol=0, atol=near)
    mine, expected = weights_in(tmp_path / "two"), weights_in(tmp_path / "one")
    assert mine.keys() == expected.keys()
    for name, value in mine.items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=near)


class RlKiller(Killer):
    """Of runs of reinforcement learning with two updates per iteration."""

    def _start(self, folder: Path) -> Together:
        folder.mkdir(exist_ok=True)
        config = replace(CONFIG, policy=replace(CONFIG.policy, updates=2))
        return Together(run, self.world_size, str(folder), self.steps, config)


def test_a_killed_run_ends_bit_for_bit_as_the_unbroken_one(tmp_path: Path) -> None:
    steps = 8
    killer = RlKiller(steps, seed=1)
    killer.finish(tmp_path / "unbroken")
    within = 1.5 * step_seconds(tmp_path / "unbroken")
    killed = tmp_path / "killed"
    for saving in (False, True, False):
        killer.kill(killed, saving=saving, within_seconds=within)
    killer.finish(killed)
    mine, expected = (outcome(tmp_path / name, steps) for name in ("killed", "unbroken"))
    assert mine[0] == expected[0]
    clean = [
        [
            {name: value for name, value in line.items() if not name.startswith("latency/")}
            for line in lines
        ]
        for _, lines in (mine, expected)
    ]
    assert clean[0] == clean[1]
