"""The folder of a run; files that no run has written are never replaced."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepgen.config.codec import write_yaml
from deepgen.config.stage import StageConfig
from deepgen.images.io import atomic_file
from deepgen.outputs import check_output_folder, resolved
from deepgen.reading import read_yaml
from deepgen.train.monitor.logs import METRICS, REPLACEMENTS

SETTINGS = "config.yaml"
MODEL = "model"
ADAPTERS = "lora"
RESULTS = (MODEL, ADAPTERS)
"""What a stage exports, beside the checkpoints of its run."""

LOGS = (METRICS, REPLACEMENTS)
"""Files that a run writes before its first checkpoint, after its settings."""


def check_output(config: StageConfig) -> None:
    """Check, before anything is loaded, that a run may write into its folder.

    Raises:
        ValueError: It would replace files of others, or the model it starts from; or it is no
            folder to write into.
    """
    output = config.output
    check_output_folder(output, {"--data": config.data.folder, "--model": config.model}, own="")
    result = (output / MODEL).resolve()
    if resolved(Path(config.model)).is_relative_to(result):
        raise ValueError(
            f"--model {config.model} is in {output / MODEL}, which the run would replace; use "
            "another --output"
        )
    if has_checkpoints(output):
        return
    check_unclaimed(output, RESULTS)
    if not _is_of_a_run(output / SETTINGS):
        check_unclaimed(output, (SETTINGS, *LOGS))


def check_unclaimed(output: Path, names: Sequence[str]) -> None:
    """Check that a run without checkpoints would replace nothing.

    Raises:
        ValueError: It would.
    """
    taken = [name for name in names if (output / name).exists()]
    if taken:
        raise ValueError(
            f"{output} holds {' and '.join(taken)}, but no run that can be resumed; use another "
            "--output, or move it away"
        )


def has_checkpoints(output: Path) -> bool:
    """Whether a run has saved anything here, complete or damaged; it is then never restarted."""
    names = ("checkpoints/step_*", "checkpoints/damaged_step_*")
    return any(any(output.glob(name)) for name in names)


def save_settings(path: Path, config: Any) -> None:
    """Write all settings of a run, atomically."""
    with atomic_file(path, overwrite=True) as part:
        write_yaml(part, config)


def _is_of_a_run(settings: Path) -> bool:
    """Whether a file has the settings of a stage, of any version of the package."""
    try:
        values = read_yaml(settings)
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and {"stage", "output", "seed"} <= values.keys()
