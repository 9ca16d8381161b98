"""Assembling a stage from its configuration: data, model, objective, optimizer, trainer; and what
comes out of it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deepgen.checkpoint.files import ModelFolder
from deepgen.checkpoint.folder import compute_dtype, load_folder, save_folder
from deepgen.checkpoint.hub import resolve
from deepgen.checkpoint.lora import save_dit_lora, save_vlm_lora
from deepgen.checkpoint.parts import vae_part
from deepgen.config.codec import to_values, write_yaml
from deepgen.config.stage import OptimizerConfig, StageConfig
from deepgen.data.dataset import DataSet
from deepgen.data.latents import MomentsCache, weights_hash
from deepgen.data.loader import Loader, LoaderOptions, TaskPlan
from deepgen.data.records import Task
from deepgen.errors import DataError
from deepgen.flow.schedule import training_sigmas
from deepgen.model import DeepGen
from deepgen.nn.lora import fold_lora
from deepgen.pipeline.pipeline import DeepGenPipeline
from deepgen.recipes.batches import FlowBatches
from deepgen.train.distributed import ALONE, Processes
from deepgen.train.draws import VisitDraws
from deepgen.train.ema import Ema
from deepgen.train.objective import FlowBatch, FlowObjective
from deepgen.train.optim import (
    TABLES,
    AdamW,
    MatrixOptimizer,
    Optimizer,
    warmup_then_cosine,
)
from deepgen.train.trainable import make_trainable
from deepgen.train.trainer import Trainer
from deepgen.vae import LatentCodec

# What a run may change its mind about without becoming another run.
FREE = ("output", "data", "model", "save_every", "log_every", "keep", "sample_prompts")


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A stage that is ready to run."""

    config: StageConfig
    model: DeepGen
    trainer: Trainer[DeepGen, FlowBatch]

    def __call__(self) -> Path:
        """Train to the end, from the newest checkpoint if there is one, and export the model.

        Returns:
            The model folder, which ``generate`` and the next stage read.

        Raises:
            CheckpointError: A checkpoint is of another run, or the model cannot be written.
            StoppedError: A signal asked for it; the same run goes on from there.
            TrainingError: The run cannot go on; what was saved is whole.
        """
        config = self.config
        config.output.mkdir(parents=True, exist_ok=True)
        processes = self.trainer.processes
        settings = config.output / "config.yaml"
        if processes.is_first and not settings.exists():
            write_yaml(settings, config)
        self.trainer.run(
            config.output,
            save_every=config.save_every,
            log_every=config.log_every,
            keep=config.keep,
            watch=partial(_draw_samples, config) if config.sample_prompts else None,
        )
        # Again, since what is free to change may have changed; a refused run never gets here.
        processes.by_first(lambda: write_yaml(settings, config))
        if self.trainer.ema is not None:
            self.trainer.ema.settle()
        return processes.by_first(lambda: export(self.model, config))


def build(config: StageConfig, *, device: torch.device, processes: Processes = ALONE) -> Run:
    """Load the model and open the data of a stage.

    Args:
        config: The stage.
        device: This process's.
        processes: Those that train together.

    Raises:
        CheckpointError: The model cannot be loaded.
        DataError: The data cannot be used.
    """
    data = open_data(config)
    dtype = torch.float32 if config.precision == "float32" else None
    folder = resolve(config.model)
    model = load_folder(folder, dtype=dtype, device=device)
    lora = None if config.freeze_vlm else config.lora
    trained = make_trainable(model, config.stage, lora=lora, seed=config.seed)
    knobs = config.optimizer
    side = config.side or round((model.defaults.height * model.defaults.width) ** 0.5)
    # In float32, as its moments are cached: what is rounded here is rounded at every visit.
    model.vae = LatentCodec(vae_part(ModelFolder(folder)).load(torch.float32, device)).eval()
    loader = Loader(data, loader_options(config, data, side), moments=_moments(model, data, side))
    objective = FlowObjective(
        training_sigmas(model.schedule),
        VisitDraws(config.seed, config.stage),
        caption_drop=config.caption_drop,
        padding=config.padding or model.defaults.padding,
        autocast=torch.bfloat16 if _is_mixed(config, device) else None,
    )
    chosen = {name: value for name, value in to_values(config).items() if name not in FREE}
    trainer = Trainer(
        model,
        objective,
        FlowBatches(loader, model.vae, processes),
        _optimizer(knobs, trained),
        steps=config.steps,
        schedule=partial(
            warmup_then_cosine,
            steps=config.steps,
            warmup=round(knobs.warmup_share * config.steps),
        ),
        seed=config.seed,
        max_grad_norm=knobs.max_grad_norm,
        ema=None if config.ema_decay is None else Ema(trained, config.ema_decay),
        identity={**chosen, "data": data.manifest.identity},
        processes=processes,
    )
    return Run(config=config, model=model, trainer=trainer)


