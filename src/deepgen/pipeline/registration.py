"""``DiffusionPipeline.from_pretrained`` of our folders.

diffusers looks pipelines up by name among its own and offers no registry; to put ours in there
would make it load our parts as its own classes. So its function first looks whose folder it is.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline

from deepgen.checkpoint.configs import PIPELINE_CLASS
from deepgen.checkpoint.files import INDEX_NAME, read_json
from deepgen.errors import CheckpointError


def register(pipeline: Any) -> None:
    """Have ``DiffusionPipeline.from_pretrained`` give this pipeline for a folder of ours.

    All else, and every call of a subclass, goes to diffusers as before.
    """
    original = DiffusionPipeline.from_pretrained.__func__

    def from_pretrained(cls: Any, /, pretrained_model_name_or_path: Any, **options: Any) -> Any:
        if cls is DiffusionPipeline and is_ours(pretrained_model_name_or_path):
            return pipeline.from_pretrained(pretrained_model_name_or_path, **options)
        return original(cls, pretrained_model_name_or_path, **options)

    from_pretrained.__doc__ = original.__doc__
    DiffusionPipeline.from_pretrained = classmethod(from_pretrained)


def is_ours(name: str | os.PathLike[str]) -> bool:
    """Whether this is a folder that states our pipeline."""
    path = Path(name)
    try:
        return path.is_dir() and read_json(path / INDEX_NAME, INDEX_NAME).get("_class_name") == (
            PIPELINE_CLASS
        )
    except CheckpointError:
        return False
