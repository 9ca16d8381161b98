"""The mini by the stages of the large model, from nothing; ``deepgen train mini``.

Stage 0 makes what the large model starts from: an autoencoder, a language model that can tell what
images show, and a DiT that draws from labels. Then come ``pretrain`` and ``sft``, by the recipes
that train the large model. Every stage goes on where it was stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import nn
from transformers import PreTrainedTokenizerFast

from deepgen.checkpoint.folder import load_folder, save_folder
from deepgen.conditioning.bridge import Bridge
from deepgen.conditioning.encoder import Conditioner
from deepgen.conditioning.prompts import PromptTokenizer
from deepgen.conditioning.vlm import VisionLanguageModel
from deepgen.config.codec import read_yaml, to_values
from deepgen.config.data import DataConfig
from deepgen.config.mini import AUTOENCODER_BATCH, MiniConfig
from deepgen.config.model import BridgeConfig
from deepgen.config.stage import StageConfig
from deepgen.config.train import CheckpointConfig, LoggingConfig, LoraConfig, OptimizerConfig
from deepgen.data.dataset import DataSet
from deepgen.data.latents import MomentsCache, build_cache, weights_hash
from deepgen.data.loader import Loader, LoaderOptions, TaskPlan
from deepgen.dit.model import DiT
from deepgen.flow.schedule import training_sigmas
from deepgen.images.tensors import to_pixels
from deepgen.mini.training.caption_pretraining import ReadingObjective, turns_of
from deepgen.mini.training.dataset import vocabulary_texts, write_lessons
from deepgen.mini.training.label_pretraining import LabelBatches, LabelConditioner
from deepgen.mini.training.lessons import SIDE, lesson
from deepgen.mini.training.model import (
    BRIDGE,
    DEFAULTS,
    SCHEDULE,
    new_autoencoder,
    new_dit,
    new_reader,
    new_vlm,
)
from deepgen.mini.training.tokenizer import train_tokenizer
from deepgen.mini.world.drawing import draw
from deepgen.model import DeepGen
from deepgen.recipes.pretrain import pretrain
from deepgen.recipes.sft import sft
from deepgen.stages.batches import FlowBatches
from deepgen.stages.build import build
from deepgen.stages.card import read_card
from deepgen.stages.run_folder import MODEL, SETTINGS, check_unclaimed, keep_settings
from deepgen.train.draws import VisitDraws
from deepgen.train.ema import Ema
from deepgen.train.monitor.metrics import Observer
from deepgen.train.objective import AutoencoderObjective, FlowObjective, Images
from deepgen.train.optim import TABLES, MatrixOptimizer, warmup_cosine
from deepgen.train.trainer import Objective, Trainer
from deepgen.vae import LatentCodec

VOCABULARY = 1024

ENCODE_BATCH = 64

ADAMW_NAMES = (*TABLES, "places", "values")

SAMPLE_PROMPTS = (
    "a panda on a yellow background",
    "a rocket and a tree on a blue background",
    'the word "LAMP" on a white background',
)


Watch = Callable[[str], Sequence[Observer]]
"""Called with the name of each stage as it begins; what it gives is told how the stage gets on."""


def unwatched(stage: str) -> Sequence[Observer]:
    """Nobody looks."""
    return ()


def train_mini(config: MiniConfig, device: torch.device, watch: Watch = unwatched) -> Path:
    """All stages, each from what the one before has left.

    Returns:
        The model folder.

    Raises:
        StoppedError: A signal asked for it; the same call goes on from there.
        TrainingError: A stage cannot go on.
        ValueError: The folder holds a run with other settings.
    """
    folder = config.output
    _check_settings(config)
    start = folder / "stage0"
    if not (start / "model_index.json").exists():
        save_folder(join(train_parts(config, watch), config), start, overwrite=True)
    aligned = _stage(config, pretrain(), config.pretrain_steps, start, device, watch)
    made = _stage(config, sft(), config.sft_steps, aligned, device, watch)
    # Half precision halves the download and changes images by less than a grey level.
    save_folder(
        load_folder(made),
        folder / MODEL,
        dtype=torch.float16,
        overwrite=True,
        card=read_card(made),
    )
    return folder / MODEL


def _check_settings(config: MiniConfig) -> None:
    """Write down what the run is made with, or see that it goes on with the same.

    Raises:
        ValueError: It was begun with other settings, which finished stages would not follow.
    """
    path = config.output / SETTINGS
    if not path.exists():
        check_unclaimed(config.output, (MODEL,))
        config.output.mkdir(parents=True, exist_ok=True)
        keep_settings(path, config)
        return
    known = to_values(read_yaml(path, config))
    for name, mine in to_values(config).items():
        # The folder may have been moved.
        if name != "output" and known[name] != mine:
            raise ValueError(
                f"{config.output} holds a run with {name} {known[name]}, this one has {mine}; give "
                f"the same {name}, or begin anew in another folder"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """What stage 0 makes, before a bridge joins it."""

    codec: LatentCodec
    tokenizer: PreTrainedTokenizerFast
    reader: VisionLanguageModel
    """With its last layer."""
    dit: DiT


def train_parts(config: MiniConfig, watch: Watch = unwatched) -> Parts:
    """Stage 0; what is finished is read from the folder of the run."""
    folder = config.output
    data = write_lessons(folder / "lessons", config.lessons)
    autoencoder = train_autoencoder(folder / "autoencoder", config, watch)
    moments = cache_moments(data, autoencoder.requires_grad_(False))
    codec = LatentCodec(autoencoder)
    tokenizer = train_tokenizer(vocabulary_texts(config.lessons), vocabulary=VOCABULARY)
    reader = train_reader(folder / "reading", tokenizer, config, watch)
    dit = train_painter(folder / "painting", data, codec, moments, config, watch)
    return Parts(codec=codec, tokenizer=tokenizer, reader=reader, dit=dit)


def join(parts: Parts, config: MiniConfig, sizes: BridgeConfig = BRIDGE) -> DeepGen:
    """A model whose bridge is new; it reads as many layers of the language model as it needs."""
    torch.manual_seed(config.seed)
    vlm = new_vlm(parts.tokenizer, sizes)
    known = parts.reader.state_dict()
    vlm.load_state_dict({name: known[name] for name in vlm.state_dict()})
    return DeepGen(
        Conditioner(vlm, Bridge(sizes), parts.tokenizer),
        parts.dit,
        parts.codec,
        SCHEDULE,
        DEFAULTS,
        {
            "vae": f"autoencoder, {config.autoencoder_steps} updates",
            "vlm": f"reading, {config.reading_steps} updates",
            "transformer": f"painting, {config.painting_steps} updates",
        },
    )


def train_autoencoder(folder: Path, config: MiniConfig, watch: Watch) -> AutoencoderKL:
    """Images into latents and back; latents come out with zero mean and unit variance."""
    model = new_autoencoder(config.seed).to(memory_format=torch.channels_last)
    average = Ema(dict(model.named_parameters()))
    run = _trainer(
        model,
        AutoencoderObjective(),
        lambda step: [_images(step)],
        steps=config.autoencoder_steps,
        lr=4e-3,
        seed=config.seed,
        average=average,
    )
    run.run(folder, observers=watch("autoencoder"))
    average.settle()
    return model.eval()


def _images(step: int) -> Images:
    """Results of the lessons ``step * size`` and on, of a split of their own."""
    first = step * AUTOENCODER_BATCH
    scenes = [lesson(first + i, split="autoencoder").target for i in range(AUTOENCODER_BATCH)]
    return torch.stack([to_pixels(draw(each)) for each in scenes]).contiguous(
        memory_format=torch.channels_last
    )


def cache_moments(data: DataSet, autoencoder: AutoencoderKL) -> MomentsCache:
    """Encode all lessons, and set the autoencoder's scale so that they have unit variance."""
    codec = LatentCodec(autoencoder)
    with torch.no_grad():
        cache = build_cache(
            data,
            codec.moments,
            vae_hash=weights_hash(codec),
            side=SIDE,
            batch_size=ENCODE_BATCH,
        )
    some = torch.stack([cache.moments(row, 0) for row in range(0, len(data), 10)])
    means = some.chunk(2, dim=1)[0]
    autoencoder.register_to_config(
        shift_factor=means.mean().item(), scaling_factor=1 / means.std().item()
    )
    return cache


