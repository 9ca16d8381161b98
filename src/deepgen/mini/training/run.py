"""``deepgen train mini``: the mini by the stages of the large model, from random weights.

Stage 0 makes what the large model starts from: an autoencoder, a language model that can caption
images, and a DiT that generates from labels. Then come ``pretrain`` and ``sft``, by the recipes
that train the large model. Every stage resumes from its last checkpoint.
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
from deepgen.config.mini import AUTOENCODER_BATCH_SIZE, MiniConfig
from deepgen.config.model import BridgeConfig
from deepgen.config.stage import StageConfig
from deepgen.config.train import CheckpointConfig, LoggingConfig, LoraConfig, OptimizerConfig
from deepgen.data.dataset import DataSet
from deepgen.data.latents import LatentCache, build_cache, weights_hash
from deepgen.data.loader import Loader, LoaderOptions, TaskPlan
from deepgen.dit.model import DiT
from deepgen.flow.schedule import training_sigmas
from deepgen.images.tensors import to_pixels
from deepgen.mini.training.caption_pretraining import CaptioningObjective, captioning_batches
from deepgen.mini.training.dataset import vocabulary_texts, write_samples
from deepgen.mini.training.label_pretraining import LabelBatches, LabelConditioner
from deepgen.mini.training.model import (
    BRIDGE,
    DEFAULTS,
    SCHEDULE,
    new_autoencoder,
    new_dit,
    new_language_model,
    new_vlm,
)
from deepgen.mini.training.samples import training_sample
from deepgen.mini.training.tokenizer import train_tokenizer
from deepgen.mini.world.drawing import draw
from deepgen.mini.world.version0 import SIDE
from deepgen.model import DeepGen
from deepgen.recipes.pretrain import pretrain
from deepgen.recipes.sft import sft
from deepgen.stages.batches import FlowBatches
from deepgen.stages.build import build
from deepgen.stages.card import read_card
from deepgen.stages.run_folder import MODEL, SETTINGS, check_unclaimed, save_settings
from deepgen.train.ema import Ema
from deepgen.train.loop import LoopConfig
from deepgen.train.monitor.metrics import Observer
from deepgen.train.objective import AutoencoderObjective, FlowObjective, Images
from deepgen.train.optim import TABLES, MatrixOptimizer, warmup_cosine
from deepgen.train.sample_rng import SampleRng
from deepgen.train.stream import ByStep
from deepgen.train.trainer import Objective, Trainer
from deepgen.vae import LatentCodec

DATA = "data"
"""Folder of the data set, in that of the run."""

VOCABULARY = 1024

ENCODE_BATCH = 64

ADAMW_NAMES = (*TABLES, "places", "values")

SAMPLE_PROMPTS = (
    "a panda on a yellow background",
    "a rocket and a tree on a blue background",
    'the word "LAMP" on a white background',
)


Watch = Callable[[str], Sequence[Observer]]
"""Called with the name of each stage as it begins; returns the observers of its progress."""


def no_observers(stage: str) -> Sequence[Observer]:
    """Report nothing."""
    return ()


def train_mini(config: MiniConfig, device: torch.device, watch: Watch = no_observers) -> Path:
    """Run all stages, each from the result of the one before.

    Args:
        device: Where to compute ``pretrain`` and ``sft``; stage 0 runs on the CPU.

    Returns:
        The model folder.

    Raises:
        StoppedError: A signal asked for it; the same call resumes from there.
        TrainingError: A stage cannot continue.
        ValueError: The folder holds a run with other settings.
    """
    folder = config.output
    _check_settings(config)
    start = folder / "stage0"
    if not (start / "model_index.json").exists():
        save_folder(join(train_parts(config, watch), config), start, overwrite=True)
    aligned = _train_stage(
        config, pretrain(), start, device, watch, steps=config.pretrain_steps, lr=2e-3
    )
    made = _train_stage(config, sft(), aligned, device, watch, steps=config.sft_steps, lr=1.5e-3)
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
    """Save the settings of a new run, or compare them with those of the run to resume.

    Raises:
        ValueError: They differ; finished stages would not have followed them.
    """
    path = config.output / SETTINGS
    if not path.exists():
        check_unclaimed(config.output, (MODEL,))
        config.output.mkdir(parents=True, exist_ok=True)
        save_settings(path, config)
        return
    known = to_values(read_yaml(path, config))
    for name, mine in to_values(config).items():
        # The folder may have been moved.
        if name != "output" and known[name] != mine:
            raise ValueError(
                f"{config.output} holds a run with {name} {known[name]}, expected {mine}; use "
                f"the same {name}, or another --output"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """Results of stage 0, before a bridge connects them."""

    codec: LatentCodec
    tokenizer: PreTrainedTokenizerFast
    vlm: VisionLanguageModel
    """All its layers, the last one included."""
    dit: DiT


def train_parts(config: MiniConfig, watch: Watch = no_observers) -> Parts:
    """Stage 0; what is finished is read from the folder of the run."""
    folder = config.output
    data = write_samples(folder / DATA, config.samples)
    autoencoder = train_autoencoder(config, watch)
    latent_cache = cache_latents(data, autoencoder.requires_grad_(False))
    codec = LatentCodec(autoencoder)
    tokenizer = train_tokenizer(vocabulary_texts(config.samples), vocabulary=VOCABULARY)
    vlm = train_language_model(tokenizer, config, watch)
    dit = train_dit(data, codec, latent_cache, config, watch)
    return Parts(codec=codec, tokenizer=tokenizer, vlm=vlm, dit=dit)


def join(parts: Parts, config: MiniConfig, sizes: BridgeConfig = BRIDGE) -> DeepGen:
    """The results of stage 0 and a new bridge, which reads as many layers as it needs."""
    torch.manual_seed(config.seed)
    vlm = new_vlm(parts.tokenizer, sizes)
    known = parts.vlm.state_dict()
    vlm.load_state_dict({name: known[name] for name in vlm.state_dict()})
    return DeepGen(
        Conditioner(vlm, Bridge(sizes), parts.tokenizer),
        parts.dit,
        parts.codec,
        SCHEDULE,
        DEFAULTS,
        {
            "vae": f"autoencoder, {config.autoencoder_steps} steps",
            "vlm": f"captioning, {config.captioning_steps} steps",
            "transformer": f"label-conditioned, {config.label_steps} steps",
        },
    )


def train_autoencoder(config: MiniConfig, watch: Watch) -> AutoencoderKL:
    """Images into latents and back."""
    model = new_autoencoder(config.seed).to(memory_format=torch.channels_last)
    steps = config.autoencoder_steps
    _train(
        "autoencoder",
        model,
        AutoencoderObjective(),
        lambda step: [_images(step)],
        config,
        watch,
        steps=steps,
        lr=4e-3,
    )
    return model.eval()


def _images(step: int) -> Images:
    """Target images of the samples from ``step * batch size`` on, of a split of their own."""
    numbers = range(step * AUTOENCODER_BATCH_SIZE, (step + 1) * AUTOENCODER_BATCH_SIZE)
    scenes = [training_sample(number, split="autoencoder").target for number in numbers]
    return torch.stack([to_pixels(draw(each)) for each in scenes]).contiguous(
        memory_format=torch.channels_last
    )


def cache_latents(data: DataSet, autoencoder: AutoencoderKL) -> LatentCache:
    """Encode all images, and set the autoencoder's shift and scale for latents of unit variance."""
    codec = LatentCodec(autoencoder)
    with torch.no_grad():
        cache = build_cache(
            data,
            codec.posterior_parameters,
            vae_hash=weights_hash(codec),
            side=SIDE,
            batch_size=ENCODE_BATCH,
        )
    some = torch.stack([cache.posterior_parameters(row, 0) for row in range(0, len(data), 10)])
    means = some.chunk(2, dim=1)[0]
    autoencoder.register_to_config(
        shift_factor=means.mean().item(), scaling_factor=1 / means.std().item()
    )
    return cache


