"""Settings of ``deepgen train mini``; no torch in here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from deepgen.config.checks import check_at_least
from deepgen.config.codec import MAY_CHANGE
from deepgen.config.train import Precision

AUTOENCODER_BATCH_SIZE = 16
"""Crops of images per step of the autoencoder."""

GROUP_SIZE = 8
"""Images of a prompt in reinforcement learning."""

MiniReward = Literal["scene", "clip", "ocr"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MiniConfig:
    """How long each stage of the mini takes."""

    output: Annotated[Path, arg(aliases=["-o"]), MAY_CHANGE] = Path("runs/mini")
    """Folder of the run; the model is written to OUTPUT/model."""
    samples: int = 200_000
    """Size of the data set of pretrain and sft; each sample is rendered and encoded once."""
    autoencoder_steps: int = 8_000
    """Stage 0, autoencoder: optimizer steps, of sixteen crops of images each."""
    captioning_steps: int = 8_000
    """Stage 0, captioning pre-training of the language model: optimizer steps."""
    label_steps: int = 24_000
    """Stage 0, label-conditioned pre-training of the DiT: optimizer steps."""
    pretrain_steps: int = 2_000
    """Alignment pre-training: optimizer steps."""
    sft_steps: int = 6_000
    """Joint fine-tuning: optimizer steps."""
    clip_steps: int = 4_000
    """A CLIP of the mini's world, whose cosine is a reward: optimizer steps."""
    rl_steps: int = 200
    """Reinforcement learning: optimizer steps; 0 leaves this stage and the CLIP out."""
    rl_prompts: int = 16
    """Prompts per step of reinforcement learning, of eight images each."""
    rl_rewards: tuple[MiniReward, ...] = ("scene", "clip")
    """Rewards: scene compares an image with what was asked for by rules, clip by the CLIP, ocr
    reads words; it takes the extra ocr, and a model that writes words already."""
    batch_size: int = 128
    """Samples per step of every stage but the autoencoder; even."""
    workers: Annotated[int, MAY_CHANGE] = 0
    """Processes that render samples ahead of the training."""
    precision: Annotated[Precision, MAY_CHANGE] = "auto"
    """Precision of matrix products of the DiT's training; auto is bfloat16 on a GPU, and in stage 0
    on a CPU with AMX, else float32. May differ where a run is resumed."""
    compile: Annotated[bool, MAY_CHANGE] = False
    """Compile the DiT's blocks in stage 0 with torch.compile: minutes at the start on a CPU, and
    less time for each step after them."""
    seed: int = 0
    """Seed of all initial weights and all noise."""

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if name.endswith("steps"):
                check_at_least(name, getattr(self, name), 0 if name == "rl_steps" else 1)
        check_at_least("rl_prompts", self.rl_prompts, 1)
        if not {"scene", "clip"} & set(self.rl_rewards):
            found = " ".join(self.rl_rewards) or "none"
            raise ValueError(f"rl_rewards must have scene or clip, got {found}")
        check_at_least("samples", self.samples, 100)
        check_at_least("workers", self.workers, 0)
        if self.batch_size < 2 or self.batch_size % 2:
            raise ValueError(f"batch_size must be an even number, got {self.batch_size}")


def plan_mini(config: MiniConfig) -> dict[str, dict[str, int]]:
    """Steps of every stage, and how many samples it sees, repetitions included.

    >>> plan_mini(MiniConfig(sft_steps=10, batch_size=64))["sft"]
    {'steps': 10, 'samples': 640}
    """
    stages = {
        "autoencoder": (config.autoencoder_steps, AUTOENCODER_BATCH_SIZE),
        "captioning": (config.captioning_steps, config.batch_size),
        "label-conditioned": (config.label_steps, config.batch_size),
        "pretrain": (config.pretrain_steps, config.batch_size),
        "sft": (config.sft_steps, config.batch_size),
    }
    if config.rl_steps:
        if "clip" in config.rl_rewards:
            stages["clip"] = (config.clip_steps, config.batch_size)
        stages["rl"] = (config.rl_steps, config.rl_prompts * GROUP_SIZE)
    return {
        name: {"steps": steps, "samples": steps * batch_size}
        for name, (steps, batch_size) in stages.items()
    }