def train_reader(
    folder: Path, tokenizer: PreTrainedTokenizerFast, config: MiniConfig, watch: Watch
) -> VisionLanguageModel:
    """A language model that answers with what images and sentences show."""
    model = new_reader(tokenizer, seed=config.seed + 1)
    average = Ema(dict(model.named_parameters()))
    run = _trainer(
        model,
        ReadingObjective(PromptTokenizer(tokenizer)),
        turns_of(config.update_size),
        steps=config.reading_steps,
        lr=3e-3,
        seed=config.seed,
        average=average,
    )
    run.run(folder, save_every=100, log_every=10, observers=watch("reading"))
    average.settle()
    return model.eval()


def train_painter(
    folder: Path,
    data: DataSet,
    codec: LatentCodec,
    moments: MomentsCache,
    config: MiniConfig,
    watch: Watch,
) -> DiT:
    """A DiT that draws and edits from labels."""
    seed = config.seed
    torch.manual_seed(seed + 2)
    model = DeepGen(LabelConditioner(BRIDGE), new_dit(seed + 2), codec, SCHEDULE, DEFAULTS)
    half = TaskPlan(microbatch_size=config.update_size // 2, microbatches=1)
    loader = Loader(
        data,
        LoaderOptions(tasks={"t2i": half, "edit": half}, seed=seed, side=SIDE, workers=1),
        moments=moments,
    )
    average = Ema({name: each for name, each in model.named_parameters() if each.requires_grad})
    run = _trainer(
        model,
        FlowObjective(training_sigmas(SCHEDULE), VisitDraws(seed, "painting"), caption_drop=0.1),
        LabelBatches(FlowBatches(loader, codec)),
        steps=config.painting_steps,
        lr=3e-3,
        seed=seed,
        average=average,
    )
    run.run(folder, save_every=100, log_every=10, observers=watch("painting"))
    average.settle()
    return model.dit.eval()


def _trainer(
    model: nn.Module,
    objective: Objective[Any, Any],
    batches: Callable[[int], Any],
    *,
    steps: int,
    lr: float,
    seed: int,
    average: Ema,
) -> Trainer[Any, Any]:
    """What the parts of stage 0 have in common."""
    return Trainer(
        model,
        objective,
        batches,
        MatrixOptimizer(
            model.named_parameters(), lr=lr, adamw_names=ADAMW_NAMES, weight_decay=0.01
        ),
        steps=steps,
        schedule=partial(warmup_cosine, steps=steps, warmup=min(100, max(1, steps // 10))),
        seed=seed,
        ema=average,
    )


def _stage(
    config: MiniConfig,
    recipe: StageConfig,
    steps: int,
    model: Path,
    device: torch.device,
    watch: Watch,
) -> Path:
    """A stage of the large model on the lessons."""
    run = build(
        replace(
            recipe,
            model=str(model),
            data=DataConfig(folder=config.output / "lessons"),
            output=config.output / recipe.stage,
            steps=steps,
            microbatch_size=config.update_size // 2,
            t2i_microbatches=1,
            edit_microbatches=1,
            optimizer=OptimizerConfig(
                kind="muon", lr=2e-3 if recipe.stage == "pretrain" else 1.5e-3, weight_decay=0.01
            ),
            lora=LoraConfig(rank=16, alpha=32.0, dropout=0.0),
            ema_decay=0.995,
            seed=config.seed,
            checkpoint=CheckpointConfig(every=100),
            logging=LoggingConfig(sample_prompts=SAMPLE_PROMPTS),
        ),
        device=device,
    )
    return run(observers=watch(recipe.stage))
