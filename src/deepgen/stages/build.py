"""Assembling a stage from its configuration: data, model, objective, optimizer, trainer."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from deepgen.checkpoint.files import ModelFolder
from deepgen.checkpoint.folder import load_folder
from deepgen.checkpoint.hub import resolve
from deepgen.checkpoint.parts import vae_part
from deepgen.config.codec import compared_values, flattened, to_values
from deepgen.config.model import Padding
from deepgen.config.stage import StageConfig
from deepgen.config.train import OptimizerConfig, Precision
from deepgen.data.dataset import DataSet
from deepgen.data.latents import LatentCache
from deepgen.data.loader import Loader, LoaderOptions
from deepgen.data.mixture import open_data as open_set_or_mixture
from deepgen.errors import DataError
from deepgen.flow.schedule import training_sigmas
from deepgen.locks import locked
from deepgen.model import DeepGen
from deepgen.nn.compiling import check_compiler
from deepgen.stages.batches import FlowBatches
from deepgen.stages.card import make_card
from deepgen.stages.export import export, export_trained
from deepgen.stages.inputs import describe_inputs
from deepgen.stages.microbatches import task_plans
from deepgen.stages.resume import resolve_latent_cache
from deepgen.stages.run_folder import (
    SETTINGS,
    has_checkpoints,
    save_settings,
)
from deepgen.stages.samples import Samples
from deepgen.stages.validation import Validation
from deepgen.train.checkpoints import Checkpoint
from deepgen.train.ema import Ema
from deepgen.train.identity import RunIdentity
from deepgen.train.loop import LoopConfig, Monitoring
from deepgen.train.monitor.flops import SampleCost
from deepgen.train.monitor.loggers import open_loggers
from deepgen.train.monitor.logs import METRICS
from deepgen.train.monitor.metrics import Observer
from deepgen.train.monitor.peaks import peak_rate
from deepgen.train.monitor.speed import Clock, DeviceRates, measure_matrix_rate
from deepgen.train.objective import FlowObjective
from deepgen.train.optim import (
    TABLES,
    AdamW,
    MatrixOptimizer,
    Optimizer,
    warmup_then_cosine,
)
from deepgen.train.parallel.distributed import SINGLE_PROCESS, Processes
from deepgen.train.parallel.sharding import Parallelism, Shards, chosen_sharding, full_state, shard
from deepgen.train.sample_rng import SampleRng
from deepgen.train.stream import BatchStream, ByStep
from deepgen.train.trainable import make_trainable
from deepgen.train.trainer import Objective, Trainer
from deepgen.vae import LatentCodec


def do_nothing() -> None:
    """There is nothing to close."""


@runtime_checkable
class Evaluation(Protocol):
    """What a run measures every so often, on the first process."""

    @property
    def counts(self) -> Mapping[Any, int]:
        """How many samples there are, by kind; empty if there is nothing to do."""

    def __call__(self, model: DeepGen, step: int) -> None:
        """Measure, and append a line to the metrics."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A stage that is ready to run."""

    config: StageConfig
    model: DeepGen
    trainer: Trainer[DeepGen, Any]
    samples: Samples
    validation: Evaluation
    base: Path
    """Folder of the model that training starts from."""
    card: Mapping[str, Any]
    """Card of the trained model, see :func:`make_card`."""
    latents_source: str
    """Where latents come from, in a line for the user."""
    close: Callable[[], None] = do_nothing
    """Called at the end, for whatever reason."""

    def __call__(
        self, *, observers: Sequence[Observer] = (), start: Checkpoint | None = None
    ) -> Path:
        """Train to the end, from the newest checkpoint if there is one, and export the model.

        Args:
            observers: Receive the progress of the run, besides the loggers of the configuration.
            start: Checkpoint of another run to start from, while there is none of this one.

        Returns:
            The model folder, which ``generate`` and the next stage read.

        Raises:
            CheckpointError: A checkpoint is of another run, or the model cannot be written.
            FolderInUseError: Another process trains there.
            StoppedError: A signal asked for it; the run can be resumed.
            TrainingError: The run cannot continue; saved checkpoints are complete.
        """
        processes = self.trainer.processes
        with ExitStack() as stack:
            # Only the first process writes, for all.
            processes.on_rank_zero(lambda: stack.enter_context(locked(self.config.output)))
            return self._run(observers, start)

    def _run(self, observers: Sequence[Observer], start: Checkpoint | None) -> Path:
        config = self.config
        processes = self.trainer.processes
        config.output.mkdir(parents=True, exist_ok=True)
        # Once there are checkpoints only at the end, when this run has been accepted.
        if processes.is_rank_zero and not has_checkpoints(config.output):
            save_settings(config.output / SETTINGS, config)
        loggers = open_loggers(config.logging.to, config.output, to_values(config))
        try:
            self.trainer.run(
                config.output,
                checkpoint=config.checkpoint,
                logging=config.logging,
                evaluate=self._evaluate if self.samples.prompts or self.validation.counts else None,
                observers=[*observers, *loggers],
                rates=self._rates(),
                start=start,
            )
        finally:
            self.close()
        # Again, since settings may have changed; a refused run never gets here.
        processes.on_rank_zero(lambda: save_settings(config.output / SETTINGS, config))
        if self.trainer.ema is not None:
            self.trainer.ema.copy_to_model()
        card = {**self.card, "skipped_steps": self.trainer.skipped}
        if self.trainer.shards is None:
            return processes.on_rank_zero(lambda: export(self.model, config, card))
        trained = full_state(self.trainer.trained, processes)
        return processes.on_rank_zero(
            lambda: export_trained(self.base, trained, config, card, self.model.device)
        )

    def _evaluate(self, model: DeepGen, step: int) -> None:
        """Sample images and the validation loss."""
        self.samples(model, step)
        self.validation(model, step)

    def _rates(self) -> DeviceRates:
        """Peak and measured rates of this process's device, in the precision of matrix products."""
        device = self.model.device
        mixed = is_mixed(self.config.compute.precision, device)
        peak = None
        if self.config.logging.peak_tflops is not None:
            peak = self.config.logging.peak_tflops * 1e12
        elif mixed and device.type == "cuda":
            peak = peak_rate(torch.cuda.get_device_name(device))
        dtype = torch.bfloat16 if mixed else torch.float32
        return DeviceRates(peak=peak, measured=measure_matrix_rate(device, dtype))


