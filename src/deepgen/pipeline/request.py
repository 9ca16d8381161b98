"""The arguments of a pipeline call, checked and completed before any weight is used."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor

from deepgen.config.checks import check_within
from deepgen.config.model import MAX_GUIDANCE, MAX_STEPS, PADDINGS, GenerationDefaults, Padding
from deepgen.config.sizes import LATENT_SCALE, Size, check_side, nearest_side, reference_size
from deepgen.images.io import to_rgb

Prompts = str | Sequence[str]
References = Image.Image | Sequence[Image.Image] | Sequence[Sequence[Image.Image]] | None
Generators = Generator | Sequence[Generator] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """One reference image and the size, in pixels, that the model gets it in."""

    image: Image.Image
    """RGB, upright, at its original size."""
    height: int
    width: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One prompt with everything needed to make its images."""

    prompt: str
    negative_prompt: str
    references: tuple[Reference, ...]
    height: int
    """Height of the generated image in pixels, before an edit is resized back."""
    width: int
    output_size: tuple[int, int] | None
    """(height, width) that an edit is resized to in the end; None for no resizing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """Settings that all images of a call share."""

    steps: int
    guidance_scale: float
    padding: Padding
    sigmas: tuple[float, ...] | None = None
    """Noise levels before the schedule's shift, one a step; None is evenly spaced ones."""


def parse_requests(
    prompt: object,
    image: object,
    *,
    negative_prompt: object,
    height: object,
    width: object,
    latents: object,
    channels: int,
    defaults: GenerationDefaults,
    max_side: int,
) -> list[Request]:
    """Check and complete the arguments, one request per prompt.

    An edit without ``height`` and ``width`` is generated at the size that the model gets its first
    reference in, and resized to that reference's original size; given ``latents`` fix the size.

    Args:
        latents: Initial noise ``[batch, channels, height / 8, width / 8]``, or None.
        channels: Of the model's latents.
        max_side: Longest side in pixels that the model has positions for.

    Raises:
        ValueError: What was found, what was expected.
    """
    prompts = _texts("prompt", prompt)
    if not all(text.strip() for text in prompts):
        raise ValueError("the prompt is empty, expected a text that says what to make")
    images = _per_prompt(image, prompts, single=isinstance(prompt, str))
    negatives = _negatives(negative_prompt, images, defaults)
    if latents is not None:
        height, width = _size_of_latents(latents, channels, height, width)
    default_side = round(math.sqrt(defaults.height * defaults.width))
    requests = []
    for text, negative, row in zip(prompts, negatives, images, strict=True):
        references = tuple(_reference(each, default_side, max_side) for each in row)
        is_free = height is None and width is None and bool(references)
        fallback = _fallback(references, height, width, defaults)
        size = (
            check_side("height", fallback[0] if height is None else height, max_side=max_side),
            check_side("width", fallback[1] if width is None else width, max_side=max_side),
        )
        original = (references[0].image.height, references[0].image.width) if is_free else None
        requests.append(
            Request(
                prompt=text,
                negative_prompt=negative,
                references=references,
                height=size[0],
                width=size[1],
                output_size=original if original != size else None,
            )
        )
    return requests


ENLARGED = 4
"""Times as many pixels as a reference has, from which on its enlargement is worth a note."""


def beyond_training(requests: Sequence[Request], defaults: GenerationDefaults) -> list[str]:
    """How requests differ from what the model was trained on, one sentence each.

    They are computed all the same; the result is likely to be poor.
    """
    notes = []
    usual = defaults.height * defaults.width
    for request in requests:
        ratio = request.height * request.width / usual
        if not 1 / defaults.trained_size_ratio <= ratio <= defaults.trained_size_ratio:
            notes.append(
                f"this model was trained on images of about {defaults.width} x {defaults.height}; "
                f"at {request.width} x {request.height} expect a poor result"
            )
        count, usual_count = len(request.references), defaults.trained_references
        if usual_count is not None and count > usual_count:
            notes.append(
                f"this model was trained on edits of {usual_count} image{'s'[: usual_count - 1]}; "
                f"with {count} expect a poor result"
            )
        for each in request.references:
            if each.height * each.width >= ENLARGED * each.image.height * each.image.width:
                notes.append(
                    f"an image of {each.image.width} x {each.image.height} is enlarged to "
                    f"{each.width} x {each.height} for this model; expect a poor result"
                )
    return list(dict.fromkeys(notes))


def parse_sampling(
    steps: object,
    guidance_scale: object,
    padding: str | None,
    defaults: GenerationDefaults,
    sigmas: object = None,
) -> Sampling:
    """Check and complete the settings that all images of a call share.

    Raises:
        ValueError: What was found, what was expected.
    """
    levels = None if sigmas is None else _levels(sigmas)
    if levels is not None and steps not in (None, len(levels)):
        raise ValueError(f"{len(levels)} sigmas are as many steps, but num_inference_steps={steps}")
    steps = len(levels) if levels else defaults.num_inference_steps if steps is None else steps
    steps = parse_count("num_inference_steps", steps)
    check_within("num_inference_steps", steps, 1, MAX_STEPS)
    scale = defaults.guidance_scale if guidance_scale is None else guidance_scale
    scale = scale.item() if isinstance(scale, np.number) else scale
    check_within("guidance_scale", scale, 0, MAX_GUIDANCE)
    guidance = float(scale)  # type: ignore[arg-type]
    for known in PADDINGS:
        if known == (padding or defaults.padding):
            return Sampling(steps=steps, guidance_scale=guidance, padding=known, sigmas=levels)
    raise ValueError(f"padding must be one of {', '.join(PADDINGS)}, got {padding!r}")


