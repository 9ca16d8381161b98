"""What ``generate`` and ``edit`` do: check everything, load the model, make one image at a time.

Each image is a separate call: its seed alone reproduces the file, finished images survive an
interruption, and any number of them fits into memory.
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
    from deepgen.pipeline.pipeline import DeepGenPipeline


def generate_images(
    options: ImageOptions, prompts: Sequence[str], *, image_paths: Sequence[Path], stem: str
) -> None:
    """Make, write and report every image.

    Args:
        options: The user's options.
        prompts: One or more; each gets ``options.num_images`` images.
        image_paths: Images to edit, the same for every prompt; none for text-to-image.
        stem: Start of the file names where the user gives none.

    Raises:
        ValueError: An option or a prompt cannot be used; nothing was computed.
        CheckpointError: The model cannot be used.
        ImageError: An image cannot be used.
    """
    options.check()
    count = len(prompts) * options.num_images
    seed = options.seed if options.seed is not None else secrets.randbelow(2**31)
    if seed + count > MAX_SEED:
        raise ValueError(f"--seed {seed} leaves no seeds for {count} images; use a smaller one")
    paths = plan_outputs(
        options.output or Path(f"{stem}-{seed}.png"), count, overwrite=options.overwrite
    )
    images = [read_image(path) for path in image_paths]
    model = find_model(options.model)
    model.check_sizes(options.height, options.width, [(each.height, each.width) for each in images])
    model.check_texts([*prompts, options.negative_prompt or ""])

    # From here on torch is needed, which takes seconds to import.
    pipe: Any = _load(model, options)
    settings = _settings(options, model)
    for index, path in enumerate(paths):
        start = time.perf_counter()
        record = {"prompt": prompts[index // options.num_images], "seed": seed + index}
        steps = settings["num_inference_steps"]
        with progress_bar(f"image {index + 1} of {count}", steps) as advance:
            image = pipe(
                record["prompt"],
                images or None,
                seed=record["seed"],
                callback_on_step_end=lambda *_: advance(),  # Called inside the block.
                callback_on_step_end_tensor_inputs=(),
                **settings,
            ).images[0]
        record |= {"width": image.width, "height": image.height, "steps": steps}
        record |= {"guidance": settings["guidance_scale"], "model": options.model}
        write_image(image, path, record, overwrite=options.overwrite)
        seconds = round(time.perf_counter() - start, 3)
        _report({"path": str(path), **record, "seconds": seconds}, options)


def _settings(options: ImageOptions, model: FoundModel) -> dict[str, Any]:
    """What all images have in common, as arguments of the pipeline."""
    steps, guidance = options.steps, options.guidance
    return {
        "negative_prompt": options.negative_prompt,
        "height": options.height,
        "width": options.width,
        "num_inference_steps": model.defaults.num_inference_steps if steps is None else steps,
        "guidance_scale": model.defaults.guidance_scale if guidance is None else guidance,
        "padding": options.padding,
    }


def _report(record: dict[str, Any], options: ImageOptions) -> None:
    """Print the result; a seed that was drawn goes to standard error."""
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
    # The command has its own bar, shown only on terminals.
    pipe.set_progress_bar_config(disable=True)
    return pipe
