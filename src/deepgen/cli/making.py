"""What ``generate`` and ``edit`` do: check everything, load the model, make image by image.

An image is a call of its own. So its seed alone makes the same file again, finished images
survive an interruption, and any number of them fits into memory.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepgen.checkpoint.finding import FoundModel, find_model
from deepgen.cli.console import print_line, print_result, progress_bar
from deepgen.cli.options import MAX_SEED, ImageOptions
from deepgen.cli.output import plan_outputs
from deepgen.devices import pick_device
from deepgen.images.io import read_image, write_image

if TYPE_CHECKING:
    from PIL import Image

    from deepgen.pipeline.pipeline import DeepGenPipeline


def make_images(
    options: ImageOptions, prompts: Sequence[str], *, image_paths: Sequence[Path], stem: str
) -> None:
    """Make, write and report every image.

    Args:
        options: What the user said.
        prompts: One or more; each gets ``options.num_images`` images.
        image_paths: Images to edit, the same for every prompt; none to draw.
        stem: Name of files that the user has not named.

    Raises:
        ValueError: Something the user said cannot be used; nothing was computed.
        CheckpointError: The model cannot be used.
        ImageError: An image cannot be used.
    """
    options.check()
    count = len(prompts) * options.num_images
    seed = options.seed if options.seed is not None else secrets.randbelow(2**31)
    if seed + count > MAX_SEED:
        raise ValueError(f"--seed {seed} leaves no seeds for {count} images; take a smaller one")
    paths = plan_outputs(
        options.output or Path(f"{stem}-{seed}.png"), count, overwrite=options.overwrite
    )
    images = [read_image(path) for path in image_paths]
    model = find_model(options.model)
    model.check_sizes(options.height, options.width, [(each.height, each.width) for each in images])
    model.check_lengths([*prompts, options.negative_prompt or ""])

    # From here on torch is needed, which takes seconds.
    pipe = _load(model, options)
    jobs = [prompt for prompt in prompts for _ in range(options.num_images)]
    for index, (prompt, path) in enumerate(zip(jobs, paths, strict=True)):
        record = _make_one(
            pipe,
            model,
            options,
            prompt=prompt,
            images=images,
            seed=seed + index,
            path=path,
            label=f"image {index + 1} of {count}",
        )
        _show(record, options)


def _show(record: dict[str, Any], options: ImageOptions) -> None:
    """A result on standard output, and what made it unrepeatable otherwise on standard error."""
    print_result(json.dumps(record) if options.json else record["path"])
    if options.seed is None and not options.json:
        print_line(f"{record['path']}: --seed {record['seed']}")


def _load(model: FoundModel, options: ImageOptions) -> DeepGenPipeline:
    """The pipeline, on its device, with its adapters."""
    device = pick_device(options.device)
    from deepgen.pipeline.pipeline import DeepGenPipeline

    pipe = DeepGenPipeline.from_pretrained(
        model.path,
        dtype=options.dtype,
        device=device,
        rope_precision=options.rope_precision,
    )
    for adapter in options.adapters():
        pipe.load_lora_weights(adapter.path, scale=adapter.scale)
    # We draw our own bar, and only where someone watches.
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _make_one(
    pipe: DeepGenPipeline,
    model: FoundModel,
    options: ImageOptions,
    *,
    prompt: str,
    images: Sequence[Image.Image],
    seed: int,
    path: Path,
    label: str,
) -> dict[str, Any]:
    """Make and write one image, and return how."""
    defaults = model.defaults
    steps = options.steps if options.steps is not None else defaults.num_inference_steps
    guidance = options.guidance if options.guidance is not None else defaults.guidance_scale
    start = time.perf_counter()
    with progress_bar(label, steps) as advance:

        def count_step(*_: object) -> None:
            advance()

        result: Any = pipe(
            prompt,
            list(images) or None,
            negative_prompt=options.negative_prompt,
            height=options.height,
            width=options.width,
            num_inference_steps=steps,
            guidance_scale=guidance,
            seed=seed,
            padding=options.padding,
            callback_on_step_end=count_step,
            callback_on_step_end_tensor_inputs=(),
        )
    image: Image.Image = result.images[0]
    record = {
        "prompt": prompt,
        "seed": seed,
        "width": image.width,
        "height": image.height,
        "steps": steps,
        "guidance": guidance,
        "model": options.model,
    }
    write_image(image, path, record, overwrite=options.overwrite)
    seconds = round(time.perf_counter() - start, 3)
    return {"path": str(path), **record, "seconds": seconds}
