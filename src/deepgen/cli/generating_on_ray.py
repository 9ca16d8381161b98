"""Images of ``generate`` and ``edit`` by many processes: Ray Data (extra ``ray``).

Every image has its own seed and is computed alone, so they are those of one process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from deepgen.checkpoint.files import ModelFolder
from deepgen.checkpoint.finding import FoundModel
from deepgen.cli.generating import ImageMaker, Made
from deepgen.cli.options import ImageOptions
from deepgen.cli.output import STANDARD_OUTPUT
from deepgen.errors import UsageError
from deepgen.ray_cluster import check_ray, gpus_each, mapped

Wanted = tuple[str, int, Path]
"""Prompt, seed and output file."""


class RayMaker(ImageMaker):
    """An :class:`ImageMaker` in a process of its own."""

    def __call__(self, row: Mapping[str, Any]) -> Made:
        """Make and write the image of ``prompt``, ``seed`` and ``path``."""
        return self.make(row["prompt"], row["seed"], Path(row["path"]))


def generate_on_ray(
    options: ImageOptions,
    model: FoundModel,
    settings: Mapping[str, Any],
    wanted: Sequence[Wanted],
    references: Sequence[Image.Image],
) -> Iterator[Made]:
    """Make all images on the cluster of ``RAY_ADDRESS``, or on one of this machine.

    Args:
        options: Of the command; ``options.ray`` processes share the images.
        model: To use.
        settings: Arguments of the pipeline that all images have in common.
        wanted: The images.
        references: To edit.

    Yields:
        Each image's record, once it is written.

    Raises:
        UsageError: The extra is not installed, or an option cannot be used with it.
    """
    check_ray(options.ray)
    if any(path == STANDARD_OUTPUT for _, _, path in wanted):
        raise UsageError("--output - is for one process; leave --ray out, or name a file")
    rows = [
        {"prompt": prompt, "seed": seed, "path": str(path.absolute())}
        for prompt, seed, path in wanted
    ]
    given = {str(path.absolute()): path for _, _, path in wanted}
    for made in mapped(
        rows,
        RayMaker,
        (absolute(options), located(model), settings, references),
        processes=options.ray or 1,
        num_gpus=lambda ray: gpus_each(ray, options.compute.device),
    ):
        record = {**made.record, "path": str(given[made.record["path"]])}
        yield replace(made, record=record)


def absolute(options: ImageOptions) -> ImageOptions:
    """The options with absolute paths: processes of a cluster have another working folder."""
    adapters = options.adapters()
    sign = options.sign
    return replace(
        options,
        lora=tuple(f"{each.path.absolute()}:{each.scale}" for each in adapters),
        gguf=tuple(each.absolute() for each in options.gguf),
        sign=None if sign is None else (sign[0].absolute(), sign[1].absolute()),
    )


def located(model: FoundModel) -> FoundModel:
    """The model by its absolute path."""
    return replace(model, folder=ModelFolder(model.path.absolute(), model.folder.variant))
