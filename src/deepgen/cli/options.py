"""What ``generate`` and ``edit`` have in common on the command line, checked without weights."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import UseAppendAction, arg

from deepgen.config.model import PADDINGS, ROPE_PRECISIONS, Padding, RopePrecision
from deepgen.config.sizes import check_side

MAX_STEPS = 1000
"""As many noise levels as the model was trained with; more cannot be finer."""

MAX_IMAGES = 100_000

MAX_SEED = 2**63
"""Seeds of torch's generators are 64-bit numbers with a sign."""

# "(default: None)" would stand after each of these, where the help says what happens instead.
Side = Annotated[int | None, arg(metavar="PIXELS", help_behavior_hint="")]
Whole = Annotated[int | None, arg(metavar="INT", help_behavior_hint="")]
Number = Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="")]
Text = Annotated[str | None, arg(metavar="TEXT", help_behavior_hint="")]
Folder = Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")]
File = Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="")]
DeviceChoice = Literal["auto", "cpu", "cuda", "mps"]
PaddingChoice = Annotated[
    Padding | None, arg(metavar=f"{{{','.join(PADDINGS)}}}", help_behavior_hint="")
]
RopeChoice = Annotated[
    RopePrecision | None, arg(metavar=f"{{{','.join(ROPE_PRECISIONS)}}}", help_behavior_hint="")
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Adapter:
    """A LoRA adapter and how strongly it is applied."""

    path: Path
    scale: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageOptions:
    """Options of every command that makes images."""

    model: Annotated[str, arg(metavar="MODEL")] = "mini"
    """The embedded model (mini), a model folder, or a hub id with an optional @REVISION."""
    output: File = None
    """Image file: .png, .jpg or .webp; {i} is the image's number (default: by the seed)."""
    negative_prompt: Text = None
    """What to steer away from (default: the model's own text for the task)."""
    width: Side = None
    """A multiple of 32 (default: the model's own; for edits that of the first image)."""
    height: Side = None
    """As width."""
    steps: Whole = None
    """Sampling steps; more are slower and finer (default: the model's own)."""
    guidance: Number = None
    """How closely to follow the prompt; up to 1 without negatives (default: the model's own)."""
    seed: Whole = None
    """Image i uses SEED + i (default: drawn and reported)."""
    num_images: Annotated[int, arg(metavar="INT")] = 1
    """Images per prompt."""
    device: DeviceChoice = "auto"
    """Where to compute."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """What to compute in; auto is float32 on a CPU and bfloat16 on a GPU."""
    padding: PaddingChoice = None
    """How a prompt and its negative pad each other (default: as the model says)."""
    rope_precision: RopeChoice = None
    """Precision of the text model's rotary frequencies (default: as the model says)."""
    lora: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="PATH[:SCALE]")] = ()
    """A LoRA adapter to apply."""
    overwrite: bool = False
    """Replace existing output files."""
    json: bool = False
    """Print one JSON object per image instead of its path."""
    debug: bool = False
    """Show where an error comes from."""

    def check(self) -> None:
        """Refuse values that no model can use.

        Raises:
            ValueError: What was found and what was expected.
        """
        for name, side in (("--width", self.width), ("--height", self.height)):
            if side is not None:
                check_side(name, side)
        if self.steps is not None and not 1 <= self.steps <= MAX_STEPS:
            raise ValueError(f"--steps must be from 1 to {MAX_STEPS}, got {self.steps}")
        if self.guidance is not None and not 0 <= self.guidance < math.inf:
            raise ValueError(f"--guidance must be a number of at least 0, got {self.guidance}")
        if not 1 <= self.num_images <= MAX_IMAGES:
            raise ValueError(f"--num-images must be from 1 to {MAX_IMAGES}, got {self.num_images}")
        if self.seed is not None and not 0 <= self.seed < MAX_SEED:
            raise ValueError(f"--seed must be from 0 to 2^63 - 1, got {self.seed}")
        self.adapters()

    def adapters(self) -> list[Adapter]:
        """The LoRA adapters, in order.

        Raises:
            ValueError: One is missing, or its scale is no number.
        """
        return [_adapter(value) for value in self.lora]


def read_prompts(argument: str) -> list[str]:
    """The prompts that an argument stands for.

    ``-`` is standard input and ``@FILE`` a file, both with one prompt a line, blank lines skipped;
    anything else is the prompt itself.

    Raises:
        ValueError: The file is missing, no text, or has no prompt in it.
    """
    if argument == "-":
        source, text = "standard input", sys.stdin.read()
    elif argument.startswith("@") and len(argument) > 1:
        source = argument[1:]
        try:
            text = Path(source).read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise ValueError(f"{source} is not UTF-8 text, expected one prompt a line") from None
        except OSError as error:
            raise ValueError(f"no prompts from {source}: {error.strerror}") from None
    else:
        return [argument]
    prompts = [line.strip() for line in text.splitlines() if line.strip()]
    if not prompts:
        raise ValueError(f"{source} is empty, expected one prompt a line")
    return prompts


def _adapter(value: str) -> Adapter:
    name, colon, number = value.rpartition(":")
    path, scale = Path(value), 1.0
    # A file may well have a colon in its name, so what exists as a whole is no scale.
    if colon and not path.exists():
        try:
            path, scale = Path(name), float(number)
        except ValueError:
            raise ValueError(
                f"--lora {value}: found neither such a file nor a number after the colon"
            ) from None
        if not math.isfinite(scale):
            raise ValueError(f"--lora {value}: the scale must be a finite number")
    if not path.exists():
        raise ValueError(f"--lora {value}: no adapter at {path}; check the path")
    return Adapter(path=path, scale=scale)
