"""What is trained by itself: autoencoder, language model and DiT in stage 0, and a CLIP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import CLIPTokenizer, PreTrainedTokenizerFast

from deepgen.conditioning.prompts import PromptTokenizer
from deepgen.config.mini import AUTOENCODER_BATCH_SIZE, MiniConfig
from deepgen.config.train import CheckpointConfig, LoggingConfig
from deepgen.devices import has_fast_bfloat16
from deepgen.flow.schedule import training_sigmas
from deepgen.mini.training.autoencoder_pretraining import CropBatches
from deepgen.mini.training.caption_pretraining import CaptioningBatches, CaptioningObjective
from deepgen.mini.training.clip_training import ClipBatches, ClipObjective, new_clip
from deepgen.mini.training.feed import ByStepAhead
from deepgen.mini.training.label_pretraining import (
    LabelBatches,
    LabelConditioned,
    LabelObjective,
    LatentBatches,
)
from deepgen.mini.training.model import (
    BRIDGE,
    SCHEDULE,
    new_autoencoder,
    new_dit,
    new_language_model,
)
from deepgen.mini.training.samples import REFERENCES, SIDE
from deepgen.train.checkpoints import Checkpoints
from deepgen.train.ema import Ema
from deepgen.train.loop import LoopConfig
from deepgen.train.monitor.metrics import Observer
from deepgen.train.objective import AutoencoderObjective
from deepgen.train.optim import TABLES, MatrixOptimizer, warmup_cosine, warmup_stable_decay
from deepgen.train.stream import ByStep
from deepgen.train.trainer import Objective, Trainer
from deepgen.vae import LatentCodec

PART_NAMES = ("autoencoder", "captioning", "label-conditioned")
"""In the order of training."""

ADAMW_NAMES = (*TABLES, "values", "token_embedding", "position_embedding")

CHECKPOINT_EVERY = 100
"""Steps."""

LATENT_USES = 4
"""How often a CPU uses latents: encoding an image takes half as long as training on it. A GPU
encodes much faster than it trains."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A model of stage 0, and how it is trained."""

    name: str
    """Also the name of its folder in that of the run."""
    model: nn.Module
    objective: Objective[Any, Any]
    batches: Callable[[int], Any]
    """Micro-batches by step."""
    steps: int
    seed: int
    lr: float = 3e-3
    schedule: Callable[..., float] = warmup_cosine
    ema_decay: float = 0.999

    def trainer(self) -> Trainer[Any, Any]:
        """The loop, before its first step."""
        trained = {name: own for name, own in self.model.named_parameters() if own.requires_grad}
        warmup = min(100, max(1, self.steps // 10))
        return Trainer(
            self.model,
            self.objective,
            ByStep(self.batches),
            MatrixOptimizer(
                trained.items(), lr=self.lr, adamw_names=ADAMW_NAMES, weight_decay=0.01
            ),
            LoopConfig(
                steps=self.steps,
                schedule=partial(self.schedule, steps=self.steps, warmup=warmup),
                seed=self.seed,
            ),
            ema=Ema(trained, self.ema_decay),
        )

    def train(self, run: Path, observers: tuple[Observer, ...] = ()) -> None:
        """Train in a folder of the part's name; the model then has the EMA weights."""
        trainer = self.trainer()
        trainer.run(
            run / self.name,
            checkpoint=CheckpointConfig(every=CHECKPOINT_EVERY, minutes=None),
            logging=LoggingConfig(every=10),
            observers=observers,
        )
        assert trainer.ema is not None
        trainer.ema.copy_to_model()


def checkpoints_of(run: Path, part: str) -> Checkpoints:
    """Checkpoints of a part in the folder of a run."""
    return Checkpoints(run / part / "checkpoints")


def autoencoder_part(config: MiniConfig, device: torch.device) -> Part:
    """Images into latents and back."""
    model = new_autoencoder(config.seed).to(device=device, memory_format=torch.channels_last)
    return Part(
        name="autoencoder",
        model=model,
        objective=AutoencoderObjective(),
        batches=ByStepAhead(CropBatches(batch_size=AUTOENCODER_BATCH_SIZE), config.workers),
        steps=config.autoencoder_steps,
        seed=config.seed,
        lr=4e-3,
    )


def captioning_part(
    tokenizer: PreTrainedTokenizerFast, config: MiniConfig, device: torch.device
) -> Part:
    """A language model that answers with what images show."""
    model = new_language_model(tokenizer, seed=config.seed + 1).to(device)
    # Packed rows attend one by one. A GPU would spend most of a step of this small model on
    # launching a kernel per row and layer; padding costs less there.
    model.packing = device.type == "cpu"
    return Part(
        name="captioning",
        model=model,
        objective=CaptioningObjective(PromptTokenizer(tokenizer)),
        batches=ByStepAhead(CaptioningBatches(batch_size=config.batch_size), config.workers),
        steps=config.captioning_steps,
        seed=config.seed,
    )


def label_part(codec: LatentCodec, config: MiniConfig, device: torch.device) -> Part:
    """A DiT that generates and edits from labels; images are encoded by a trained codec."""
    torch.manual_seed(config.seed + 2)
    model = LabelConditioned(new_dit(config.seed + 2), BRIDGE).to(device)
    if config.compile:
        # Every number of references has one shape.
        model.dit.compile_each_block(dynamic=False)
    autocast = _autocast(config, device)
    rendered = ByStepAhead(
        LabelBatches(sizes=batch_sizes(config.batch_size), side=SIDE), config.workers
    )
    return Part(
        name="label-conditioned",
        model=model,
        objective=LabelObjective(training_sigmas(SCHEDULE), autocast=autocast),
        batches=LatentBatches(
            rendered, codec, uses=1 if device.type == "cuda" else LATENT_USES, autocast=autocast
        ),
        steps=config.label_steps,
        seed=config.seed,
        lr=2e-3,
        schedule=warmup_stable_decay,
        ema_decay=0.998,
    )


def clip_part(tokenizer: CLIPTokenizer, config: MiniConfig, device: torch.device) -> Part:
    """A CLIP of the mini's world."""
    return Part(
        name="clip",
        model=new_clip(tokenizer, seed=config.seed + 3).to(device),
        objective=ClipObjective(tokenizer, autocast=_autocast(config, device)),
        batches=ByStepAhead(ClipBatches(batch_size=config.batch_size), config.workers),
        steps=config.clip_steps,
        seed=config.seed,
        lr=2e-3,
    )


def _autocast(config: MiniConfig, device: torch.device) -> torch.dtype | None:
    """Type of matrix products; None for that of the weights."""
    mixed = config.precision == "bfloat16" or (
        config.precision == "auto" and has_fast_bfloat16(device)
    )
    return torch.bfloat16 if mixed else None


def batch_sizes(batch_size: int) -> tuple[int, ...]:
    """Samples of a batch without references, with one, and with two.

    >>> batch_sizes(128)
    (64, 56, 8)
    """
    edits, combined = (round(batch_size * each) for each in REFERENCES[1:])
    return batch_size - edits - combined, edits, combined
