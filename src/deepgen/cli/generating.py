"""What ``generate`` and ``edit`` do: check everything, load the model, make one image at a time.

Each image is a separate call: its seed alone reproduces the file, finished images survive an
interruption, and any number of them fits into memory.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from deepgen.checkpoint.finding import FoundModel, find_model
from deepgen.checkpoint.hub import EMBEDDED, resolve
from deepgen.cli.collecting import collector_paused
from deepgen.cli.console import ProgressLines, print_line, print_result, progress_bar
from deepgen.cli.options import MAX_SEED, ImageOptions
from deepgen.cli.output import STANDARD_OUTPUT, plan_outputs, save_output
from deepgen.devices import pick_device
from deepgen.errors import ImageError
from deepgen.images.io import decode_image, image_record, max_file_bytes, read_image
from deepgen.images.provenance import source_of
from deepgen.images.signing import Signer

if TYPE_CHECKING:
    from deepgen.pipeline.pipeline import DeepGenPipeline


STANDARD_INPUT = "-"

UNCHANGED = 3.0
"""Mean difference, in levels of 255, below which an edit is said to have changed nothing. The
embedded model changes 2.8 when asked for the background that an image has, by its autoencoder."""


def generate_images(
    options: ImageOptions, prompts: Sequence[str], *, images: Sequence[str], stem: str
) -> None:
    """Make, write and report every image.

    Args:
        options: The user's options.
        prompts: One or more; each gets ``options.num_images`` images.
        images: Files to edit, the same for every prompt; none for text-to-image.
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
    if options.sign is not None:
        # What cannot sign is refused before anything is computed.
        Signer(options.sign)
    references = [_read(each) for each in images]
    model = find_model(options.model)
    sizes = [(each.height, each.width) for each in references]
    model.check_sizes(options.height, options.width, sizes)
    model.check_texts([*prompts, options.negative_prompt or ""])

    _note_unknown_words(model, options, prompts, is_edit=bool(images))

    settings = _settings(options, model)
    if options.ray is not None:
        from deepgen.cli.generating_on_ray import generate_on_ray

        texts = [each for each in prompts for _ in range(options.num_images)]
        wanted = list(zip(texts, range(seed, seed + count), paths, strict=True))
        for made in generate_on_ray(options, model, settings, wanted, references):
            _report(made, options, images)
        return
    # From here on torch is needed, which takes seconds to import.
    maker = ImageMaker(options, model, settings, references)
    steps = settings["num_inference_steps"]
    is_compiled = options.compute.compile
    lines = ProgressLines("", count * steps, counted=False, first_is_slow=is_compiled)
    for index, path in enumerate(paths):
        prompt = prompts[index // options.num_images]
        title = f"image {index + 1} of {count}"
        first_is_slow = is_compiled and index == 0
        with progress_bar(
            title,
            count * steps,
            done=index * steps,
            lines=lines,
            first_is_slow=first_is_slow,
        ) as advance:
            made = maker.make(prompt, seed + index, path, advance=advance)
        _report(made, options, images)


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """An image that was written."""

    record: dict[str, Any]
    """Its path, how it was made, and how many seconds that took."""
    is_unchanged: bool
    """Whether it is an edit that changed nothing that can be seen."""


class ImageMaker:
    """Makes and writes images, with a model that it loads.

    Args:
        options: Of the command.
        model: To use.
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
        self._options, self._settings = options, dict(settings)
        effective, _ = options.sampling.settings().at(settings["guidance_scale"])
        self._further = effective.changed
        if options.gguf:
            self._further["gguf"] = [str(each) for each in options.gguf]
        self._references = list(references)
        self._signer = None if options.sign is None else Signer(options.sign)
        self._pipe: Any = load_pipeline(model, options, len(references))

    def make(
        self, prompt: str, seed: int, path: Path, *, advance: Callable[[], object] | None = None
    ) -> Made:
        """One image.

        Args:
            prompt: Its prompt.
            seed: Its seed.
            path: Where :func:`deepgen.cli.output.plan_outputs` said.
            advance: Called after every step.
        """
        start = time.perf_counter()
        options, settings, references = self._options, self._settings, self._references
        called: dict[str, Any] = {}
        if advance is not None:
            called["callback_on_step_end"] = lambda *_: advance()
            called["callback_on_step_end_tensor_inputs"] = ()
        image = self._pipe(prompt, references or None, seed=seed, **called, **settings).images[0]
        record = image_record(
            image,
            prompt=prompt,
            seed=seed,
            steps=settings["num_inference_steps"],
            guidance=settings["guidance_scale"],
            model=options.model,
            further=self._further,
        )
        source = source_of(is_edit=bool(references))
        overwrite = options.overwrite
        save_output(image, path, record, overwrite=overwrite, source=source, signer=self._signer)
        seconds = round(time.perf_counter() - start, 3)
        is_unchanged = bool(references) and _mean_difference(references[0], image) < UNCHANGED
        record = {"path": str(path), **record, "seconds": seconds}
        return Made(record=record, is_unchanged=is_unchanged)


def _note_unknown_words(
    model: FoundModel, options: ImageOptions, prompts: Sequence[str], *, is_edit: bool
) -> None:
    """Say which prompts have words, or nothing but words, that the embedded model does not know."""
    if options.model != EMBEDDED:
        return
    from tokenizers import Tokenizer

    from deepgen.mini.world.vocabulary import unseen_words_note, vocabulary_note

    tokenizer = Tokenizer.from_file(str(resolve(EMBEDDED) / "tokenizer" / "tokenizer.json"))
    for prompt in dict.fromkeys(prompts):
        note = vocabulary_note(
            prompt, is_edit=is_edit, side=model.defaults.width
        ) or unseen_words_note(prompt, lambda text: len(tokenizer.encode(text)))
        if note is not None:
            print_line(f"note: {prompt[:60]!r}: {note}")


def _read(argument: str) -> Image.Image:
    """An image from a file or from standard input.

    Raises:
        ImageError: It cannot be used.
    """
    if argument != STANDARD_INPUT:
        return read_image(argument)
    data = sys.stdin.buffer.read(max_file_bytes() + 1)
    if len(data) > max_file_bytes():
        raise ImageError("the image on standard input is too large", reason="too_large")
    return decode_image(data, name="standard input")


def _mean_difference(before: Image.Image, after: Image.Image) -> float:
    """Of all values of two images, in levels of 255, at the size of the second."""
    resized = before.convert("RGB").resize(after.size, Image.Resampling.BICUBIC)
    pixels = [np.asarray(each.convert("RGB"), dtype=np.int16) for each in (resized, after)]
    return float(np.abs(pixels[0] - pixels[1]).mean())


def _settings(options: ImageOptions, model: FoundModel) -> dict[str, Any]:
    """What all images have in common, as arguments of the pipeline."""
    steps, guidance = options.steps, options.guidance
    return {
        "negative_prompt": options.negative_prompt,
        "height": options.height,
        "width": options.width,
        "num_inference_steps": model.defaults.num_inference_steps if steps is None else steps,
        "guidance_scale": model.defaults.guidance_scale if guidance is None else guidance,
        "padding": options.compute.padding,
        **options.sampling.arguments(),
    }


def _report(made: Made, options: ImageOptions, sources: Sequence[str]) -> None:
    """Print the result; a seed that was drawn, and notes, go to standard error.

    An image on standard output is followed by nothing; what was asked for goes to standard error.
    """
    record = made.record
    if record["path"] == str(STANDARD_OUTPUT):
        if options.json:
            print_line(json.dumps(record))
    else:
        print_result(json.dumps(record) if options.json else record["path"])
    if options.seed is None and not options.json:
        print_line(f"{record['path']}: --seed {record['seed']}")
    if made.is_unchanged:
        print_line(
            f"note: {record['path']} hardly differs from {sources[0]}; try another wording, "
            "another --seed or a higher --guidance"
        )


def load_pipeline(model: FoundModel, options: ImageOptions, references: int) -> DeepGenPipeline:
    """The pipeline, on its device, with its adapters; memory suffices for so many references."""
    weights = f" with {', '.join(map(str, options.gguf))}" if options.gguf else ""
    print_line(f"loading {options.model}{weights}")
    compute = options.compute
    with collector_paused():
        device = pick_device(compute.device)
        from deepgen.pipeline.loading import load

    pipe, plan = load(
        model.path,
        dtype=compute.dtype,
        device=device,
        rope_precision=compute.rope_precision,
        adapters=[(each.path, each.scale) for each in options.adapters()],
        memory=compute.memory,
        quantize=compute.quantize,
        compile=compute.compile,
        gguf=options.gguf,
        height=options.height,
        width=options.width,
        references=references,
    )
    if plan is not None:
        print_line(f"memory {plan.memory:g}: {plan.describe()}")
    if compute.compile:
        print_line("the transformer is compiled in the first step, which takes up to minutes")
    # The command has its own bar, shown only on terminals.
    pipe.set_progress_bar_config(disable=True)
    return pipe
