"""A small run of reinforcement learning: a tiny model that learns to draw bright images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepgen.config.rl import PolicyConfig, RlConfig, RolloutConfig
from deepgen.config.train import CheckpointConfig, LoggingConfig, LoraConfig, Sharding
from deepgen.flow.schedule import sampling_sigmas, training_sigmas
from deepgen.model import DeepGen
from deepgen.rl.grpo import GrpoObjective
from deepgen.rl.loader import Rollouts, Setting
from deepgen.rl.nft import NftObjective
from deepgen.rl.objective import RlObjective
from deepgen.rl.prompts import Prompt, PromptSet, PromptStream
from deepgen.rl.reference import ReferencePolicy
from deepgen.rl.rewards.base import Reward
from deepgen.rl.rewards.pool import RewardPool
from deepgen.rl.rollout import GroupSampler, RolloutRng
from deepgen.scoring.answers import Answer, AnswerStatus
from deepgen.scoring.scorer import ScorerInput
from deepgen.train.identity import RunIdentity
from deepgen.train.loop import LoopConfig
from deepgen.train.objective import FlowObjective
from deepgen.train.optim import AdamW, warmup_then_constant
from deepgen.train.parallel.distributed import SINGLE_PROCESS, Processes
from deepgen.train.parallel.sharding import Parallelism, shard
from deepgen.train.sample_rng import SampleRng
from deepgen.train.trainable import make_trainable
from deepgen.train.trainer import Trainer
from tests.checkpoint.models import tiny_model
from tests.train import killing

PROMPTS = tuple(
    Prompt(id=f"p{place}", prompt=text, category=category)
    for place, (text, category) in enumerate(
        [
            ("a red cube", "general"),
            ("two cats", "general"),
            ("rain", "text"),
            ("an old map of the coast", "text"),
            ("a lamp", "general"),
        ]
    )
)

WEIGHTS = {"general": {"bright": 1.0}, "text": {"bright": 0.3, "red": 0.7}}

ROLLOUT = RolloutConfig(prompts=4, group_size=4, steps=5, window=2, side=32, eta=0.7)


class Measured:
    """A number of an image, by a function of its pixels from 0 to 1."""

    identity: Mapping[str, str] = {}
    bounds = (-1.0, 1.0)

    def __init__(self, name: str, function: Callable[[np.ndarray], float]) -> None:
        self.name = name
        self.function = function

    def score(self, inputs: Sequence[ScorerInput]) -> list[Answer[float]]:
        return [
            Answer(
                status=AnswerStatus.SCORED,
                value=self.function(np.asarray(each.image, dtype=np.float64) / 255),
            )
            for each in inputs
        ]


REWARDS = {
    "bright": Reward(name="bright", scorer=Measured("bright", lambda x: float(x.mean()))),
    "red": Reward(
        name="red",
        scorer=Measured("red", lambda x: float(x[..., 0].mean() - x[..., 1:].mean())),
    ),
}


def setting(
    model: DeepGen,
    config: RlConfig,
    processes: Processes = SINGLE_PROCESS,
    *,
    rewards: Mapping[str, Reward] = REWARDS,
    **options: Any,
) -> Setting:
    """The stream's."""
    rng = RolloutRng(0)
    sigmas = sampling_sigmas(config.rollout.steps, model.schedule, tokens=4).tolist()
    assert config.rollout.side is not None
    values: dict[str, Any] = {
        "config": config,
        "prompts": PromptStream([PromptSet(prompts=PROMPTS)], seed=0),
        "pool": RewardPool(rewards, WEIGHTS),
        "sampler": GroupSampler(model, config.rollout, rng, side=config.rollout.side),
        "rng": rng,
        "sigmas": sigmas,
        "seed": 0,
        "microbatch_size": 5,
        "processes": processes,
    }
    return Setting(**{**values, **options})


def trainer(
    config: RlConfig | None = None,
    processes: Processes = SINGLE_PROCESS,
    *,
    steps: int = 3,
    lora: bool = False,
    lr: float = 1e-3,
    sharding: Sharding = "none",
    **options: Any,
) -> Any:
    """A run of the tiny model: a :class:`Trainer`."""
    config = config or RlConfig(rollout=ROLLOUT, policy=PolicyConfig(sft_weight=0.1, beta=0.01))
    model = tiny_model()
    adapters = LoraConfig(rank=2, alpha=4.0, dropout=0.0) if lora else None
    make_trainable(model, "rl_lora" if lora else "rl", lora=adapters, seed=1)
    reference = ReferencePolicy(model) if config.policy.beta else None
    shards = shard(model, sharding, processes, mixed=False)
    options = {
        "reference": reference,
        "encodes_together": shards is not None and shards.regathers,
        **options,
    }
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    policy = config.policy
    if policy.sft_weight:

        def supervised(step: int) -> Sequence[Any]:
            # The first two steps' drawings and edits over and over, shared among processes.
            return killing.batches(step)[processes.rank :: processes.world_size]

        options = {"supervised": supervised, **options}
    objective: Any = (
        NftObjective(policy, largest=config.advantages.clip)
        if policy.objective == "nft"
        else GrpoObjective(policy)
    )
    flow = FlowObjective(training_sigmas(model.schedule), SampleRng(0, "rl"))
    return Trainer(
        model,
        RlObjective(objective, flow if policy.sft_weight else None, policy.sft_weight),
        Rollouts(setting(model, config, processes, **options)),
        AdamW(trained.items(), lr=lr, weight_decay=0.0),
        LoopConfig(steps=steps, schedule=partial(warmup_then_constant, warmup=0)),
        identity=RunIdentity(settings={"steps": steps}),
        parallel=Parallelism(processes=processes, shards=shards),
    )


def run(
    processes: Processes, folder: str, steps: int, config: RlConfig | None = None, every: int = 1
) -> None:
    """The run, or what is left of it."""
    trainer(config, processes, steps=steps).run(
        Path(folder),
        checkpoint=CheckpointConfig(every=every, keep=2),
        logging=LoggingConfig(every=1),
    )


def weights(made: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in made.trained.items()}
