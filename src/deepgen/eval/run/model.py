"""The model of a run: its settings, and its pipeline as a function that makes one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from deepgen.config.model import GenerationDefaults
from deepgen.devices import local_device
from deepgen.eval.benchmark import Benchmark, GenerationRule, Preset
from deepgen.eval.run.generation import GenerateImage


def resolve_rule(
    benchmark: Benchmark, preset: Preset, defaults: GenerationDefaults
) -> GenerationRule:
    """The rule with the model's own steps and guidance, so that the run records them.

    Its own size too, where images to edit are rendered for it.
    """
    rule = benchmark.generation[preset]
    if benchmark.render_sources is not None and rule.height is None:
        rule = replace(rule, height=defaults.height, width=defaults.width)
    return replace(
        rule,
        steps=defaults.num_inference_steps if rule.steps is None else rule.steps,
        guidance_scale=(
            defaults.guidance_scale if rule.guidance_scale is None else rule.guidance_scale
        ),
    )


def image_generator(path: Path, device: str) -> GenerateImage:
    """A model folder as a function; the weights are loaded with the first image.

    Args:
        device: As ``devices.pick_device`` returns it.
    """

    @cache
    def pipeline() -> Any:
        return load_pipeline(path, device)

    def generate_image(
        prompt: str, images: Sequence[Image.Image], seed: int, rule: GenerationRule
    ) -> Image.Image:
        image: Image.Image = pipeline()(
            prompt,
            list(images) or None,
            height=rule.height,
            width=rule.width,
            num_inference_steps=rule.steps,
            guidance_scale=rule.guidance_scale,
            seed=seed,
        ).images[0]
        return image

    return generate_image


def load_pipeline(path: Path, device: str) -> Any:
    """The pipeline on this process's device."""
    from deepgen.pipeline.pipeline import DeepGenPipeline

    pipeline = DeepGenPipeline.from_pretrained(path, device=local_device(device))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
