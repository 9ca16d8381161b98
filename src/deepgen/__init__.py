"""DeepGen 1.0: images and edits from a sentence.

Names are looked up when they are first used, so that ``import deepgen`` costs no import of torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepgen.errors import CheckpointError, DataError, DeepGenError, ImageError
    from deepgen.images.io import save_image
    from deepgen.pipeline.output import DeepGenPipelineOutput
    from deepgen.pipeline.pipeline import DeepGenPipeline

    __version__: str

__all__ = [
    "CheckpointError",
    "DataError",
    "DeepGenError",
    "DeepGenPipeline",
    "DeepGenPipelineOutput",
    "ImageError",
    "__version__",
    "save_image",
]

_HOMES = {
    "CheckpointError": "deepgen.errors",
    "DataError": "deepgen.errors",
    "DeepGenError": "deepgen.errors",
    "ImageError": "deepgen.errors",
    "DeepGenPipeline": "deepgen.pipeline.pipeline",
    "DeepGenPipelineOutput": "deepgen.pipeline.output",
    "save_image": "deepgen.images.io",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("deepgen-image")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
