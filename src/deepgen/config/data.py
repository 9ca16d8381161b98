"""Settings of the training data; no torch in here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from deepgen.config.checks import check_at_least, check_fraction
from deepgen.config.codec import MAY_CHANGE

CachedLatents = Literal["auto", "always", "never"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Which samples are trained on, and how they are prepared."""

    folder: Annotated[Path | None, arg(name="data", metavar="DIR"), MAY_CHANGE] = None
    """Data set made by deepgen data import, or the file of a mixture of several."""
    side: Annotated[int | None, arg(metavar="PIXELS", help_behavior_hint="")] = None
    """Images are resized to about SIDE * SIDE pixels, in their own aspect ratio (default: the
    model's side)."""
    cached_latents: CachedLatents = "auto"
    """Whether the VAE's posteriors of images are read from the cache of deepgen data cache: always
    requires a cache for this VAE and side, never encodes every image whenever it is used, auto uses
    a cache that exists when the run begins."""
    caption_drop: float = 0.1
    """Fraction of text-to-image samples whose caption is dropped, for classifier-free guidance."""
    max_bad_fraction: Annotated[float, MAY_CHANGE] = 0.01
    """Fraction of the samples that may be damaged, and are replaced by others, before the run
    stops; two are always allowed."""

    def __post_init__(self) -> None:
        check_at_least("side", self.side, 32)
        check_fraction("caption_drop", self.caption_drop)
        check_fraction("max_bad_fraction", self.max_bad_fraction)
