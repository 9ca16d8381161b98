"""Settings of reinforcement learning (DeepGen paper, section 4.3, MR-GRPO); no torch in here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Suppress, arg

from deepgen.config.checks import check_at_least, check_below_one, check_fraction, check_positive
from deepgen.config.codec import MAY_CHANGE
from deepgen.config.stage import Stage, StageConfig

Sampler = Literal["cps", "flow_sde", "dance_sde"]
"""How noise is added in a rollout, see ``flow/sde.py``."""

Scaling = Literal["cps", "gauss", "equal"]
"""How much each step counts in the log-probability."""

Estimator = Literal["gdpo", "grpo", "grpo_global_std", "reinforcepp"]

Divergence = Literal["v", "v_over_var", "x"]
"""Squared distance of velocities; the same over twice the step's variance; the KL divergence of the
two transitions, per value of the latents."""

Objective = Literal["grpo", "nft"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutConfig:
    """How images are sampled to learn from."""

    prompts: int = 32
    """Prompts per iteration, of all processes together."""
    group_size: int = 8
    """Images per prompt; advantages compare images inside this group."""
    steps: int = 20
    """Denoising steps of a rollout."""
    sampler: Sampler = "cps"
    """cps keeps the noise level of every step; flow_sde and dance_sde add more noise."""
    eta: float = 0.7
    """How much noise a stochastic step adds, from 0 to 1."""
    window: Annotated[int | None, arg(metavar="INT|None")] = 6
    """Consecutive steps that are stochastic and learned from, beginning anywhere in the first half;
    None makes all steps stochastic and learns from ``trained_fraction`` of them."""
    trained_fraction: float = 0.6
    """Without a window: fraction of the steps that are learned from, drawn anew in each
    iteration."""
    shared_noise: bool = True
    """All images of a group start from the same noise; not with nft, which adds none later."""
    scaling: Scaling = "cps"
    """How much each step counts: cps as published, gauss as in Flow-GRPO, equal all alike."""
    side: Annotated[int | None, arg(metavar="PIXELS", help_behavior_hint="")] = None
    """Height and width of the images (default: the model's)."""
    images_at_once: int = 32
    """Images sampled together on one process."""

    def __post_init__(self) -> None:
        check_at_least("prompts", self.prompts, 1)
        check_at_least("group_size", self.group_size, 2)
        check_at_least("rollout steps", self.steps, 3)
        check_at_least("window", self.window, 1)
        check_at_least("images_at_once", self.images_at_once, 1)
        check_fraction("trained_fraction", self.trained_fraction)
        check_positive("eta", self.eta)
        if self.sampler == "cps" and self.eta > 1:
            raise ValueError(f"eta of cps must be at most 1, got {self.eta}")
        if self.window is not None and self.window > self.last - self.steps // 2:
            raise ValueError(
                f"a window of {self.window} steps does not fit into {self.steps} rollout steps "
                f"from anywhere in their first half; use at most {self.last - self.steps // 2}"
            )
        check_at_least("trained_fraction * (steps - 1)", self.trained, 1)

    @property
    def last(self) -> int:
        """Number of steps that can be stochastic: all but the last."""
        return self.steps - 1

    @property
    def trained(self) -> int:
        """Steps per image that are learned from."""
        if self.window is not None:
            return self.window
        return min(self.last, int(self.trained_fraction * self.steps))


@dataclass(frozen=True, kw_only=True, slots=True)
class AdvantageConfig:
    """How rewards become advantages."""

    estimator: Estimator = "gdpo"
    """gdpo normalises every reward by itself, as published; grpo, grpo_global_std and reinforcepp
    their weighted sum."""
    floor: float = 0.1
    """Smallest standard deviation over the batch that gdpo divides by."""
    clip: float = 5.0
    """Largest advantage."""

    def __post_init__(self) -> None:
        check_at_least("floor", self.floor, 0)
        check_positive("clip", self.clip)


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyConfig:
    """What an update minimises: ``(1 - sft_weight) (policy + beta KL) + sft_weight SFT``."""

    objective: Objective = "grpo"
    """grpo as published; nft is DiffusionNFT: forward process, no likelihood."""
    updates: int = 1
    """Optimizer steps per iteration, each on its part of every group's images."""
    clip_low: float = 1e-4
    """Ratios of probabilities are clipped to 1 - clip_low from below."""
    clip_high: float = 1e-4
    """And to 1 + clip_high from above."""
    old_log_probs: Literal["auto", "stored", "current"] = "auto"
    """Where the ratio's denominator is from: the rollout, or this update itself, where the ratio is
    exactly 1; auto is current with one update per iteration, else stored."""
    beta: float = 1e-4
    """Weight of the divergence from the reference policy; with 0 there is none."""
    divergence: Divergence = "v"
    """Its form."""
    sft_weight: float = 1e-4
    """Weight of the supervised loss on --data; with 0 no data are needed."""
    nft_beta: float = 1.0
    """DiffusionNFT: how far the positive and negative policies are from the old one."""

    def __post_init__(self) -> None:
        check_at_least("updates", self.updates, 1)
        check_positive("clip_low", self.clip_low)
        check_positive("clip_high", self.clip_high)
        check_at_least("beta", self.beta, 0)
        check_below_one("sft_weight", self.sft_weight)
        check_positive("nft_beta", self.nft_beta)
        if self.updates > 1 and self.old_log_probs == "current":
            raise ValueError(
                f"old_log_probs current needs one update per iteration, got {self.updates}; use "
                "stored"
            )

    @property
    def stores_log_probs(self) -> bool:
        """Whether ratios are to the probabilities of the rollout."""
        return self.old_log_probs == "stored" or (self.old_log_probs == "auto" and self.updates > 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class RlConfig:
    """Prompts, rollouts, rewards, advantages and the loss."""

    prompts: Annotated[tuple[Path, ...], MAY_CHANGE] = ()
    """Files of prompts: JSON lines with id, prompt, category and target_texts, or one a line."""
    prompt_weights: tuple[float, ...] = ()
    """How often prompts of each file are drawn (default: all alike)."""
    prompt_mode: Literal["sample_proportional", "weight_only"] = "sample_proportional"
    """Whether a weight is that of each prompt of a file, or of the whole file."""
    category: str = "general"
    """Category of prompts that state none."""
    rewards: Annotated[Mapping[str, Mapping[str, Any]], Suppress] = field(default_factory=dict)
    """Rewards by name, each with its options (in the file of --config)."""
    weights: Annotated[Mapping[str, Mapping[str, float]], Suppress] = field(default_factory=dict)
    """By category, the weight of each reward (in the file of --config)."""
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    """How images are sampled."""
    advantages: AdvantageConfig = field(default_factory=AdvantageConfig)
    """How rewards become advantages."""
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    """What an update minimises."""
    held_out: Annotated[Path | None, MAY_CHANGE, arg(metavar="FILE", help_behavior_hint="")] = None
    """Prompts whose rewards are measured every --sample-every steps, as users sample them (default:
    none)."""
    held_out_prompts: Annotated[int, MAY_CHANGE] = 64
    """The first of them that are measured."""
    watch_groups: Annotated[int, MAY_CHANGE] = 10
    """Iterations between groups that are kept with their images, rewards and advantages."""

    def __post_init__(self) -> None:
        check_at_least("watch_groups", self.watch_groups, 1)
        check_at_least("held_out_prompts", self.held_out_prompts, 1)
        if self.prompt_weights and len(self.prompt_weights) != len(self.prompts):
            raise ValueError(
                f"there are {len(self.prompt_weights)} prompt_weights for {len(self.prompts)} "
                "files of prompts; give one for each"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class RlStageConfig(StageConfig):
    """The stage of reinforcement learning: what all stages have, and its own settings."""

    stage: Annotated[Stage, Suppress] = "rl"
    """rl trains the whole DiT; rl_lora only adapters on it, and needs no copy as reference."""
    rl: RlConfig = field(default_factory=RlConfig)
    """Reinforcement learning."""

    def __post_init__(self) -> None:
        StageConfig.__post_init__(self)
        if self.adapters is not None and self.lora.dropout:
            raise ValueError(
                f"lora.dropout must be 0 in reinforcement learning, got {self.lora.dropout}: with "
                "dropout a rollout and its update would be of different policies"
            )


def blank_config(stage: object) -> StageConfig:
    """The settings of a stage, to be filled in: those of ``rl`` and ``rl_lora`` have more."""
    return RlStageConfig() if stage in ("rl", "rl_lora") else StageConfig()
