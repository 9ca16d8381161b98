"""``deepgen train``: a stage of training, from a recipe, a file and the command line."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from tyro.conf import Positional, arg

from deepgen.cli.console import print_line, print_result
from deepgen.cli.options import DeviceChoice, read_config
from deepgen.cli.parsing import did_you_mean, parse
from deepgen.cli.signals import raise_if_received
from deepgen.config.stage import StageConfig
from deepgen.config.train import Logger
from deepgen.devices import local_device, pick_device
from deepgen.errors import UsageError
from deepgen.extras import install_line
from deepgen.locks import locked
from deepgen.recipes.registry import RECIPES, describe_recipes, recipe_of
from deepgen.stages.run_folder import check_output, has_checkpoints

if TYPE_CHECKING:
    from deepgen.stages.plan import Plan
    from deepgen.train.checkpoints import Checkpoint

MINI_HELP = (
    "All stages from nothing at small size, with settings of its own; see deepgen train mini "
    "--help."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Train:
    """Train a model on a data set; the same command again resumes an interrupted run."""

    HELP_LISTS: ClassVar = {"Recipes": {**describe_recipes(), "mini": MINI_HELP}}

    recipe: Positional[Annotated[str, arg(metavar="RECIPE", help_behavior_hint="")]] = ""
    """One of the recipes below."""
    settings: Annotated[StageConfig, arg(name="")] = field(default_factory=StageConfig)
    """All settings of the stage."""
    config: Annotated[Path | None, arg(metavar="FILE.yaml", help_behavior_hint="")] = None
    """Settings that replace the recipe's; the command line takes precedence over both."""
    resume: Annotated[
        Literal["auto", "never"] | Path, arg(metavar="auto|never|PATH", help_behavior_hint="")
    ] = "auto"
    """auto resumes from the newest whole checkpoint in OUTPUT, never requires that there is none;
    PATH of a run or a checkpoint elsewhere starts OUTPUT from it, and is not needed once OUTPUT has
    checkpoints of its own (default: auto)."""
    dry_run: bool = False
    """Only print the plan: parameters, memory, micro-batches, epochs."""
    device: DeviceChoice = "auto"
    """Where to compute."""
    json: bool = False
    """Print one JSON object."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> None:
        """Train, and print the path of the model.

        Raises:
            ValueError: A setting cannot be used, or the folder is not the run's own.
            CheckpointError: The model, or a checkpoint, cannot be used.
            DataError: The data cannot be used.
            FolderInUseError: Another process trains there.
            StoppedError: A signal asked for it; the run has been saved.
            TrainingError: The run cannot continue.
        """
        output = self.settings.output
        if self.resume == "never" and has_checkpoints(output):
            raise ValueError(f"{output} already contains a run; use another --output, or resume it")
        check_output(self.settings)
        check_loggers(self.settings.logging.to)
        with ExitStack() as stack:
            # The first of several processes, which writes for all.
            if not self.dry_run and os.environ.get("RANK", "0") == "0":
                stack.enter_context(locked(output))
            self._train()

    def _train(self) -> None:
        """See :meth:`run`, in the folder of the run."""
        output = self.settings.output
        from deepgen.cli.progress_line import ProgressLine
        from deepgen.stages.assembling import assemble
        from deepgen.stages.plan import plan
        from deepgen.stages.resume import resolve_settings
        from deepgen.train.parallel.distributed import joined

        device = local_device(pick_device(self.device))
        with joined(device) as processes:
            start, begun = processes.on_rank_zero(lambda: _beginning(self.resume, output))
            settings = resolve_settings(self.settings, processes.world_size, begun)
            found = plan(settings, device=device, world_size=processes.world_size)
            if self.dry_run:
                if processes.is_rank_zero:
                    print_result(json.dumps(asdict(found)) if self.json else _table(found))
                return
            if processes.is_rank_zero and found.idle_fraction:
                print_line(_idle_notice(found))
            run = assemble(settings, device=device, processes=processes)
            if processes.is_rank_zero:
                print_line(run.latents_source)
            if start is not None:
                # Before anything is written for a run that would be refused.
                run.trainer.check(start, is_branch=True)
                if processes.is_rank_zero:
                    changes = run.trainer.identity.changed_settings(
                        start.values("config"), is_branch=True
                    )
                    print_line("; ".join([f"starting from {start.path}", *changes]))
            raise_if_received()
            path = run(observers=[ProgressLine(output)], start=start)
            if processes.is_rank_zero:
                print_result(json.dumps({"path": str(path)}) if self.json else str(path))


def _beginning(resume: str | Path, output: Path) -> tuple[Checkpoint | None, StageConfig | None]:
    """The checkpoint of another run to start from, and the settings that the run began with.

    Raises:
        CheckpointError: There is no whole checkpoint.
        ValueError: What was named is not there, or not elsewhere; the settings cannot be read.
    """
    from deepgen.stages.resume import stored_settings
    from deepgen.train.checkpoints import open_checkpoint

    origin = _origin(resume, output)
    start = None if origin is None else open_checkpoint(origin)
    return start, stored_settings(output, start)


def _origin(resume: str | Path, output: Path) -> Path | None:
    """The run or checkpoint elsewhere to start from, if one was named and is needed.

    Raises:
        ValueError: It is not there, or not elsewhere.
    """
    if not isinstance(resume, Path) or resume.resolve() == output.resolve():
        return None
    if output.resolve() in resume.resolve().parents:
        raise ValueError(
            f"--resume {resume} is inside {output} itself; to start from it, use another --output"
        )
    if has_checkpoints(output):
        return None
    if not resume.is_dir():
        raise ValueError(f"--resume {resume}: no such folder; expected auto, never, or a run")
    return resume


def check_loggers(names: Sequence[Logger]) -> None:
    """Check that the packages of the loggers are installed.

    Raises:
        ValueError: One is not; says how to install it.
    """
    for name in names:
        spec = find_spec(name)
        # A folder of that name, as both loggers create, is found too, but has no origin.
        if spec is None or spec.origin is None:
            raise ValueError(
                f"--log-to {name} needs a package that is not installed: {install_line(name)}"
            )


def parse_train(arguments: Sequence[str], examples: Sequence[str] = ()) -> Train:
    """The command behind ``train``; settings are the recipe's, the file's, then the command line's.

    Raises:
        UsageError: The arguments cannot be used.
        ValueError: The file cannot be used.
        SystemExit: Help was printed.
    """
    names = [each for each in RECIPES if each in arguments]
    command = _parsed(arguments, names[0] if names else None, examples)
    # The first may have been the value of a setting, such as an output that is called sft.
    if command.recipe in names[:1]:
        return command
    if command.recipe not in RECIPES:
        known = [*RECIPES, "mini"]
        hint = did_you_mean(command.recipe, known)
        raise UsageError(
            f"found {command.recipe or 'nothing'!r} where a recipe was expected: give one of "
            f"{', '.join(known)}{hint}"
        )
    return _parsed(arguments, command.recipe, examples)


def _parsed(arguments: Sequence[str], recipe: str | None, examples: Sequence[str]) -> Train:
    """The command, with a recipe's settings as defaults; without one there is only its help."""
    settings = replace(StageConfig(), output=Path("runs/RECIPE"))
    if recipe is not None:
        settings = _settings(recipe, arguments)
    default = Train(recipe=recipe or "", settings=settings)
    given = [] if recipe is None else [recipe]
    return parse(
        Train,
        arguments,
        name=" ".join(["train", *given]),
        examples=examples,
        default=default,
        keep_prefixes=True,
        in_name=given,
    )


