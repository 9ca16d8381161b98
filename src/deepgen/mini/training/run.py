"""``deepgen train mini``: the mini by the stages of the large model, from random weights.

Stage 0 makes what the large model starts from: an autoencoder, a language model that can caption
images, and a DiT that generates from labels. Then come ``pretrain`` and ``sft``, by the recipes
that train the large model. Every stage resumes from its last checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from transformers import PreTrainedTokenizerFast

from deepgen.checkpoint.folder import load_folder, save_folder
from deepgen.conditioning.bridge import Bridge
from deepgen.conditioning.encoder import Conditioner
from deepgen.conditioning.vlm import VisionLanguageModel
from deepgen.config.codec import compared_values, read_yaml
from deepgen.config.data import DataConfig
from deepgen.config.mini import MiniConfig
from deepgen.config.model import BridgeConfig
from deepgen.config.stage import StageConfig
from deepgen.config.train import CheckpointConfig, LoggingConfig, LoraConfig, OptimizerConfig
from deepgen.data.dataset import DataSet
from deepgen.data.latents import LatentCache, build_cache, weights_hash
from deepgen.dit.model import DiT
from deepgen.locks import locked
from deepgen.mini.training.clip_training import MARKER, save_clip, train_clip_tokenizer
from deepgen.mini.training.dataset import vocabulary_texts, write_samples
from deepgen.mini.training.feed import render, to_pixel_batch
from deepgen.mini.training.model import (
    BRIDGE,
    DEFAULTS,
    SCHEDULE,
    new_vlm,
)
from deepgen.mini.training.parts import (
    Part,
    autoencoder_part,
    captioning_part,
    clip_part,
    label_part,
)
from deepgen.mini.training.reinforcement import PROMPTS, rl_settings, write_rl_prompts
from deepgen.mini.training.samples import SIDE, any_sample, training_sample
from deepgen.mini.training.tokenizer import train_tokenizer
from deepgen.model import DeepGen
from deepgen.nn.compiling import check_compiler
from deepgen.recipes.pretrain import pretrain
from deepgen.recipes.rl import rl
from deepgen.recipes.sft import sft
from deepgen.stages.assembling import assemble
from deepgen.stages.card import read_card
from deepgen.stages.run_folder import MODEL, SETTINGS, check_unclaimed, save_settings
from deepgen.train.monitor.metrics import Observer
from deepgen.vae import LatentCodec

DATA = "data"
"""Folder of the data set, in that of the run."""

CLIP = "clip/model"
"""Folder of the CLIP, in that of the run."""

RL_PROMPTS = "prompts.jsonl"

VOCABULARY = 2048

VOCABULARY_SAMPLES = 40_000
"""Whose texts the vocabulary is learned from."""

ENCODE_BATCH = 32

SCALED_BY = 1024
"""Images whose latents get unit variance."""

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
        device: Where to compute.

    Returns:
        The model folder.

    Raises:
        FolderInUseError: Another process trains there.
        StoppedError: A signal asked for it; the same call resumes from there.
        TrainingError: A stage cannot continue, or blocks are to be compiled without a compiler.
        ValueError: The folder holds a run with other settings.
    """
    if config.compile:
        check_compiler(device)
    with locked(config.output):
        return _train_all(config, device, watch)


def _train_all(config: MiniConfig, device: torch.device, watch: Watch) -> Path:
    """See :func:`train_mini`."""
    folder = config.output
    _check_settings(config)
    start = folder / "stage0"
    if not (start / "model_index.json").exists():
        save_folder(join(train_parts(config, device, watch), config), start, overwrite=True)
    aligned = _train_stage(
        config, pretrain(), start, device, watch, steps=config.pretrain_steps, lr=2e-3
    )
    made = _train_stage(config, sft(), aligned, device, watch, steps=config.sft_steps, lr=1.5e-3)
    if config.rl_steps:
        made = _reinforce(config, made, device, watch)
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
    known = compared_values(read_yaml(path, config))
    for name, mine in compared_values(config).items():
        if known[name] != mine:
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