def _optimizer(knobs: OptimizerConfig, trained: Mapping[str, nn.Parameter]) -> Optimizer:
    """The optimizer that was asked for."""
    if knobs.kind == "muon":
        return MatrixOptimizer(
            trained.items(), lr=knobs.lr, adamw_names=TABLES, weight_decay=knobs.weight_decay
        )
    return AdamW(
        trained.items(),
        lr=knobs.lr,
        betas=(knobs.beta1, knobs.beta2),
        weight_decay=knobs.weight_decay,
    )


def open_data(config: StageConfig) -> DataSet:
    """The data set of a stage.

    Raises:
        DataError: None is named, or it cannot be used.
    """
    if config.data is None:
        raise DataError("no data to train on; make them with deepgen data import, then add --data")
    return DataSet.open(config.data)


def loader_options(config: StageConfig, data: DataSet, side: int) -> LoaderOptions:
    """How much of which task goes into an update; tasks that the data lack are left out.

    Raises:
        DataError: Nothing is left.
    """
    passes: dict[Task, int] = {"t2i": config.drawing_microbatches, "edit": config.edit_microbatches}
    tasks = {
        task: TaskPlan(microbatch_size=config.microbatch_size, microbatches=count)
        for task, count in passes.items()
        if count and len(data.rows(task=task, split="train"))
    }
    if not tasks:
        raise DataError(f"{data.folder} has no samples of the tasks that are to be trained")
    return LoaderOptions(tasks=tasks, seed=config.seed, side=side)


def export(model: DeepGen, config: StageConfig) -> Path:
    """Write what a stage has made: the model, and its adapters for users of peft."""
    adapters = config.output / "lora"
    # Of an earlier end of the same run.
    shutil.rmtree(adapters, ignore_errors=True)
    if config.stage == "lora":
        save_dit_lora(model.dit, adapters)
        fold_lora(model.dit)
    elif config.stage == "sft" and not config.freeze_vlm:
        save_vlm_lora(model.conditioner.vlm, adapters)
        fold_lora(model.conditioner.vlm.language_model)
    changed = {
        "pretrain": ["connector"],
        "sft": ["connector", "transformer", *([] if config.freeze_vlm else ["vlm"])],
        "lora": ["transformer"],
    }[config.stage]
    model.provenance.update(dict.fromkeys(changed, f"{config.stage}, {config.steps} updates"))
    path = config.output / "model"
    save_folder(model, path, dtype=compute_dtype(None, model.device), overwrite=True)
    return path


def _moments(model: DeepGen, data: DataSet, side: int) -> MomentsCache | None:
    """What ``deepgen data cache`` has encoded with this autoencoder at this side, if it did."""
    try:
        return MomentsCache.open(data, vae_hash=weights_hash(model.vae), side=side)
    except DataError:
        return None


def _is_mixed(config: StageConfig, device: torch.device) -> bool:
    """Products in bfloat16 where asked for; weights, losses and sums stay in float32."""
    return config.precision == "bfloat16" or (config.precision == "auto" and device.type == "cuda")


def _draw_samples(config: StageConfig, model: nn.Module, step: int) -> None:
    """The same sentences with the same seeds, after every checkpoint."""
    assert isinstance(model, DeepGen)
    pipe = DeepGenPipeline(model)
    pipe.set_progress_bar_config(disable=True)
    folder = config.output / "samples"
    folder.mkdir(exist_ok=True)
    for seed, prompt in enumerate(config.sample_prompts):
        result: Any = pipe(prompt, seed=seed)
        result.images[0].save(folder / f"step_{step:08}_{seed}.png")
