"""Several processes learn as one does; killed runs end as unbroken ones."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from pathlib import Path

import torch

from deepgen.config.rl import PolicyConfig, RlConfig
from deepgen.config.train import CheckpointConfig
from deepgen.train.checkpoints import Checkpoints
from deepgen.train.parallel.distributed import SINGLE_PROCESS, Processes
from tests.rl.running import ROLLOUT, run, trainer
from tests.train.killing import Killer, outcome, step_seconds
from tests.train.parallel.together import Together

CONFIG = RlConfig(
    rollout=replace(ROLLOUT, group_size=2), policy=PolicyConfig(sft_weight=0.1, beta=0.1)
)


def learn(processes: Processes, folder: str) -> None:
    """Three updates, the last advantages, and a checkpoint."""
    made = trainer(CONFIG, processes)
    made.run(Path(folder), checkpoint=CheckpointConfig(every=100))
    iteration = made.stream._iteration
    advantages = processes.gather(iteration.advantages)
    if processes.is_rank_zero:
        torch.save(torch.cat(advantages), Path(folder, "advantages.pt"))


def weights_in(folder: Path) -> dict[str, torch.Tensor]:
    newest = Checkpoints(folder / "checkpoints").newest()
    assert newest is not None
    return newest.tensors("model")


def test_two_processes_have_the_advantages_and_weights_of_one(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    learn(SINGLE_PROCESS, str(tmp_path / "one"))
    assert Together(learn, 2, str(tmp_path / "two")).exit_codes() == [0, 0]
    one, two = (torch.load(tmp_path / name / "advantages.pt") for name in ("one", "two"))
    assert one.shape == (4, 2)
    assert one.abs().max() > 0.5
    # Rewards are of 8-bit images, which rounding may move by a level.
    torch.testing.assert_close(two, one, rtol=0, atol=1e-6)
    mine, expected = weights_in(tmp_path / "two"), weights_in(tmp_path / "one")
    assert mine.keys() == expected.keys()
    for name, value in mine.items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-6)


class RlKiller(Killer):
    """Of runs of reinforcement learning with two updates per iteration."""

    def _start(self, folder: Path) -> Together:
        folder.mkdir(exist_ok=True)
        config = replace(CONFIG, policy=replace(CONFIG.policy, updates=2))
        return Together(run, self.world_size, str(folder), self.steps, config)


def test_a_killed_run_ends_bit_for_bit_as_the_unbroken_one(tmp_path: Path) -> None:
    steps = 8
    killer = RlKiller(steps, seed=1)
    killer.times = random.Random(int(time.time()))
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