def train_parts(config: MiniConfig, device: torch.device, watch: Watch = no_observers) -> Parts:
    """Stage 0; what is finished is read from the folder of the run."""

    def trained(part: Part) -> Any:
        part.train(config.output, tuple(watch(part.name)))
        return part.model.eval().requires_grad_(False)

    autoencoder: AutoencoderKL = trained(autoencoder_part(config, device))
    scale_latents(autoencoder, min(SCALED_BY, config.samples))
    codec = LatentCodec(autoencoder)
    tokenizer = mini_tokenizer(config)
    vlm = trained(captioning_part(tokenizer, config, device))
    dit = trained(label_part(codec, config, device)).dit
    # Read by the joint stages: a data set for the loader of the large model.
    data = write_samples(config.output / DATA, config.samples, workers=config.workers)
    cache_latents(data, codec)
    return Parts(codec=codec.cpu(), tokenizer=tokenizer, vlm=vlm.cpu(), dit=dit.cpu())


def mini_tokenizer(config: MiniConfig) -> PreTrainedTokenizerFast:
    """The vocabulary of a run, learned from the texts of its first samples."""
    texts = vocabulary_texts(min(VOCABULARY_SAMPLES, config.samples))
    return train_tokenizer(texts, vocabulary=VOCABULARY)


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


@torch.no_grad()
def scale_latents(autoencoder: AutoencoderKL, images: int) -> None:
    """Set the autoencoder's shift and scale so that latents of images have unit variance."""
    codec = LatentCodec(autoencoder)
    means = []
    for first in range(0, images, ENCODE_BATCH):
        samples = [any_sample(first + each, split="scale") for each in range(ENCODE_BATCH)]
        pixels = to_pixel_batch(render([each.target for each in samples]))
        means.append(codec.posterior_parameters(pixels.to(autoencoder.device)).chunk(2, dim=1)[0])
    every = torch.cat(means)
    autoencoder.register_to_config(
        shift_factor=every.mean().item(), scaling_factor=1 / every.std().item()
    )


def cache_latents(data: DataSet, codec: LatentCodec) -> LatentCache:
    """Encode all images of a data set."""
    device = next(codec.parameters()).device
    with torch.no_grad():
        return build_cache(
            data,
            lambda pixels: codec.posterior_parameters(pixels.to(device)).cpu(),
            vae_hash=weights_hash(codec),
            side=SIDE,
            batch_size=ENCODE_BATCH,
        )


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


def _trained_clip(config: MiniConfig, device: torch.device, watch: Watch) -> Path:
    """Train the CLIP that is a reward, and return its folder."""
    folder = config.output / CLIP
    if not (folder / MARKER).exists():
        count = min(VOCABULARY_SAMPLES, config.samples)
        texts = [training_sample(number, 0).text for number in range(count)]
        tokenizer = train_clip_tokenizer(texts, vocabulary=VOCABULARY)
        part = clip_part(tokenizer, config, device)
        part.train(config.output, tuple(watch(part.name)))
        save_clip(part.model.cpu(), tokenizer, folder)
    return folder


def _reinforce(config: MiniConfig, model: Path, device: torch.device, watch: Watch) -> Path:
    """Train ``model`` with rewards, and return the new model's folder."""
    recipe = rl()
    clip = _trained_clip(config, device, watch) if "clip" in config.rl_rewards else None
    prompts = config.output / RL_PROMPTS
    if not prompts.exists():
        write_rl_prompts(
            prompts, words="ocr" in config.rl_rewards, count=min(PROMPTS, config.samples)
        )
    settings = replace(
        rl_settings(config, recipe, prompts=prompts, clip=clip),
        model=str(model),
        data=DataConfig(folder=config.output / DATA),
        output=config.output / recipe.stage,
        steps=config.rl_steps,
        t2i_microbatches=1,
        edit_microbatches=1,
        seed=config.seed,
        compute=replace(recipe.compute, packing=device.type == "cpu", precision=config.precision),
        checkpoint=CheckpointConfig(every=10, minutes=None),
        logging=LoggingConfig(every=1, sample_prompts=SAMPLE_PROMPTS),
    )
    return assemble(settings, device=device)(observers=watch(recipe.stage))


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
        # As for captioning: a small model's rows are not worth a kernel each on a GPU.
        compute=replace(settings.compute, packing=device.type == "cpu", precision=config.precision),
        logging=LoggingConfig(sample_prompts=SAMPLE_PROMPTS),
    )
    return assemble(settings, device=device)(observers=watch(recipe.stage))
