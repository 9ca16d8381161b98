"""Assembling the stage of reinforcement learning (DeepGen paper, section 4.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deepgen.checkpoint.files import ModelFolder
from deepgen.checkpoint.hub import resolve
from deepgen.checkpoint.parts import vae_part
from deepgen.config.codec import compared_values, flattened, to_values
from deepgen.config.rl import RlStageConfig
from deepgen.data.loader import Loader, LoaderOptions
from deepgen.errors import DataError
from deepgen.flow.schedule import sampling_sigmas
from deepgen.model import DeepGen
from deepgen.rl.group_records import save_group
from deepgen.rl.grpo import GrpoObjective
from deepgen.rl.loader import Rollouts, Setting
from deepgen.rl.nft import NftObjective
from deepgen.rl.objective import RlObjective
from deepgen.rl.prompts import Prompt, PromptSet, PromptStream, check_prompts, read_prompts
from deepgen.rl.reference import ReferencePolicy
from deepgen.rl.rewards.base import Reward, Rewards, check_weights
from deepgen.rl.rewards.pool import RewardPool
from deepgen.rl.rewards.registry import create_rewards
from deepgen.rl.rollout import Group, GroupSampler, RolloutRng
from deepgen.stages.batches import FlowBatches
from deepgen.stages.build import (
    Run,
    flow_objective,
    is_mixed,
    make_trainer,
    open_data,
    prepared_model,
    shard_model,
)
from deepgen.stages.card import make_card
from deepgen.stages.inputs import describe_inputs
from deepgen.stages.microbatches import task_plans
from deepgen.stages.reward_evaluation import RewardEvaluation
from deepgen.stages.samples import Samples
from deepgen.train.identity import RunIdentity
from deepgen.train.monitor.speed import Clock
from deepgen.train.objective import FlowObjective
from deepgen.train.optim import warmup_then_constant
from deepgen.train.parallel.distributed import SINGLE_PROCESS, Processes
from deepgen.train.parallel.sharding import Parallelism, Shards
from deepgen.train.sample_rng import SampleRng
from deepgen.vae import LatentCodec


def read_sets(config: RlStageConfig) -> list[PromptSet]:
    """The prompts of a stage.

    Raises:
        DataError: There are none, or a file cannot be read.
    """
    settings = config.rl
    if not settings.prompts:
        raise DataError(
            "no prompts to learn from; make files of them with deepgen data prompts, then add "
            "--rl.prompts"
        )
    weights = settings.prompt_weights or (1.0,) * len(settings.prompts)
    return [
        PromptSet(prompts=read_prompts(path, category=settings.category), weight=weight)
        for path, weight in zip(settings.prompts, weights, strict=True)
    ]


def open_rewards(
    config: RlStageConfig, prompts: Sequence[Prompt], given: Mapping[str, Reward] | None
) -> Mapping[str, Reward]:
    """The rewards of a stage; checks all that can be checked before a step is made.

    Args:
        config: Names them, and has their weights.
        prompts: All.
        given: Instead of those that the configuration names.

    Raises:
        DataError: A prompt lacks what a reward needs.
        ScorerError: A reward cannot be used, or is wrong about images whose result is known.
        ValueError: Weights without rewards, categories without weights, no rewards.
    """
    names = config.rl.rewards if given is None else given
    if not names:
        raise ValueError(
            "no rewards to learn from; name them in the file of --config, as rl.rewards, with "
            "their weights by category, as rl.weights"
        )
    # Before anything is loaded for them.
    check_weights(config.rl.weights, names, sorted({each.category for each in prompts}))
    rewards = create_rewards(config.rl.rewards) if given is None else given
    check_prompts(prompts, rewards, config.rl.weights)
    for each in rewards.values():
        each.check()
    return rewards


def build_rl(
    config: RlStageConfig,
    *,
    device: torch.device,
    processes: Processes = SINGLE_PROCESS,
    rewards: Mapping[str, Reward] | None = None,
) -> Run:
    """Load the model, the prompts and the rewards, after ``resolve_settings``.

    Args:
        config: The stage.
        device: Of this process.
        processes: Those that train together.
        rewards: Instead of those that the configuration names.

    Raises:
        CheckpointError: The model cannot be loaded.
        DataError: Prompts or data cannot be used.
        ScorerError: A reward cannot be used.
        ValueError: Settings that do not work together.
    """
    sets = read_sets(config)
    prompts = [prompt for each in sets for prompt in each.prompts]
    found = open_rewards(config, prompts, rewards)
    samples = Samples(config)
    folder = resolve(config.model)
    model = prepared_model(config, folder, device)
    autocast = torch.bfloat16 if is_mixed(config.compute.precision, device) else None
    policy = config.rl.policy
    # Before it is sharded.
    reference = ReferencePolicy(model, autocast=autocast) if policy.beta else None
    shards = shard_model(config, model, "none", processes)
    model.vae = LatentCodec(vae_part(ModelFolder(folder)).load(torch.float32, device))
    model.vae.eval().requires_grad_(False)
    clock = Clock(device)
    data = _supervised(config, model, processes, clock, shards)
    pool = RewardPool(found, config.rl.weights)
    side = config.rl.rollout.side or model.defaults.height
    rng = RolloutRng(config.seed)
    cells = side // 8 // model.dit.config.patch_size
    setting = Setting(
        config=config.rl,
        prompts=PromptStream(sets, seed=config.seed, mode=config.rl.prompt_mode),
        pool=pool,
        sampler=GroupSampler(model, config.rl.rollout, rng, side=side, autocast=autocast),
        rng=rng,
        sigmas=sampling_sigmas(config.rl.rollout.steps, model.schedule, tokens=cells**2).tolist(),
        seed=config.seed,
        microbatch_size=config.microbatch_size,
        reference=reference,
        supervised=data,
        processes=processes,
        clock=clock,
        watcher=_recorder(config, processes),
        encodes_together=shards is not None and shards.regathers,
    )
    objective: Any = (
        NftObjective(policy, largest=config.rl.advantages.clip, autocast=autocast)
        if policy.objective == "nft"
        else GrpoObjective(policy, autocast=autocast)
    )
    flow: FlowObjective | None = None
    if data is not None:
        make = flow_objective(config, model, "none")
        flow = make(SampleRng(config.seed, config.stage), caption_drop=config.data.caption_drop)
    reports = processes.world_size == 1
    trainer = make_trainer(
        config,
        model,
        RlObjective(objective, flow, policy.sft_weight, reports_gradients=reports),
        Rollouts(setting),
        warmup_then_constant,
        _identity(config, model, prompts, found, data),
        Parallelism(processes=processes, shards=shards),
        clock=clock,
        supervised=data,
    )
    loader = None if data is None else data.loader
    card = make_card(config, loader, model, folder, settings=compared_values(config))
    return Run(
        config=config,
        model=model,
        trainer=trainer,
        samples=samples,
        validation=RewardEvaluation(config, found),
        base=folder,
        card={**card, "rewards": {name: dict(each.identity) for name, each in found.items()}},
        latents_source=f"{len(prompts):,} prompts; rewards: {', '.join(found)}",
        close=pool.close,
    )


def _supervised(
    config: RlStageConfig,
    model: DeepGen,
    processes: Processes,
    clock: Clock,
    shards: Shards | None,
) -> FlowBatches | None:
    """The data of the supervised loss, where it counts.

    Raises:
        DataError: There are none.
        ValueError: Processes that share a model would have different numbers of micro-batches.
    """
    if not config.rl.policy.sft_weight:
        return None
    if config.data.folder is None:
        raise DataError(
            "the supervised loss needs --data, made by deepgen data import; or learn from rewards "
            "alone with --rl.policy.sft-weight 0"
        )
    data = open_data(config)
    tasks = task_plans(config, data, processes.world_size)
    count = sum(each.microbatches for each in tasks.values())
    if shards is not None and count % processes.world_size:
        raise ValueError(
            f"a step has {count} supervised micro-batches, which cannot be divided equally among "
            f"{processes.world_size} processes that share a model; use multiples of them"
        )
    side = config.data.side or round((model.defaults.height * model.defaults.width) ** 0.5)
    options = LoaderOptions(
        tasks=tasks, seed=config.seed, side=side, max_bad_fraction=config.data.max_bad_fraction
    )
    shortened = model.conditioner.tokenize.shortened
    return FlowBatches(Loader(data, options), model.vae, processes, clock, shortened)


def _identity(
    config: RlStageConfig,
    model: DeepGen,
    prompts: Sequence[Prompt],
    rewards: Mapping[str, Reward],
    data: FlowBatches | None,
) -> RunIdentity:
    """What the run is recognised by, prompts and models of rewards included."""
    side = config.rl.rollout.side or model.defaults.height
    mixed = is_mixed(config.compute.precision, model.device)
    inputs = describe_inputs(model, side=side, padding="none", mixed=mixed)
    digest = sha256(repr([each.to_json() for each in prompts]).encode()).hexdigest()[:16]
    compared = {
        **flattened(compared_values(config)),
        **inputs,
        "rl.prompt_texts": digest,
        "rl.rewards": {name: dict(each.identity) for name, each in rewards.items()},
        "data": "" if data is None else data.loader.data.manifest.identity,
    }
    return RunIdentity(compared=compared, settings=to_values(config))


def _recorder(config: RlStageConfig, processes: Processes) -> Any:
    """Keeps the first groups of an iteration, every so often, for the run's page."""
    if not processes.is_rank_zero:
        return None
    folder: Path = config.output

    def record(
        iteration: int, groups: Sequence[Group], rewards: Sequence[Rewards], advantages: Tensor
    ) -> None:
        if iteration % config.rl.watch_groups:
            return
        shown = zip(groups[:2], rewards, advantages, strict=False)
        for number, (group, own, scores) in enumerate(shown, start=1):
            save_group(
                folder,
                step=iteration * config.rl.policy.updates + 1,
                group=number,
                prompt=group.key.prompt,
                images=group.images,
                rewards=own,
                advantages=scores.tolist(),
            )

    return record
