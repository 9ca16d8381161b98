"""A run of the mini in one small file, to continue it on another machine.

``python -m deepgen.mini.training.transfer pack RUN FILE`` writes the settings and, of every part
of stage 0 that has a checkpoint, its step and EMA weights in float16: a twentieth of the run's
folder. ``unpack FILE RUN`` makes a run of it, which ``deepgen train mini`` resumes. The moments of
the optimizer are lost, so that the run continues equal in distribution, not bit for bit.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from deepgen.config.codec import compared_values, read_yaml, updated
from deepgen.config.mini import MiniConfig
from deepgen.errors import CheckpointError, DeepGenError
from deepgen.mini.training.model import new_autoencoder
from deepgen.mini.training.parts import (
    PART_NAMES,
    Part,
    autoencoder_part,
    captioning_part,
    checkpoints_of,
    label_part,
)
from deepgen.mini.training.run import mini_tokenizer
from deepgen.reading import parse_json
from deepgen.stages.run_folder import SETTINGS, save_settings
from deepgen.vae import LatentCodec

FORMAT = "deepgen mini run 1"


def pack(run: Path, file: Path) -> dict[str, int]:
    """Write what is needed to continue a run, and return the steps of its parts.

    Raises:
        CheckpointError: The run has no checkpoint.
        ValueError: The folder holds no run of the mini.
    """
    config = read_yaml(run / SETTINGS, MiniConfig())
    tensors: dict[str, Tensor] = {}
    steps: dict[str, int] = {}
    for part in PART_NAMES:
        newest = checkpoints_of(run, part).newest()
        if newest is not None:
            steps[part] = newest.step
            for name, value in newest.tensors("ema").items():
                tensors[f"{part}/{name}"] = value.half()
    if not steps:
        raise CheckpointError(f"{run} has no checkpoint yet; train it for a while first")
    about = {"format": FORMAT, "config": compared_values(config), "steps": steps}
    partial = file.with_name(f"{file.name}.partial")
    save_file(tensors, partial, metadata={"run": json.dumps(about)})
    partial.replace(file)
    return steps


def unpack(file: Path, run: Path) -> dict[str, int]:
    """Make a run of a packed one, and return the steps of its parts.

    Raises:
        CheckpointError: The file is not a packed run of this version, or the folder is not empty.
    """
    if run.exists() and any(run.iterdir()):
        raise CheckpointError(f"{run} is not empty; name a new folder")
    try:
        with safe_open(file, framework="pt") as opened:
            about = parse_json((opened.metadata() or {}).get("run", "{}"))
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"{file} is not a packed run of the mini: {error}") from None
    if about.get("format") != FORMAT:
        raise CheckpointError(
            f"{file} is in format {about.get('format')}, expected {FORMAT}; pack it with this "
            "version"
        )
    config = updated(MiniConfig(), about["config"], name=str(file))
    steps: dict[str, int] = about["steps"]
    run.mkdir(parents=True, exist_ok=True)
    for name, step in steps.items():
        prefix = f"{name}/"
        own = {
            key.removeprefix(prefix): value
            for key, value in tensors.items()
            if key.startswith(prefix)
        }
        _write_checkpoint(_part(name, config), own, step, run, file)
    # Last: without it the folder is no run.
    save_settings(run / SETTINGS, config)
    return steps


@torch.no_grad()
def _write_checkpoint(
    part: Part, weights: dict[str, Tensor], step: int, run: Path, file: Path
) -> None:
    """A checkpoint at a step with EMA weights for weights, and an optimizer without moments."""
    trainer = part.trainer()
    shapes = {name: value.shape for name, value in trainer.trained.items()}
    if shapes != {name: value.shape for name, value in weights.items()}:
        raise CheckpointError(f"{file} holds another {part.name}; pack it with this version")
    assert trainer.ema is not None
    for name, value in trainer.trained.items():
        value.copy_(weights[name])
        trainer.ema.weights[name].copy_(weights[name])
    trainer.done = step
    trainer.save(checkpoints_of(run, part.name))


def _part(name: str, config: MiniConfig) -> Part:
    """A part of stage 0 with new weights, on the CPU."""
    device = torch.device("cpu")
    if name == "autoencoder":
        return autoencoder_part(config, device)
    if name == "captioning":
        return captioning_part(mini_tokenizer(config), config, device)
    return label_part(LatentCodec(new_autoencoder(config.seed)), config, device)


def main() -> int:
    """Pack or unpack a run; its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("action", choices=("pack", "unpack"))
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    act = pack if arguments.action == "pack" else unpack
    try:
        steps = act(arguments.source, arguments.target)
    except (DeepGenError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(", ".join(f"{name}: step {step}" for name, step in steps.items()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
