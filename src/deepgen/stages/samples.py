"""Sample images of a run: the same prompts and edits, always with the same seeds."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from PIL import Image

from deepgen.config.stage import StageConfig
from deepgen.images.io import read_image, save_image
from deepgen.model import DeepGen
from deepgen.pipeline.pipeline import DeepGenPipeline


class Samples:
    """Generates a run's sample images into its folder.

    Raises:
        ImageError: An image to edit cannot be read.
    """

    def __init__(self, config: StageConfig) -> None:
        self.folder = config.output / "samples"
        self.prompts: Sequence[tuple[str, Image.Image | None]] = [
            *((prompt, None) for prompt in config.logging.sample_prompts),
            *((edit, read_image(path)) for edit, path in config.logging.sample_edits),
        ]

    def __call__(self, model: DeepGen, step: int) -> None:
        """Generate all of them as ``step_STEP_NUMBER.png``, from 1; a full disk only costs the
        images."""
        pipe = DeepGenPipeline(model)
        pipe.set_progress_bar_config(disable=True)
        for seed, (prompt, image) in enumerate(self.prompts):
            result: Any = pipe(prompt, image, seed=seed)
            path = self.folder / f"step_{step:08}_{seed + 1}.png"
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                save_image(result.images[0], path, overwrite=True)
            except OSError as cause:
                warnings.warn(f"{path} cannot be written: {cause.strerror}", stacklevel=2)