def train_language_model(
    tokenizer: PreTrainedTokenizerFast, config: MiniConfig, watch: Watch
) -> VisionLanguageModel:
    """Captioning pre-training: a language model that answers with what images show."""
    model = new_language_model(tokenizer, seed=config.seed + 1)
    _train(
        "captioning",
        model,
        CaptioningObjective(PromptTokenizer(tokenizer)),
        captioning_batches(config.batch_size),
        config,
        watch,
        steps=config.captioning_steps,
    )
    return model.eval()


def train_dit(
    data: DataSet, codec: LatentCodec, latent_cache: LatentCache, config: MiniConfig, watch: Watch
) -> DiT:
    """Label-conditioned pre-training: a DiT that generates and edits from labels."""
    seed = config.seed
    torch.manual_seed(seed + 2)
    model = DeepGen(LabelConditioner(BRIDGE), new_dit(seed + 2), codec, SCHEDULE, DEFAULTS)
    half = TaskPlan(microbatch_size=config.batch_size // 2, microbatches=1)
    loader = Loader(
        data,
        LoaderOptions(tasks={"t2i": half, "edit": half}, seed=seed, side=SIDE, workers=1),
        latent_cache=latent_cache,
    )
    # The name seeds the noise: another one would train other weights.
    draws = SampleRng(seed, "painting")
    _train(
        "label-conditioned",
        model,
        FlowObjective(training_sigmas(SCHEDULE), draws, caption_drop=0.1),
        LabelBatches(FlowBatches(loader, codec)),
        config,
        watch,
        steps=config.label_steps,
    )
    return model.dit.eval()


def _train(
    stage: str,
    model: nn.Module,
    objective: Objective[Any, Any],
    batches: Callable[[int], Any],
    config: MiniConfig,
    watch: Watch,
    *,
    steps: int,
    lr: float = 3e-3,
) -> None:
    """Train a part of stage 0 in a folder of its name; the model then has the EMA weights."""
    ema = Ema({name: each for name, each in model.named_parameters() if each.requires_grad})
    trainer = Trainer(
        model,
        objective,
        ByStep(batches),
        MatrixOptimizer(
            model.named_parameters(), lr=lr, adamw_names=ADAMW_NAMES, weight_decay=0.01
        ),
        LoopConfig(
            steps=steps,
            schedule=partial(warmup_cosine, steps=steps, warmup=min(100, max(1, steps // 10))),
            seed=config.seed,
        ),
        ema=ema,
    )
    trainer.run(
        config.output / stage,
        checkpoint=CheckpointConfig(every=100, minutes=None),
        logging=LoggingConfig(every=10),
        observers=watch(stage),
    )
    ema.copy_to_model()


def stage_settings(
    config: MiniConfig, recipe: StageConfig, *, steps: int, lr: float, model: Path, output: Path
) -> StageConfig:
    """A recipe of the large model with the mini's data, batch size, optimizer and seed."""
    return replace(
        recipe,
        model=str(model),
        data=DataConfig(folder=config.output / DATA),
        output=output,
        steps=steps,
        microbatch_size=config.batch_size // 2,
        t2i_microbatches=1,
        edit_microbatches=1,
        optimizer=OptimizerConfig(kind="muon", lr=lr, weight_decay=0.01),
        seed=config.seed,
        checkpoint=CheckpointConfig(every=100, minutes=None),
    )


def _train_stage(
    config: MiniConfig,
    recipe: StageConfig,
    model: Path,
    device: torch.device,
    watch: Watch,
    *,
    steps: int,
    lr: float,
) -> Path:
    """Train ``model`` by a recipe of the large model, and return the new model's folder."""
    output = config.output / recipe.stage
    settings = stage_settings(config, recipe, steps=steps, lr=lr, model=model, output=output)
    settings = replace(
        settings,
        lora=LoraConfig(rank=16, alpha=32.0, dropout=0.0),
        ema_decay=0.995,
        logging=LoggingConfig(sample_prompts=SAMPLE_PROMPTS),
    )
    return build(settings, device=device)(observers=watch(recipe.stage))
