"""Settings of a supervised stage (DeepGen paper, section 4, tables 8 and 9); no torch in here."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, Suppress, arg

from deepgen.config.checks import check_at_least
from deepgen.config.codec import MAY_CHANGE
from deepgen.config.data import DataConfig
from deepgen.config.model import Padding
from deepgen.config.train import (
    CheckpointConfig,
    ComputeConfig,
    FlowConfig,
    LoggingConfig,
    LoraConfig,
    OptimizerConfig,
    ParallelConfig,
)

Stage = Literal["pretrain", "sft", "lora", "rl", "rl_lora"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StageDescription:
    """What a stage trains; whatever depends on the stage is read from here."""

    trains_bridge: bool
    """Think tokens, projectors and connector."""
    trains_dit: bool
    """All weights of the DiT."""
    adapters: Literal["vlm", "dit"] | None
    """Which part learns by adapters: the language model or the DiT."""
    t2i_microbatches: int
    """Micro-batches of text-to-image per step, unless set."""
    edit_microbatches: int
    per_process: bool
    """Whether these are of every process, or of all together."""

    def microbatches(self, world_size: int) -> tuple[int, int]:
        """Micro-batches of text-to-image and of edits per step, of all processes together.

        >>> STAGES["sft"].microbatches(64), STAGES["lora"].microbatches(2)
        ((128, 64), (4, 4))
        """
        times = world_size if self.per_process else 1
        return times * self.t2i_microbatches, times * self.edit_microbatches


STAGES: dict[Stage, StageDescription] = {
    # Alignment of the bridge with a finished DiT; micro-batches as published.
    "pretrain": StageDescription(
        trains_bridge=True,
        trains_dit=False,
        adapters=None,
        t2i_microbatches=3,
        edit_microbatches=1,
        per_process=True,
    ),
    # Joint fine-tuning; micro-batches as published.
    "sft": StageDescription(
        trains_bridge=True,
        trains_dit=True,
        adapters="vlm",
        t2i_microbatches=2,
        edit_microbatches=1,
        per_process=True,
    ),
    # Adapters on the DiT alone; larger steps would leave few of them for few images.
    "lora": StageDescription(
        trains_bridge=False,
        trains_dit=False,
        adapters="dit",
        t2i_microbatches=4,
        edit_microbatches=4,
        per_process=False,
    ),
    # From rewards; micro-batches are those of the supervised loss, a quarter of them edits.
    "rl": StageDescription(
        trains_bridge=False,
        trains_dit=True,
        adapters=None,
        t2i_microbatches=3,
        edit_microbatches=1,
        per_process=True,
    ),
    "rl_lora": StageDescription(
        trains_bridge=False,
        trains_dit=False,
        adapters="dit",
        t2i_microbatches=3,
        edit_microbatches=1,
        per_process=True,
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class StageConfig:
    """A stage: what is trained, on which data, and for how long."""

    stage: Annotated[Stage, Suppress] = "sft"
    """pretrain trains bridge and think tokens; sft the whole DiT too, and adapters on the VLM; lora
    only adapters on the DiT."""
    model: Annotated[str, MAY_CHANGE] = "mini"
    """Model to start from: the embedded one, a folder or a hub id."""
    output: Annotated[Path, arg(aliases=["-o"]), MAY_CHANGE] = Path("runs/stage")
    """Folder of the run: checkpoints, metrics, sample images, and in the end the model."""
    steps: int = 1000
    """Optimizer steps."""
    microbatch_size: int = 4
    """Samples per micro-batch: one forward and backward pass on one process."""
    t2i_microbatches: Annotated[int | None, arg(metavar="INT", help_behavior_hint="")] = None
    """Micro-batches of text-to-image per step, of all processes together; all samples of a step
    have the same weight (default: as published for one process, times the processes that the run
    begins with; in lora 4 on any number of them)."""
    edit_microbatches: Annotated[int | None, arg(metavar="INT", help_behavior_hint="")] = None
    """Micro-batches of edits per step, likewise."""
    seed: int = 0
    """Seed of the sample order and of all noise."""
    padding: Annotated[Padding | None, arg(metavar="{pair,none,batch}", help_behavior_hint="")] = (
        None
    )
    """How prompts of a micro-batch are padded (default: the model's setting)."""
    freeze_vlm: bool = False
    """Keep the language model frozen in sft: no adapters."""
    ema_decay: Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="")] = None
    """Decay of an EMA of the weights, which is then exported in their place (default: none)."""
    data: OmitArgPrefixes[DataConfig] = field(default_factory=DataConfig)
    """Training data."""
    flow: OmitArgPrefixes[FlowConfig] = field(default_factory=FlowConfig)
    """Noise levels of the flow-matching loss."""
    optimizer: OmitArgPrefixes[OptimizerConfig] = field(default_factory=OptimizerConfig)
    """Optimizer and learning rate."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """Adapters: in sft on the language model, in lora on the DiT."""
    compute: OmitArgPrefixes[ComputeConfig] = field(default_factory=ComputeConfig)
    """Precision, memory and speed."""
    parallel: OmitArgPrefixes[ParallelConfig] = field(default_factory=ParallelConfig)
    """Several processes."""
    checkpoint: Annotated[OmitArgPrefixes[CheckpointConfig], MAY_CHANGE] = field(
        default_factory=CheckpointConfig
    )
    """Checkpoints."""
    logging: Annotated[OmitArgPrefixes[LoggingConfig], MAY_CHANGE] = field(
        default_factory=LoggingConfig
    )
    """Metrics and sample images."""

    def __post_init__(self) -> None:
        check_at_least("steps", self.steps, 1)
        check_at_least("microbatch_size", self.microbatch_size, 1)
        check_at_least("t2i_microbatches", self.t2i_microbatches, 0)
        check_at_least("edit_microbatches", self.edit_microbatches, 0)
        check_at_least("seed", self.seed, 0)
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"ema_decay must be between 0 and 1, got {self.ema_decay}")

    @property
    def adapters(self) -> LoraConfig | None:
        """Settings of the adapters that are trained; None where none are."""
        where = STAGES[self.stage].adapters
        return None if where is None or (where == "vlm" and self.freeze_vlm) else self.lora
