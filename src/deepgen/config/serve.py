"""Settings of the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deepgen.config.checks import check_at_least, check_choice, check_positive
from deepgen.config.memory import TOKEN_SIDE, Quantization, check_memory
from deepgen.config.model import Padding, RopePrecision

SMALLEST_SIDE = 64
"""Pixels along a side of an image, at least."""

CONTEXT_TOKENS = 256
"""Assumed length of a context, where an image's cost is estimated before it is prepared."""


def usual_rows(*, has_gpu: bool, is_memory_planned: bool) -> int:
    """Rows of a pass where ``max_batch_rows`` is not given.

    Args:
        has_gpu: Whether it runs on a GPU.
        is_memory_planned: Whether a GPU's memory is planned: for one guided image at a time.
    """
    if not has_gpu:
        return 8
    return 2 if is_memory_planned else 16


def rows_of(guidance: float) -> int:
    """Rows of an image in a pass through the DiT: that of the negative prompt, and the prompt's."""
    return 2 if guidance > 1 else 1


def tokens_of(sizes: Sequence[tuple[int, int]], guidance: float) -> int:
    """Tokens of all rows of an image in a pass, with an estimate for the context.

    Args:
        sizes: (height, width) in pixels of the image and of its references.
        guidance: Decides the rows.
    """
    image = sum(height * width for height, width in sizes) // TOKEN_SIDE**2
    return rows_of(guidance) * (image + CONTEXT_TOKENS)


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeConfig:
    """What is served to whom, and how much of it."""

    model: str = "mini"
    """The model as users name it."""
    model_alias: tuple[str, ...] = ()
    """Other names that requests may use for it."""
    adapters: tuple[tuple[str, float], ...] = ()
    """LoRA adapters, with their scales."""
    device: str = "auto"
    dtype: str = "auto"
    padding: Padding | None = None
    rope_precision: RopePrecision | None = None
    memory: int | float | None = None
    """Of the GPU, in GB, that weights and images keep to; None sets no limit."""
    quantize: Quantization | None = None
    compile: bool = False
    host: str = "127.0.0.1"
    port: int = 8000
    keys: tuple[tuple[str, str], ...] = ()
    """Names and API keys; empty lets everybody in."""
    allow_host: tuple[str, ...] = ()
    """Names under which the server may be reached, besides addresses and localhost."""
    allow_origin: tuple[str, ...] = ()
    """Web pages of other servers that may use this one, such as https://example.org."""
    max_batch_rows: int | None = None
    """Rows of a pass through the DiT; a guided image has two. None: 8 on a CPU, 16 on a GPU."""
    max_batch_tokens: int | None = None
    """Tokens of a pass. None: on a GPU what its memory suffices for, measured at the start."""
    max_queue: int = 64
    """Images that may wait."""
    max_n: int = 10
    max_references: int = 16
    max_pixels: int | None = None
    """Of an image; None: those of twice the model's default side."""
    max_upload_bytes: int = 64 << 20
    """Of a request."""
    max_open_bytes: int = 512 << 20
    """Of all requests together."""
    images_per_minute: int | None = None
    """Of a key; None: 60 where others can reach the server, else no limit."""
    deadline: float = 300.0
    """Seconds from a request to its image, waiting included."""
    grace: float = 30.0
    """Seconds for running requests once the server is told to stop."""
    unknown_fields: Literal["reject", "ignore"] = "reject"
    metadata: Literal["full", "minimal"] = "full"
    """Whether prompts are written into images."""
    sign: tuple[Path, Path] | None = None
    """Private key and certificate chain that sign images; None: they are not signed."""
    page: bool = True
    deterministic: bool = False
    """One image at a time, so that an image has the same bits whatever else is asked for."""
    log_prompts: bool = False

    def __post_init__(self) -> None:
        # A guided image has two.
        check_at_least("max_batch_rows", self.max_batch_rows, 2)
        check_at_least("max_batch_tokens", self.max_batch_tokens, 1)
        for name in ("max_queue", "max_n"):
            check_at_least(name, getattr(self, name), 1)
        check_at_least("max_pixels", self.max_pixels, SMALLEST_SIDE**2)
        check_at_least("max_references", self.max_references, 1)
        check_at_least("images_per_minute", self.images_per_minute, 1)
        check_positive("deadline", self.deadline)
        check_at_least("grace", self.grace, 0)
        check_memory(self.memory, self.quantize)
        check_choice("unknown_fields", self.unknown_fields, ("reject", "ignore"))
        check_choice("metadata", self.metadata, ("full", "minimal"))
        if not 0 <= self.port < 1 << 16:
            raise ValueError(f"port must be from 0 to 65535, got {self.port}")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it; with a name, others do through a proxy."""
        return not self.allow_host and self.host in ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, kw_only=True, slots=True)
class Replicas:
    """How many replicas of the server a Ray cluster has."""

    least: int = 1
    most: int = 1