def _levels(sigmas: object) -> tuple[float, ...]:
    """Given noise levels, falling; a 0 at the end, which is there anyway, may be left out."""
    values = np.asarray(sigmas, dtype=object).tolist()
    values = values[:-1] if isinstance(values, list) and values and values[-1] == 0 else values
    if not isinstance(values, list) or not values or not all(_is_level(each) for each in values):
        raise ValueError(f"sigmas must be a list of noise levels from 1 down to 0, got {sigmas!r}")
    if any(later >= earlier for earlier, later in pairwise(values)):
        raise ValueError(f"sigmas must fall from one step to the next, got {sigmas!r}")
    return tuple(float(each) for each in values)


def _is_level(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1


def parse_count(name: str, value: object) -> int:
    """A whole number of at least 1, possibly one of numpy.

    Raises:
        ValueError: It is anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
    return int(value)


def noise_generators(
    count: int, seed: object, generator: object, *, drawn: bool = True
) -> tuple[list[Generator], list[int | None]]:
    """One generator per image, and the seed that reproduces each image.

    Image *i* of a call uses ``seed + i``. Without a seed and a generator one is drawn from
    torch's global generator, so ``torch.manual_seed`` is enough for a repeatable script. Where no
    noise is ``drawn``, because latents are given, no seed reproduces the image.
    """
    if generator is not None:
        if seed is not None:
            raise ValueError("give either seed or generator, not both")
        given = list(generator) if isinstance(generator, Sequence) else [generator] * count
        if len(given) != count:
            raise ValueError(f"{count} images need {count} generators, got {len(given)}")
        generators = [each for each in given if isinstance(each, Generator)]
        if len(generators) != count:
            raise ValueError(f"generator must be torch.Generator or a list, got {generator!r}")
        return generators, [None] * count
    if seed is None and not drawn:
        return [], [None] * count
    if seed is None:
        seed = int(torch.randint(2**31, ()).item())
    seed = int(seed) if isinstance(seed, np.integer) else seed
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= 2**63 - count:
        raise ValueError(f"seed must be a whole number from 0 to 2^63 - {count}, got {seed!r}")
    seeds = [seed + index for index in range(count)]
    generators = [Generator().manual_seed(value) for value in seeds]
    return generators, list(seeds) if drawn else [None] * count


def _texts(name: str, value: object) -> list[str]:
    """One text or several, as a list."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, Sequence) or not texts or not all(isinstance(e, str) for e in texts):
        raise ValueError(f"{name} must be a string or a non-empty list of strings, got {value!r}")
    return list(texts)


def _per_prompt(
    image: object, prompts: list[str], *, single: bool
) -> list[tuple[Image.Image, ...]]:
    if image is None:
        return [()] * len(prompts)
    if single:
        return [_images(image)]
    if not isinstance(image, Sequence) or len(image) != len(prompts):
        raise ValueError(
            f"{len(prompts)} prompts need a list of {len(prompts)} lists of images as image"
        )
    return [_images(row or ()) for row in image]


def _images(value: object) -> tuple[Image.Image, ...]:
    """One image or several, as a tuple."""
    if isinstance(value, Image.Image):
        return (value,)
    images = tuple(value) if isinstance(value, list | tuple) else (value,)
    for each in images:
        if not isinstance(each, Image.Image):
            kind = type(each).__name__
            raise ValueError(f"image must be a PIL image or a list of them, got a {kind}")
    return images


def _negatives(
    negative_prompt: object,
    images: list[tuple[Image.Image, ...]],
    defaults: GenerationDefaults,
) -> list[str]:
    if negative_prompt is None:
        return [defaults.edit_negative_prompt if row else "" for row in images]
    if isinstance(negative_prompt, str):
        return [negative_prompt] * len(images)
    negatives = _texts("negative_prompt", negative_prompt)
    if len(negatives) != len(images):
        raise ValueError(f"{len(images)} prompts need as many negatives, got {len(negatives)}")
    return negatives


def _size_of_latents(
    latents: object, channels: int, height: object, width: object
) -> tuple[int, int]:
    if not isinstance(latents, Tensor) or latents.ndim != 4 or latents.shape[1] != channels:
        found = list(latents.shape) if isinstance(latents, Tensor) else type(latents).__name__
        raise ValueError(
            f"latents must be a tensor [batch, {channels}, height / 8, width / 8], got {found}"
        )
    if not latents.isfinite().all():
        raise ValueError("latents must be finite, got NaN or infinity among them")
    size = latents.shape[2] * LATENT_SCALE, latents.shape[3] * LATENT_SCALE
    for name, side, given in (("height", size[0], height), ("width", size[1], width)):
        if given is not None and given != side:
            raise ValueError(f"latents are for {name} {side}, but {name} is {given}")
    return size


def _fallback(
    references: Sequence[Reference], height: object, width: object, defaults: GenerationDefaults
) -> Size:
    """(height, width) to use where none is given; of an edit one side alone keeps the shape."""
    if not references:
        return defaults.height, defaults.width
    first = references[0]
    rows, columns = first.image.height, first.image.width
    if isinstance(height, int) and width is None:
        return first.height, nearest_side(height * columns, rows)
    if isinstance(width, int) and height is None:
        return nearest_side(width * rows, columns), first.width
    return first.height, first.width


def _reference(image: Image.Image, default_side: int, max_side: int) -> Reference:
    rgb = to_rgb(image)
    height, width = reference_size(rgb.height, rgb.width, default_side, max_side=max_side)
    return Reference(image=rgb, height=height, width=width)
