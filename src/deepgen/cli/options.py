"""Options of several commands, and what ``generate`` and ``edit`` check before they load."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, UseAppendAction, arg

from deepgen.config.checks import check_within
from deepgen.config.codec import Config, read_yaml
from deepgen.config.memory import QUANTIZATIONS, Quantization, check_memory, check_quantization
from deepgen.config.model import (
    MAX_GUIDANCE,
    MAX_LORA_SCALE,
    MAX_STEPS,
    PADDINGS,
    ROPE_PRECISIONS,
    Padding,
    RopePrecision,
)
from deepgen.config.sizes import check_side
from deepgen.config.solver import WHOLE_INTERVAL, Cache, Solver, SolverOptions
from deepgen.reading import MAX_PROMPTS_BYTES, read_text

MAX_IMAGES = 100_000

MAX_SEED = 2**63
"""Seeds of torch's generators are signed 64-bit numbers."""

# Suppress "(default: None)" in the help, which describes the default in words.
Side = Annotated[int | None, arg(metavar="PIXELS", help_behavior_hint="")]
Whole = Annotated[int | None, arg(metavar="INT", help_behavior_hint="")]
Number = Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="")]
Text = Annotated[str | None, arg(metavar="TEXT", help_behavior_hint="")]
Folder = Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")]
DataFolder = Positional[Annotated[Path, arg(metavar="DIR")]]
OutputFolder = Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="", aliases=["-o"])]
OutputFile = Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="", aliases=["-o"])]
Interval = Annotated[tuple[float, float] | None, arg(metavar="LOW HIGH", help_behavior_hint="")]
KeyFiles = Annotated[tuple[Path, Path] | None, arg(metavar="KEY CHAIN", help_behavior_hint="")]
File = Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="")]
MemoryChoice = Annotated[float | None, arg(metavar="GB", help_behavior_hint="")]
QuantizationChoice = Annotated[
    Quantization | None, arg(metavar="|".join(QUANTIZATIONS), help_behavior_hint="")
]
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
class ComputeOptions:
    """Device and precision, for experts."""

    device: DeviceChoice = "auto"
    """Device to compute on."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision to compute in; auto is float32 on a CPU and bfloat16 on a GPU."""
    padding: PaddingChoice = None
    """How a prompt and its negative are padded (default: the model's setting)."""
    rope_precision: RopeChoice = None
    """Precision of the text model's rotary frequencies (default: the model's setting)."""
    memory: MemoryChoice = None
    """GB (of 2^30 bytes) of the GPU to keep to, such as 6, 8, 12, 16 or 24; weights wait on the CPU
    as far as needed, images stay the same. deepgen info --memory GB says how."""
    quantize: QuantizationChoice = None
    """Store weights in 8 or 4 bits; images change slightly (extras torchao, bitsandbytes)."""
    compile: bool = False
    """Compile the transformer: the first image takes longer, the next ones less."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingOptions:
    """How the flow is integrated; the defaults are how the model was evaluated."""

    solver: Solver = "euler"
    """ab2 (Adams-Bashforth) is of second order at the same cost a step."""
    guidance_interval: Interval = None
    """Noise levels from 0 to 1 of the steps with guidance; the others cost half (default: all)."""
    guidance_rescale: Annotated[float, arg(metavar="FLOAT")] = 0.0
    """From 0, none, to 1: less contrast at high guidance scales."""
    cache: Cache = "none"
    """Skip what changes little from step to step: first-block by how much the DiT's first block
    changes, taylor every other step; faster, and not exact."""
    cache_threshold: Annotated[float, arg(metavar="FLOAT")] = 0.1
    """Of first-block, from 0, exact, to 1."""
    cache_interval: Annotated[int, arg(metavar="INT")] = 2
    """Of taylor: the DiT runs every so many steps."""

    def arguments(self) -> dict[str, Any]:
        """What differs from the default, as arguments of the pipeline."""
        return self.settings().changed

    def settings(self) -> SolverOptions:
        """All of them, checked.

        Raises:
            ValueError: One cannot be used.
        """
        return SolverOptions(
            solver=self.solver,
            guidance_interval=self.guidance_interval or WHOLE_INTERVAL,
            guidance_rescale=self.guidance_rescale,
            cache=self.cache,
            cache_threshold=self.cache_threshold,
            cache_interval=self.cache_interval,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageOptions:
    """Options of every command that makes images."""

    output: Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="", aliases=["-o"])] = (
        None
    )
    """Image file: .png, .jpg or .webp, with {i} for the image's number, from 1; missing folders are
    made; - is standard output (default: named by the seed)."""
    model: Annotated[str, arg(metavar="MODEL")] = "mini"
    """The embedded model (mini), a model folder, or a hub id with an optional @REVISION."""
    seed: Whole = None
    """Seed of the first image; the next have SEED + 1 and so on (default: random, and reported)."""
    num_images: Annotated[int, arg(metavar="INT")] = 1
    """Images per prompt."""
    width: Side = None
    """Width in pixels, a multiple of 32 (default: the model's; for edits, the first image's)."""
    height: Side = None
    """Height in pixels, likewise; for edits, one side alone keeps the image's shape."""
    steps: Whole = None
    """Sampling steps; more are slower and finer (default: the model's)."""
    guidance: Number = None
    """Guidance scale: how closely to follow the prompt; none up to 1 (default: the model's)."""
    negative_prompt: Text = None
    """What to steer away from (default: the model's text for the task)."""
    lora: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="PATH[:SCALE]")] = ()
    """A LoRA adapter to apply."""
    gguf: Annotated[UseAppendAction[tuple[Path, ...]], arg(metavar="PATH")] = ()
    """A GGUF file, or a folder of them, with weights of the DiT or VLM in place of the model's."""
    overwrite: bool = False
    """Replace existing output files."""
    sign: KeyFiles = None
    """Private key and certificate chain (PEM) that sign a C2PA manifest in every file."""
    ray: Whole = None
    """Share the images among so many processes of a Ray cluster (extra ray); all need to see the
    same folders."""
    json: bool = False
    """Print a JSON object per image instead of its path."""
    debug: bool = False
    """Print the traceback of an error."""
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    """How the flow is integrated."""
    compute: ComputeOptions = field(default_factory=ComputeOptions)
    """Device and precision, for experts."""

    def check(self) -> None:
        """Refuse values that no model can use.

        Raises:
            ValueError: What was found, what was expected.
            CheckpointError: A GGUF file is missing.
        """
        for name, side in (("--width", self.width), ("--height", self.height)):
            if side is not None:
                check_side(name, side)
        if self.steps is not None and not 1 <= self.steps <= MAX_STEPS:
            raise ValueError(f"--steps must be from 1 to {MAX_STEPS}, got {self.steps}")
        if self.guidance is not None:
            check_within("--guidance", self.guidance, 0, MAX_GUIDANCE)
        try:
            self.sampling.settings()
        except ValueError as cause:
            name, _, problem = str(cause).partition(" ")
            raise ValueError(f"--{name.replace('_', '-')} {problem}") from None
        if not 1 <= self.num_images <= MAX_IMAGES:
            raise ValueError(f"--num-images must be from 1 to {MAX_IMAGES}, got {self.num_images}")
        if self.seed is not None and not 0 <= self.seed < MAX_SEED:
            raise ValueError(f"--seed must be from 0 to 2^63 - 1, got {self.seed}")
        check_memory(self.compute.memory, self.compute.quantize)
        if self.compute.quantize is not None:
            # Before torch and the model are loaded.
            check_quantization(self.compute.quantize)
        self.adapters()
        if self.gguf:
            self._check_gguf()

    def _check_gguf(self) -> None:
        from deepgen.checkpoint.gguf.headers import find_gguf, require_gguf

        require_gguf()
        for each in self.gguf:
            find_gguf(each)

    def adapters(self) -> list[Adapter]:
        """See :func:`parse_adapters`."""
        return parse_adapters(self.lora)


