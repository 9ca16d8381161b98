"""Every knob of a supervised stage (DeepGen paper, section 4, tables 8 and 9); without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from deepgen.config.model import Padding
from deepgen.config.train import Levels, LoraConfig, Weighting

Stage = Literal["pretrain", "sft", "lora"]
"""Alignment of the bridge with a finished DiT; joint fine-tuning; adapters on the DiT alone."""

Precision = Literal["auto", "float32", "bfloat16"]

Sharding = Literal["auto", "none", "optimizer", "full"]

Moments = Literal["auto", "always", "never"]

Logger = Literal["tensorboard", "wandb"]

PASSES: dict[Stage, tuple[int, int]] = {"pretrain": (3, 1), "sft": (2, 1), "lora": (4, 4)}
"""Forward passes of drawings and of edits per update where nothing else is said: of pretrain and
sft on every process, as published; of lora in all, since more would leave few images few updates.
"""


def default_passes(stage: Stage, world_size: int) -> tuple[int, int]:
    """Forward passes of drawings and of edits per update, of all processes together.

    >>> default_passes("sft", 64), default_passes("lora", 2)
    ((128, 64), (4, 4))
    """
    drawings, edits = PASSES[stage]
    times = 1 if stage == "lora" else world_size
    return times * drawings, times * edits


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """How weights follow gradients, with a linear rise and half a cosine."""

    kind: Literal["adamw", "muon"] = "adamw"
    """adamw as published; muon orthogonalises the updates of matrices, for small models from
    scratch."""
    lr: float = 1e-4
    """Peak learning rate."""
    beta1: float = 0.9
    """Decay of the mean of gradients, of adamw."""
    beta2: float = 0.95
    """Decay of the mean of their squares, of adamw."""
    weight_decay: float = 0.05
    """On tensors of two or more dimensions."""
    warmup_share: float = 0.01
    """Share of the updates over which the learning rate rises."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""

    def __post_init__(self) -> None:
        for name, value in (("lr", self.lr), ("max_grad_norm", self.max_grad_norm)):
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be a positive number, got {value}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must be at least 0, got {self.weight_decay}")
        if not 0 <= self.warmup_share <= 1:
            raise ValueError(f"warmup_share must be from 0 to 1, got {self.warmup_share}")
        for name, beta in (("beta1", self.beta1), ("beta2", self.beta2)):
            if not 0 <= beta < 1:
                raise ValueError(f"{name} must be in [0, 1), got {beta}")