def build(
    config: StageConfig, *, device: torch.device, processes: Processes = SINGLE_PROCESS
) -> Run:
    """Load the model and open the data of a stage, after :func:`resolve_settings`.

    Raises:
        CheckpointError: The model cannot be loaded.
        DataError: The data cannot be used.
        ImageError: An image of ``sample_edits`` cannot be read.
        TrainingError: Blocks are to be compiled, and there is no compiler.
        ValueError: Settings that do not work together.
    """
    data = open_data(config)
    tasks = task_plans(config, data, processes.world_size)
    samples = Samples(config)
    folder = resolve(config.model)
    model = prepared_model(config, folder, device)
    padding = config.padding or model.defaults.padding
    shards = shard_model(config, model, padding, processes)
    if config.compute.compile:
        check_compiler(device)
        model.dit.compile_each_block()
    # In float32, as for the latent cache.
    vae = LatentCodec(vae_part(ModelFolder(folder)).load(torch.float32, device))
    model.vae = vae.eval().requires_grad_(False)
    side = config.data.side or round((model.defaults.height * model.defaults.width) ** 0.5)
    may_cache = config.data.cached_latents == "auto" and not has_checkpoints(config.output)
    config, latent_cache = resolve_latent_cache(config, data, model.vae, side, processes)
    fraction = config.data.max_bad_fraction
    options = LoaderOptions(tasks=tasks, seed=config.seed, side=side, max_bad_fraction=fraction)
    loader = Loader(data, options, latent_cache=latent_cache)
    shortened = model.conditioner.tokenize.shortened
    batches = FlowBatches(loader, model.vae, processes, Clock(device), shortened)
    objective = flow_objective(config, model, padding)
    inputs = describe_inputs(
        model,
        side=side,
        padding=padding,
        mixed=is_mixed(config.compute.precision, device),
        edits="edit" in tasks,
    )
    trainer = make_trainer(
        config,
        model,
        objective(SampleRng(config.seed, config.stage), caption_drop=config.data.caption_drop),
        ByStep(batches),
        partial(warmup_then_cosine, steps=config.steps),
        _identity(config, data, inputs),
        Parallelism(processes=processes, shards=shards),
        clock=batches.clock,
        supervised=batches,
    )
    return Run(
        config=config,
        model=model,
        trainer=trainer,
        samples=samples,
        # The same noise in every run, so that runs can be compared, and no dropped captions.
        validation=_validation(config, loader, objective(SampleRng(0, "validation"))),
        base=folder,
        card=make_card(config, loader, model, folder, settings=compared_values(config)),
        latents_source=_describe_latents(config, side, latent_cache, may_cache=may_cache),
    )


def prepared_model(config: StageConfig, folder: Path, device: torch.device) -> DeepGen:
    """The model, ready for training."""
    dtype = torch.float32 if config.compute.precision == "float32" else None
    model = load_folder(folder, dtype=dtype, device=device)
    make_trainable(model, config.stage, lora=config.adapters, seed=config.seed)
    model.checkpoint_activations(config.compute.checkpoint_activations)
    # Compiled blocks would be recompiled for the lengths of every micro-batch; on a CPU a mask
    # costs nothing.
    by_row = config.compute.packing and device.type != "cpu" and not config.compute.compile
    model.pack(config.compute.packing, attention_by_row=by_row)
    model.conditioner.vlm.detach_prompts = not config.compute.prompt_gradients
    return model


