"""Knobs of ``deepgen train mini``; no torch in here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

AUTOENCODER_BATCH = 8
"""Images of an update of the autoencoder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MiniConfig:
    """How long each stage of the mini takes."""

    output: Path = Path("runs/mini")
    """Folder of the run; the model comes to lie in OUTPUT/model."""
    lessons: int = 40_000
    """Different lessons; each is drawn and encoded once, and visited several times."""
    autoencoder_steps: int = 6_700
    """Updates of eight images each."""
    reading_steps: int = 3_000
    """Stage 0 of the language model: updates, of UPDATE_SIZE turns."""
    painting_steps: int = 1_700
    """Stage 0 of the DiT: updates, of UPDATE_SIZE lessons."""
    pretrain_steps: int = 600
    """Alignment pre-training: updates, of UPDATE_SIZE lessons."""
    sft_steps: int = 1_000
    """Joint fine-tuning: updates, of UPDATE_SIZE lessons."""
    update_size: int = 64
    """Lessons or turns of an update, but for the autoencoder's; even."""
    seed: int = 0
    """Of all weights and all noise."""

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if name.endswith("steps") and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.lessons < 100:
            raise ValueError(f"lessons must be at least 100, got {self.lessons}")
        if self.update_size < 2 or self.update_size % 2:
            raise ValueError(f"update_size must be an even number, got {self.update_size}")


def plan_mini(config: MiniConfig) -> dict[str, dict[str, int]]:
    """Updates of every stage, and how many images, turns or lessons it sees, the same ones too.

    >>> plan_mini(MiniConfig(sft_steps=10, update_size=64))["sft"]
    {'updates': 10, 'samples': 640}
    """
    stages = {
        "autoencoder": (config.autoencoder_steps, AUTOENCODER_BATCH),
        "reading": (config.reading_steps, config.update_size),
        "painting": (config.painting_steps, config.update_size),
        "pretrain": (config.pretrain_steps, config.update_size),
        "sft": (config.sft_steps, config.update_size),
    }
    return {
        name: {"updates": updates, "samples": updates * size}
        for name, (updates, size) in stages.items()
    }
