"""Settings of training, in groups; no torch in here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from deepgen.config.checks import (
    check_at_least,
    check_below_one,
    check_fraction,
    check_positive,
    check_within,
)
from deepgen.config.codec import MAY_CHANGE
from deepgen.config.model import MAX_LORA_ALPHA, MAX_LORA_RANK

Levels = Literal["uniform", "logit_normal"]
"""How noise levels are drawn: all alike, or the middle ones more often (SD3, section 3.1)."""

Weighting = Literal["none", "sigma_sqrt", "cosmap"]
"""How much each noise level counts: all alike, or as in SD3, section 3.1."""

Precision = Literal["auto", "float32", "bfloat16"]

Sharding = Literal["auto", "none", "optimizer", "full"]

Logger = Literal["tensorboard", "wandb"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraConfig:
    """A low-rank adapter; the defaults are those that DeepGen was fine-tuned with."""

    rank: int = 64
    """Rank of the update of each weight."""
    alpha: float = 128.0
    """The update is scaled by ``alpha / rank``."""
    dropout: float = 0.05
    """Dropout of the inputs of adapters, in training."""

    def __post_init__(self) -> None:
        check_within("rank", self.rank, 1, MAX_LORA_RANK)
        check_positive("alpha", self.alpha)
        check_within("alpha", self.alpha, 0, MAX_LORA_ALPHA)
        check_below_one("dropout", self.dropout)


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """Optimizer and learning rate: linear warmup, then half a cosine."""

    kind: Annotated[Literal["adamw", "muon"], arg(name="optimizer")] = "adamw"
    """adamw as published; muon orthogonalises the updates of matrices, for small models from
    scratch."""
    lr: float = 1e-4
    """Peak learning rate."""
    beta1: float = 0.9
    """AdamW's decay of the mean of gradients."""
    beta2: float = 0.95
    """AdamW's decay of the mean of squared gradients."""
    weight_decay: float = 0.05
    """Decoupled weight decay of tensors of two or more dimensions."""
    warmup_ratio: float = 0.01
    """Fraction of the steps over which the learning rate rises."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm."""

    def __post_init__(self) -> None:
        check_positive("lr", self.lr)
        check_positive("max_grad_norm", self.max_grad_norm)
        check_at_least("weight_decay", self.weight_decay, 0)
        check_fraction("warmup_ratio", self.warmup_ratio)
        check_below_one("beta1", self.beta1)
        check_below_one("beta2", self.beta2)


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowConfig:
    """Noise levels of the flow-matching loss."""

    levels: Levels = "uniform"
    """How noise levels are sampled: uniformly as published, or logit-normally (SD3)."""
    weighting: Weighting = "none"
    """Weight of each noise level: 1 as published, 1 / sigma^2, or cosmap,
    2 / (pi (1 - 2 sigma + 2 sigma^2))."""
    round_sigmas: bool = False
    """Add noise by sigmas rounded to bfloat16 while the DiT gets exact timesteps, as the public
    implementation does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ComputeConfig:
    """How a step is computed; all but the precision may change within a run."""

    precision: Precision = "auto"
    """Precision of matrix products; auto is float32 on a CPU and bfloat16 on a GPU. Weights, losses
    and sums are always float32."""
    packing: Annotated[bool, MAY_CHANGE] = True
    """Compute prompts of different length end to end, without padding."""
    prompt_gradients: Annotated[bool, MAY_CHANGE] = False
    """Encode prompts with autograd even where nothing in the language model is trained: the same
    gradients, for more work."""
    checkpoint_activations: Annotated[bool, MAY_CHANGE] = False
    """Recompute blocks in the backward pass: less memory, about a third more work, the same
    gradients."""
    compile: Annotated[bool, MAY_CHANGE] = False
    """Compile the blocks of the DiT with torch.compile; on a CPU it needs a C++ compiler."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ParallelConfig:
    """What is sharded across processes."""

    sharding: Annotated[Sharding, MAY_CHANGE] = "auto"
    """none: each process has the full model; optimizer: float32 weights, gradients, optimizer
    states and EMA are sharded; full: all weights but those of VAE and vision tower, too, which is
    slower; auto: optimizer in sft on several GPUs, else none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointConfig:
    """When checkpoints are written, and which are kept."""

    every: Annotated[int, arg(name="save-every")] = 250
    """Steps between checkpoints."""
    minutes: Annotated[float | None, arg(name="save-minutes", metavar="FLOAT")] = 30.0
    """A checkpoint is also written when the last one is this many minutes old."""
    keep: int = 3
    """How many of the newest checkpoints are kept."""
    keep_every: Annotated[int | None, arg(metavar="INT", help_behavior_hint="")] = None
    """At multiples of this many steps a checkpoint is written too, and kept for as long as this is
    set (default: none)."""

    def __post_init__(self) -> None:
        check_at_least("save_every", self.every, 1)
        check_positive("save_minutes", self.minutes)
        check_at_least("keep", self.keep, 1)
        check_at_least("keep_every", self.keep_every, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggingConfig:
    """Metrics, sample images and validation of a run."""

    every: Annotated[int, arg(name="log-every")] = 10
    """Steps between lines of metrics.jsonl."""
    to: Annotated[tuple[Logger, ...], arg(name="log-to")] = ()
    """Loggers besides metrics.jsonl; each needs its extra installed."""
    sample_prompts: tuple[str, ...] = ()
    """Images of these prompts are generated into OUTPUT/samples, with fixed seeds."""
    sample_edits: tuple[tuple[str, Path], ...] = ()
    """Edits to watch: instructions, each with an image."""
    sample_every: Annotated[int | None, arg(metavar="INT", help_behavior_hint="")] = None
    """Steps between sample images, and between validation losses (default: as --save-every); both
    also come at the end."""
    peak_tflops: Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="")] = None
    """Peak rate of the device's matrix products, for MFU (default: by its datasheet, for usual
    GPUs)."""

    def __post_init__(self) -> None:
        check_at_least("log_every", self.every, 1)
        check_at_least("sample_every", self.sample_every, 1)
        check_positive("peak_tflops", self.peak_tflops)
