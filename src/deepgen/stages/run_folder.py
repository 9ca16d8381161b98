"""The folder of a run: what is in it is the run's own, and nothing else is ever replaced."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepgen.config.codec import write_yaml
from deepgen.config.stage import StageConfig
from deepgen.train.monitor.logs import METRICS, SUBSTITUTIONS

SETTINGS = "config.yaml"
MODEL = "model"
ADAPTERS = "lora"
RESULTS = (MODEL, ADAPTERS)
"""What a stage exports, beside the checkpoints of its run."""

LOGS = (METRICS, SUBSTITUTIONS)
"""What a run writes before its first checkpoint, after its settings."""


def check_output(config: StageConfig) -> None:
    """See that a run may write into its folder, before it takes hours to come to that.

    Raises:
        ValueError: It would replace what it has not made, or the model it starts from.
    """
    output = config.output
    result = (output / MODEL).resolve()
    if _folder(config.model).is_relative_to(result):
        raise ValueError(
            f"--model {config.model} is in {output / MODEL}, which the run would replace; give "
            "another --output"
        )
    if has_checkpoints(output):
        return
    check_unclaimed(output, RESULTS)
    if not _is_of_a_run(output / SETTINGS):
        check_unclaimed(output, (SETTINGS, *LOGS))


def check_unclaimed(output: Path, names: Sequence[str]) -> None:
    """See that a run without checkpoints finds nothing where it is going to write.

    Raises:
        ValueError: It does.
    """
    taken = [name for name in names if (output / name).exists()]
    if taken:
        raise ValueError(
            f"{output} holds {' and '.join(taken)}, but no run that would go on; give another "
            "--output, or move it away"
        )


def has_checkpoints(output: Path) -> bool:
    """Whether a run has saved anything here; whole or damaged, it never begins anew."""
    names = ("checkpoints/step_*", "checkpoints/damaged_step_*")
    return any(any(output.glob(name)) for name in names)


def keep_settings(path: Path, config: Any) -> None:
    """Write all settings of a run, of any kind; whole, since the run is known by them."""
    aside = path.with_suffix(".part")
    write_yaml(aside, config)
    aside.replace(path)


def _folder(model: str) -> Path:
    try:
        return Path(model).expanduser().resolve()
    except RuntimeError:
        # A home of nobody, which the loader will say.
        return Path(model).resolve()


def _is_of_a_run(settings: Path) -> bool:
    """Whether a file has the settings of a stage, perhaps of another version of the package."""
    import yaml

    try:
        values = yaml.safe_load(settings.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return False
    return isinstance(values, dict) and {"stage", "output", "seed"} <= values.keys()