@dataclass(frozen=True, kw_only=True, slots=True)
class StageConfig:
    """A stage: what is trained from what, on what, and for how long."""

    stage: Annotated[Stage, tyro.conf.Suppress] = "sft"
    """pretrain trains bridge and think tokens; sft the whole DiT too, and adapters on the VLM; lora
    only adapters on the DiT."""
    model: str = "mini"
    """What to start from: the embedded model, a folder or a hub id."""
    data: Path | None = None
    """Folder made by deepgen data import."""
    output: Path = Path("runs/stage")
    """Folder of the run: checkpoints, metrics, sample images, and in the end the model."""
    steps: int = 1000
    """Updates."""
    microbatch_size: int = 4
    """Samples per forward pass."""
    drawing_microbatches: int | None = None
    """Forward passes of text-to-image per update, of all processes together; all samples of an
    update count alike (default: as published for one process, times the processes that the run
    begins with; in lora 4 on any number of them)."""
    edit_microbatches: int | None = None
    """Forward passes of edits per update, likewise."""
    side: int | None = None
    """Images are brought to about SIDE * SIDE pixels (default: the model's own)."""
    moments: Moments = "auto"
    """Whether images are encoded beforehand: always wants what deepgen data cache has made for
    this VAE and side, never has the VAE encode at every visit, auto takes the cache if there is one
    when the run begins."""
    caption_drop: float = 0.1
    """Share of text-to-image samples whose caption is left out, for guidance."""
    levels: Levels = "uniform"
    """How noise levels are drawn: all alike as published, or the middle ones more often."""
    weighting: Weighting = "none"
    """How much each noise level counts: all alike as published, 1 / sigma^2, or the cosine map's
    2 / (pi (1 - 2 sigma + 2 sigma^2))."""
    round_sigmas: bool = False
    """Noise by levels rounded to bfloat16 while the DiT is told exact ones, as the public
    implementation does."""
    padding: Padding | None = None
    """How prompts of a micro-batch pad each other (default: as the model says)."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Optimizer and learning rate."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """Adapters: in sft on the language model, in lora on the DiT."""
    freeze_vlm: bool = False
    """No adapters in sft: the language model stays as it is."""
    ema_decay: float | None = None
    """Decay of an average of the weights, which is then what comes out (default: none)."""
    precision: Precision = "auto"
    """What products are computed in; auto is float32 on a CPU and bfloat16 on a GPU."""
    packing: bool = True
    """Compute prompts of different length end to end, instead of filling up the shorter ones."""
    prompt_gradients: bool = False
    """Read prompts with autograd even where nothing in the language model is trained: the same
    gradients, for more work."""
    checkpoint_activations: bool = False
    """Compute blocks again in the backward pass: less memory, about a third more work, the same
    gradients."""
    compile: bool = False
    """Have torch.compile take the blocks of the DiT; on a CPU it needs a C++ compiler."""
    sharding: Sharding = "auto"
    """What several processes divide among themselves: nothing, so each has the whole model; what
    the optimizer works on (float32 weights, gradients, moments, average); or all weights too, which
    is slower. auto is optimizer in sft on several GPUs, else none."""
    seed: int = 0
    """Of the order of samples and of all noise."""
    max_bad_share: float = 0.01
    """Share of the samples that may turn out damaged, and be replaced by others, before the run
    stops; two always may."""
    save_every: int = 250
    """Updates between checkpoints."""
    save_minutes: float | None = 30.0
    """Time after which a checkpoint is written too, however few updates were made."""
    log_every: int = 10
    """Updates between lines of metrics.jsonl."""
    keep: int = 3
    """Checkpoints that are kept, the newest ones."""
    keep_every: int | None = None
    """At multiples of this many updates a checkpoint is written too, and stays for as long as this
    is asked for (default: none)."""
    log_to: tuple[Logger, ...] = ()
    """Who gets the metrics beside metrics.jsonl; each needs its extra installed."""
    sample_prompts: tuple[str, ...] = ()
    """Drawn into OUTPUT/samples every so often and at the end, with fixed seeds."""
    sample_edits: tuple[tuple[str, Path], ...] = ()
    """Instructions, each with an image to edit; as the sample prompts."""
    sample_every: int | None = None
    """Updates between sample images, and between losses of samples that the import set aside
    (default: as save_every)."""
    peak_tflops: float | None = None
    """Rate of the device's matrix products, which MFU is a share of (default: measured when a run
    starts)."""

    def __post_init__(self) -> None:
        counts = {
            "steps": self.steps,
            "microbatch_size": self.microbatch_size,
            "save_every": self.save_every,
            "log_every": self.log_every,
            "keep": self.keep,
        }
        if self.sample_every is not None:
            counts["sample_every"] = self.sample_every
        if self.keep_every is not None:
            counts["keep_every"] = self.keep_every
        for name, count in counts.items():
            if count < 1:
                raise ValueError(f"{name} must be at least 1, got {count}")
        if min(self.drawing_microbatches or 0, self.edit_microbatches or 0) < 0:
            raise ValueError("an update cannot have fewer than 0 micro-batches of a task")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")
        if not 0 <= self.caption_drop <= 1:
            raise ValueError(f"caption_drop must be from 0 to 1, got {self.caption_drop}")
        if not 0 <= self.max_bad_share <= 1:
            raise ValueError(f"max_bad_share must be from 0 to 1, got {self.max_bad_share}")
        if self.save_minutes is not None and not 0 < self.save_minutes < math.inf:
            raise ValueError(f"save_minutes must be a positive number, got {self.save_minutes}")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"ema_decay must be between 0 and 1, got {self.ema_decay}")
        if self.peak_tflops is not None and not 0 < self.peak_tflops < math.inf:
            raise ValueError(f"peak_tflops must be a positive number, got {self.peak_tflops}")
        if self.side is not None and self.side < 32:
            raise ValueError(f"side must be at least 32, got {self.side}")