def parse_adapters(arguments: Sequence[str]) -> list[Adapter]:
    """LoRA adapters of the command line, in order.

    Raises:
        ValueError: One is missing, or its scale is not a finite number.
    """
    return [_adapter(value) for value in arguments]


def read_config(arguments: Sequence[str], defaults: Config) -> Config:
    """The settings before the command line: the defaults, replaced by those of --config's file.

    Raises:
        ValueError: The file cannot be used.
    """
    settings = defaults
    for place, each in enumerate(arguments):
        name, _, value = each.partition("=")
        if name == "--config":
            following = arguments[place + 1 : place + 2]
            file = value or (following[0] if following else "")
            # Without a value the parser says so.
            if file:
                settings = read_yaml(Path(file), settings)
    return settings


def read_prompts(argument: str) -> list[str]:
    """The prompts of a command-line argument.

    ``-`` is standard input and ``@FILE`` a file, both with one prompt per line, blank lines
    skipped; anything else is the prompt itself.

    Raises:
        ValueError: The file is missing, not text, or has no prompts.
    """
    if argument == "-":
        source, text = "standard input", sys.stdin.read()
    elif argument.startswith("@") and len(argument) > 1:
        source = argument[1:]
        try:
            text = read_text(source, limit=MAX_PROMPTS_BYTES)
        except UnicodeDecodeError:
            raise ValueError(f"{source} is not UTF-8 text, expected one prompt per line") from None
        except OSError as error:
            raise ValueError(f"{source} cannot be read: {error.strerror}") from None
    else:
        return [argument]
    prompts = [line.strip() for line in text.splitlines() if line.strip()]
    if not prompts:
        raise ValueError(f"{source} is empty, expected one prompt per line")
    return prompts


@contextmanager
def naming_options(command: Any) -> Iterator[None]:
    """Errors that begin with the name of a setting name the command's option of that name.

    Raises:
        ValueError: A setting cannot be used.
    """
    try:
        yield
    except ValueError as cause:
        name, _, problem = str(cause).partition(" ")
        if name not in {each.name for each in fields(command)}:
            raise
        raise ValueError(f"--{name.replace('_', '-')} {problem}") from None


def quoted(sentence: str) -> str:
    """A sentence as it is typed in a shell."""
    if any(each in sentence for each in '"$`\\!'):
        return shlex.quote(sentence)
    return f'"{sentence}"'


def _adapter(value: str) -> Adapter:
    name, colon, number = value.rpartition(":")
    path, scale = Path(value), 1.0
    # A file may have a colon in its name, so an existing path has no scale.
    if colon and not path.exists():
        try:
            path, scale = Path(name), float(number)
        except ValueError:
            raise ValueError(
                f"--lora {value}: found neither such a file nor a number after the colon"
            ) from None
        check_within(f"--lora {value}: the scale", scale, -MAX_LORA_SCALE, MAX_LORA_SCALE)
    if not path.exists():
        raise ValueError(f"--lora {value}: no adapter at {path}; check the path")
    return Adapter(path=path, scale=scale)