def _settings(recipe: str, arguments: Sequence[str]) -> StageConfig:
    """The settings before the command line: the recipe's, replaced by those of the file."""
    preset = RECIPES[recipe]()
    config = read_config(arguments, preset)
    if config.stage != preset.stage:
        raise ValueError(
            f"the file of --config is for stage {config.stage}, but {recipe} trains stage "
            f"{preset.stage}; use deepgen train {recipe_of(config.stage)}, or remove its stage"
        )
    return config


def _table(found: Plan) -> str:
    """The plan as a table of two columns."""
    fewest, most = found.microbatches_per_process
    rows = [
        ("steps", f"{found.steps:,}"),
        *((f"trained: {name}", f"{count:,}") for name, count in found.trained.items()),
        *((f"frozen: {name}", f"{count:,}") for name, count in found.frozen.items()),
        ("memory without activations", _gib(found.static_bytes)),
        ("temporary copies", _gib(found.temporary_bytes)),
        ("activations, estimated", _gib(found.activation_bytes)),
        ("samples per step", f"{sum(found.samples_per_step.values()):,}"),
        ("processes", f"{found.processes:,}"),
        ("micro-batches per process", f"{most}" if fewest == most else f"{fewest} to {most}"),
    ]
    if found.idle_fraction:
        rows.append(("idle time", f"{found.idle_fraction:.0%}"))
    for task, count in found.samples_per_step.items():
        rows += [
            (f"{task}: samples in the data", f"{found.samples[task]:,}"),
            (f"{task}: samples per step", f"{count:,}"),
            (f"{task}: epochs", f"{found.epochs[task]:,}"),
        ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}} {value:>16}" for name, value in rows)


def _idle_notice(found: Plan) -> str:
    count = sum(found.microbatches.values())
    return (
        f"{found.processes} processes share {count} micro-batches per step and idle "
        f"{found.idle_fraction:.0%} of the time; a multiple of {found.processes} keeps all busy"
    )


def _gib(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"
