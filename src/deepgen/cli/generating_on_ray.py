"""Images of ``generate`` and ``edit`` by many processes: Ray Data (extra ``ray``).

Every image has its own seed and is computed alone, so they are those of one process.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image

from deepgen.checkpoint.finding import FoundModel
from deepgen.cli.options import ImageOptions
from deepgen.cli.output import STANDARD_OUTPUT, save_output
from deepgen.errors import UsageError
from deepgen.images.io import image_record
from deepgen.images.provenance import source_of
from deepgen.images.signing import Signer

Wanted = tuple[str, int, Path]
"""Prompt, seed and output file."""


class ImageMaker:
    """Makes images in a process of its own, with one model.

    Args:
        options: Of the command.
        model: Found where the command runs.
        settings: Arguments of the pipeline that all images have in common.
        references: To edit.
    """

    def __init__(
        self,
        options: ImageOptions,
        model: FoundModel,
        settings: Mapping[str, Any],
        references: Sequence[Image.Image],
    ) -> None:
        from deepgen.cli.generating import load_pipeline

        self._options, self._settings = options, dict(settings)
        self._references = list(references)
        self._pipe: Any = load_pipeline(model, options)
        self._signer = None if options.sign is None else Signer(options.sign)

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Make and write one image; its record.

        Args:
            row: ``prompt``, ``seed`` and ``path``.
        """
        start = time.perf_counter()
        prompt, seed, path = str(row["prompt"]), int(row["seed"]), Path(row["path"])
        image = self._pipe(prompt, self._references or None, seed=seed, **self._settings).images[0]
        record = image_record(
            image,
            prompt=prompt,
            seed=seed,
            steps=self._settings["num_inference_steps"],
            guidance=self._settings["guidance_scale"],
            model=self._options.model,
            further=self._options.sampling.arguments(),
        )
        source = source_of(is_edit=bool(self._references))
        overwrite = self._options.overwrite
        save_output(image, path, record, overwrite=overwrite, source=source, signer=self._signer)
        seconds = round(time.perf_counter() - start, 3)
        return {"path": str(path), **record, "seconds": seconds}


def generate_on_ray(
    options: ImageOptions,
    model: FoundModel,
    settings: Mapping[str, Any],
    wanted: Sequence[Wanted],
    references: Sequence[Image.Image],
) -> Iterator[dict[str, Any]]:
    """Make all images on the cluster of ``RAY_ADDRESS``, or on one of this machine.

    Args:
        options: Of the command; ``options.ray`` processes share the images.
        model: To use.
        settings: Arguments of the pipeline that all images have in common.
        wanted: The images.
        references: To edit.

    Yields:
        The record of each image, once it is written.

    Raises:
        UsageError: The extra is not installed, or an option cannot be used with it.
    """
    if options.ray is None or options.ray < 1:
        raise UsageError(f"--ray must be at least 1, got {options.ray}")
    if any(path == STANDARD_OUTPUT for _, _, path in wanted):
        raise UsageError("--output - is for one process; leave --ray out, or name a file")
    if find_spec("ray") is None:
        raise UsageError("ray is not installed; use pip install 'deepgen-image[ray]'")
    import ray

    started_here = not ray.is_initialized()
    if started_here:
        ray.init(include_dashboard=False)
    rows = [
        {"prompt": prompt, "seed": seed, "path": str(path.absolute())}
        for prompt, seed, path in wanted
    ]
    has_gpu = options.compute.device in ("auto", "cuda")
    has_gpu = has_gpu and ray.cluster_resources().get("GPU", 0) > 0
    try:
        data = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            ImageMaker,
            fn_constructor_args=(options, model, settings, references),
            concurrency=min(options.ray, len(rows)),
            num_gpus=1 if has_gpu else 0,
        )
        yield from data.iter_rows()
    finally:
        if started_here:
            ray.shutdown()
