"""The alphas of an adapter: one number, patterns of names, or none (arXiv 2106.09685)."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from safetensors import safe_open

from deepgen.checkpoint.files import listed
from deepgen.config.checks import check_within
from deepgen.config.model import MAX_LORA_ALPHA, MAX_LORA_RANK
from deepgen.errors import CheckpointError
from deepgen.reading import parse_json, read_json

CONFIG_FILE = "adapter_config.json"
PEFT_FILE = "adapter_model.safetensors"

UNREAD_SWITCHES = ("use_dora", "fan_in_fan_out", "lora_bias", "use_qalora")
"""Settings of peft variants that change the arithmetic, none of which is supported."""
UNCHANGED_BASES = ("gaussian", "eva", "orthogonal")
"""Ways of initializing that leave the base as it was; after others it is not ours."""
PATTERN_SECONDS = 1.0
"""For matching all patterns of an adapter with all layers, which takes some milliseconds."""
MAX_PATTERN = 500
MAX_PATTERNS = 1000
SHOWN = 80


class Alphas:
    """An adapter's alpha: from its configuration or file, else its rank, which means scale 1."""

    def __init__(self, values: object, file: Path) -> None:
        if not isinstance(values, dict):
            raise CheckpointError(f"the configuration of {file.name} must be a JSON object")
        unread = [name for name in UNREAD_SWITCHES if values.get(name)]
        if unread:
            raise CheckpointError(f"{file.name} needs {listed(unread)}, which is not supported")
        start = values.get("init_lora_weights")
        if isinstance(start, str) and start not in UNCHANGED_BASES:
            raise CheckpointError(
                f"{file.name} is for a base that init_lora_weights={start[:SHOWN]!r} changed; save "
                "it with peft's conversion to plain LoRA"
            )
        patterns = values.get("alpha_pattern") or {}
        if not isinstance(patterns, dict):
            raise CheckpointError(f"the alpha_pattern of {file.name} must be a JSON object")
        if len(patterns) > MAX_PATTERNS:
            raise CheckpointError(f"{file.name} has more than {MAX_PATTERNS} alpha patterns")
        self.patterns = [
            (_layer_pattern(name, file), number(each, file)) for name, each in patterns.items()
        ]
        self.file = file
        self.seconds_left = PATTERN_SECONDS
        # LoHa and LoKr have it under another name.
        name = "lora_alpha" if "lora_alpha" in values else "alpha"
        self.alpha = number(values[name], file) if name in values else None
        rank = values.get("r")
        self.rank = rank if type(rank) is int and 0 < rank <= MAX_LORA_RANK else None
        """What the configuration says, for matrices that do not show it."""
        self.by_root = bool(values.get("use_rslora"))

    def __call__(self, name: str, rank: int) -> float:
        """Alpha to be divided by the rank; rsLoRA (arXiv 2312.03732) divides by its square root.

        Args:
            name: The layer, in the model that the adapter was made for.
            rank: That of its matrices, which a ``rank_pattern`` can only confirm.
        """
        alpha = float(rank) if self.alpha is None else self.alpha
        # The first that matches counts, as in peft.
        alpha = next(
            (value for pattern, value in self.patterns if self._match(pattern, name)), alpha
        )
        return alpha * rank**0.5 if self.by_root else alpha

    def _match(self, pattern: Any, name: str) -> bool:
        """Whether a pattern matches a name; some need more time than anybody has.

        Raises:
            CheckpointError: All together have taken ``PATTERN_SECONDS``.
        """
        began = time.monotonic()
        try:
            return bool(pattern.match(name, timeout=max(self.seconds_left, 1e-3)))
        except TimeoutError:
            raise CheckpointError(
                f"matching the alpha_pattern of {self.file.name} takes more than "
                f"{PATTERN_SECONDS:g} s; write out the layers' names"
            ) from None
        finally:
            self.seconds_left -= time.monotonic() - began


def _layer_pattern(pattern: str, file: Path) -> Any:
    """A key of ``alpha_pattern``, read as peft does: a regular expression for the end of a name."""
    # Imported here: few adapters have patterns. Unlike re, it can be stopped.
    import regex

    whole = rf"(.*\.)?({pattern})$"
    try:
        if len(pattern) > MAX_PATTERN:
            raise re.error(f"it has more than {MAX_PATTERN} characters")
        # What peft cannot read is no pattern either: regex knows more than re.
        re.compile(whole)
        return regex.compile(whole)
    except (re.error, regex.error, RecursionError, OverflowError) as cause:
        raise CheckpointError(
            f"{file.name}: {pattern[:SHOWN]!r} in alpha_pattern is no regular expression ({cause})"
        ) from None


def number(value: object, file: Path) -> float:
    """An alpha of an adapter, within the range of all."""
    try:
        check_within(f"an alpha of {file.name}", value, -MAX_LORA_ALPHA, MAX_LORA_ALPHA)
    except ValueError as cause:
        raise CheckpointError(str(cause)) from None
    return float(value)  # type: ignore[arg-type]


def read_alphas(file: Path) -> Alphas:
    """The alphas that a file's configuration or metadata say.

    Raises:
        CheckpointError: They cannot be read, or ask for what is not supported.
    """
    config = file.parent / CONFIG_FILE
    try:
        if file.name == PEFT_FILE and config.is_file():
            return Alphas(read_json(config), file)
        with safe_open(file, "pt") as opened:
            metadata = opened.metadata() or {}
        values = parse_json(metadata.get("lora_adapter_metadata", "{}"))
    except (ValueError, OSError) as cause:
        raise CheckpointError(f"the configuration of {file.name} cannot be read: {cause}") from None
    if isinstance(values, dict):
        # diffusers writes the configuration of each component under its prefix.
        values = {key.removeprefix("transformer."): value for key, value in values.items()}
    return Alphas(values, file)