def flow_objective(
    config: StageConfig, model: DeepGen, padding: Padding
) -> Callable[..., FlowObjective]:
    """The loss, up to who draws the noise and how often captions are dropped."""
    return partial(
        FlowObjective,
        training_sigmas(model.schedule),
        padding=padding,
        levels=config.flow.levels,
        weighting=config.flow.weighting,
        round_sigmas=config.flow.round_sigmas,
        autocast=torch.bfloat16 if is_mixed(config.compute.precision, model.device) else None,
        cost=SampleCost(model, config.stage),
    )


def make_trainer(
    config: StageConfig,
    model: DeepGen,
    objective: Objective[DeepGen, Any],
    stream: BatchStream[DeepGen, Any],
    schedule: Callable[..., float],
    identity: RunIdentity,
    parallel: Parallelism,
    *,
    clock: Clock,
    supervised: FlowBatches | None,
) -> Trainer[DeepGen, Any]:
    """The loop of a stage.

    Args:
        schedule: Of the learning rate; takes ``warmup``, in steps.
        supervised: Where samples of a data set come from, if any are used.
    """
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    optimizer = config.optimizer
    return Trainer(
        model,
        objective,
        stream,
        make_optimizer(optimizer, trained),
        LoopConfig(
            steps=config.steps,
            schedule=partial(schedule, warmup=round(optimizer.warmup_ratio * config.steps)),
            seed=config.seed,
            max_grad_norm=optimizer.max_grad_norm,
        ),
        ema=None if config.ema_decay is None else Ema(trained, config.ema_decay),
        identity=identity,
        parallel=parallel,
        monitoring=Monitoring(
            clock=clock,
            parts={name: part_of(name) for name in trained},
            replacement_source=supervised,
        ),
    )


def _identity(config: StageConfig, data: DataSet, inputs: Mapping[str, Any]) -> RunIdentity:
    """What the run is recognised by; inputs come in place of settings that may be left open."""
    compared = {**flattened(compared_values(config)), **inputs, "data": data.manifest.identity}
    return RunIdentity(compared=compared, settings=to_values(config))


def _validation(config: StageConfig, loader: Loader, objective: FlowObjective) -> Validation:
    """The loss on held-out samples, of the tasks and at the size that are trained."""
    return Validation(
        loader.data,
        config.output / METRICS,
        objective,
        tasks=loader.options.tasks,
        side=loader.options.side,
        max_bad_fraction=loader.options.max_bad_fraction,
        latent_cache=loader.latent_cache,
    )


def make_optimizer(config: OptimizerConfig, trained: Mapping[str, nn.Parameter]) -> Optimizer:
    """The configured optimizer."""
    if config.kind == "muon":
        return MatrixOptimizer(
            trained.items(), lr=config.lr, adamw_names=TABLES, weight_decay=config.weight_decay
        )
    return AdamW(
        trained.items(),
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        weight_decay=config.weight_decay,
    )


def open_data(config: StageConfig) -> DataSet:
    """The data set or mixture of a stage.

    Raises:
        DataError: None is named, or it cannot be used.
    """
    if config.data.folder is None:
        raise DataError("no data to train on; make them with deepgen data import, then add --data")
    return open_set_or_mixture(config.data.folder)


def shard_model(
    config: StageConfig, model: DeepGen, padding: Padding, processes: Processes
) -> Shards | None:
    """Shard a model as configured.

    Raises:
        ValueError: It cannot be sharded so.
    """
    sharding = chosen_sharding(
        config.parallel.sharding, config.stage, model.device, processes.world_size
    )
    if sharding != "none" and config.optimizer.kind == "muon":
        raise ValueError("muon needs whole matrices; use --sharding none, or --optimizer adamw")
    if sharding != "none" and config.compute.compile:
        raise ValueError(
            "compiled blocks cannot be sharded yet; omit --compile, or use --sharding none"
        )
    if sharding == "full" and padding == "batch":
        raise ValueError(
            "padding batch runs parts of the language model separately, which sharding full does "
            "not allow; use --padding none, or --sharding optimizer"
        )
    return shard(model, sharding, processes, mixed=is_mixed(config.compute.precision, model.device))


def _describe_latents(
    config: StageConfig, side: int, latent_cache: LatentCache | None, *, may_cache: bool
) -> str:
    """Where latents come from, and how to cache them while that can still be chosen."""
    if latent_cache is not None:
        return f"latents from the cache {latent_cache.folder}; the VAE encodes nothing"
    described = "the VAE encodes images whenever they are used"
    if not may_cache:
        return described
    command = ["deepgen", "data", "cache", str(config.data.folder), "--model", config.model]
    return (
        f"{described}; to encode them once, before a run begins: "
        f"{shlex.join([*command, '--side', str(side)])}"
    )


def part_of(name: str) -> str:
    """The part of the model that a trained parameter is reported under."""
    if name.startswith("dit."):
        return "dit"
    if name.startswith("conditioner.vlm."):
        return "vlm_adapters"
    return "think_tokens" if name.endswith("meta_queries") else "connector"


def is_mixed(precision: Precision, device: torch.device) -> bool:
    """Whether matrix products are computed in bfloat16; weights and losses stay in float32."""
    return precision == "bfloat16" or (precision == "auto" and device.type == "cuda")
