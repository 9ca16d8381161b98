"""TensorBoard and Weights & Biases as observers of a run; both are extras of the package."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deepgen.config.train import Logger
from deepgen.reading import read_text
from deepgen.train.monitor.metrics import Observer


def open_loggers(
    names: Sequence[Logger], folder: Path, settings: Mapping[str, Any]
) -> list[Observer]:
    """The loggers of a run.

    Args:
        names: Which.
        folder: Of the run; it names the run, and holds the loggers' files.
        settings: All settings of the run.
    """
    return [
        TensorBoard(folder / "tensorboard") if name == "tensorboard" else Wandb(folder, settings)
        for name in dict.fromkeys(names)
    ]


class TensorBoard:
    """Event files for TensorBoard.

    Args:
        folder: Where they are written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer: Any = None

    def begin(self, done: int, steps: int) -> None:
        """Start a file; it hides later steps of older files."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self.folder), purge_step=done + 1)

    def on_step_end(self, step: int, report: Mapping[str, float]) -> None:
        """Nothing; only means are logged."""

    def logged(self, step: int, line: Mapping[str, float]) -> None:
        """Write all means of a line."""
        for name, value in line.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def end(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()


class Wandb:
    """A run of Weights & Biases; ``WANDB_MODE`` decides whether it is sent to a server.

    Args:
        folder: Of the training run; holds the id of the run at W&B, which a resumed run continues.
        settings: Shown with it.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.settings = settings
        self._run: Any = None

    def begin(self, done: int, steps: int) -> None:
        """Start the run at W&B, or resume it."""
        import wandb

        known = self.folder / "wandb-id"
        # A run that starts anew needs another id, since steps may only rise.
        if done == 0 or not known.exists():
            known.write_text(secrets.token_hex(4))
        self._run = wandb.init(
            project="deepgen",
            name=self.folder.name,
            id=read_text(known),
            resume="allow",
            dir=str(self.folder),
            config=dict(self.settings),
        )

    def on_step_end(self, step: int, report: Mapping[str, float]) -> None:
        """Nothing; only means are logged."""

    def logged(self, step: int, line: Mapping[str, float]) -> None:
        """Send all means of a line."""
        self._run.log(dict(line), step=step)

    def end(self) -> None:
        """Send what is left."""
        if self._run is not None:
            self._run.finish()
