"""From the fields of a request to the image it asks for, or to the error that says why not."""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

from deepgen.checkpoint.finding import FoundModel
from deepgen.config.model import SIZE_UNIT
from deepgen.config.serve import SMALLEST_SIDE, ServeConfig, rows_of, tokens_of
from deepgen.config.sizes import nearest_side, reference_size
from deepgen.config.solver import DEFAULT_SOLVER, SolverOptions, solver_from_json
from deepgen.errors import UsageError
from deepgen.images.masks import composite
from deepgen.serve.engine_client import Command
from deepgen.serve.errors import ApiError
from deepgen.serve.schemas import MAX_STEPS, ImageParameters
from deepgen.serve.worker import image_frame

QUALITIES: Mapping[str, float] = {
    "low": 0.4,
    "medium": 0.7,
    "high": 1.0,
    "xhigh": 1.5,
    "max": 2.0,
    "auto": 1.0,
    "standard": 1.0,
    "hd": 1.0,
}
"""Steps by quality, in multiples of the model's default."""

NAMED = ("low", "medium", "high", "xhigh", "max")

Format = Literal["png", "jpeg", "webp"]
Metadata = Literal["full", "minimal"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRequest:
    """A request that can be fulfilled."""

    prompt: str
    negative_prompt: str | None
    count: int
    seed: int
    height: int | None
    """Of the result; None for an edit of the first image's own size."""
    width: int | None
    steps: int
    guidance: float
    quality: str | None
    """None where the steps were given."""
    format: Format
    compression: int
    stream: bool
    partial_images: int
    progress: bool
    preview_interval: int
    metadata: Metadata
    safety_identifier: str | None
    tokens: int
    """Of all rows of an image in a pass, contexts estimated."""
    solver: SolverOptions = DEFAULT_SOLVER
    images: Sequence[Image.Image] = ()
    mask: Image.Image | None = None
    ignored: Sequence[str] = ()
    warnings: Sequence[str] = ()

    @property
    def is_edit(self) -> bool:
        """Whether there are images to edit."""
        return bool(self.images)

    @property
    def kind(self) -> Literal["image_edit", "image_generation"]:
        """The beginning of the names of its events."""
        return "image_edit" if self.is_edit else "image_generation"

    @property
    def partial_steps(self) -> list[int]:
        """After which steps partial images are due: ``ceil(steps (j + 1) / (count + 1))``."""
        parts = self.partial_images + 1
        due = {math.ceil(self.steps * j / parts) for j in range(1, parts)}
        return sorted(step for step in due if step < self.steps)

    def finished(self, image: Image.Image) -> Image.Image:
        """The image that the user gets: at the original's size, with what its mask keeps.

        Args:
            image: As the model made it.
        """
        if self.images and self.height is None and image.size != self.images[0].size:
            image = image.resize(self.images[0].size, Image.Resampling.BICUBIC)
        return image if self.mask is None else composite(image, self.images[0], self.mask)

    @property
    def rows(self) -> int:
        """Of an image in a pass through the DiT."""
        return rows_of(self.guidance)

    @property
    def price(self) -> float:
        """Of an image, as :attr:`deepgen.serve.engine_client.Command.price`."""
        return float(self.tokens * self.steps)

    def commands(self, client: str) -> list[Command]:
        """What the engine is to do, an image each."""
        frames = [image_frame(each) for each in self.images]
        blobs = [data for _, data in frames]
        if self.mask is not None:
            blobs.append(image_frame(self.mask)[1])
        values = {
            "prompt": self.prompt,
            "negative_prompt": self.negative_prompt,
            "height": self.height,
            "width": self.width,
            "steps": self.steps,
            "guidance": self.guidance,
            "images": [size for size, _ in frames],
            "has_mask": self.mask is not None,
            "partial_steps": self.partial_steps,
            "preview_every": self.preview_interval,
            "solver": self.solver.changed,
        }
        return [
            Command(
                client=client,
                values={**values, "seed": self.seed + index},
                blobs=blobs,
                price=self.price,
            )
            for index in range(self.count)
        ]


class Resolver:
    """Completes and checks requests against the model and the server's limits.

    Args:
        model: That is served.
        config: The limits.

    Raises:
        UsageError: They do not allow the model's own size.
    """

    def __init__(self, model: FoundModel, config: ServeConfig) -> None:
        self.model = model
        self.config = config
        defaults = model.defaults
        self.side = round(math.sqrt(defaults.height * defaults.width))
        self.max_pixels = config.max_pixels or (2 * self.side) ** 2
        usual = defaults.height * defaults.width
        if self.max_pixels < usual:
            raise UsageError(
                f"--max-pixels {self.max_pixels} is less than the {usual} of the model's own size, "
                f"{defaults.width}x{defaults.height}; allow at least these"
            )

    @property
    def names(self) -> list[str]:
        """By which the model may be asked for; the first is its own."""
        return [self.config.model, *self.config.model_alias]

    def resolve(
        self,
        fields: ImageParameters,
        ignored: Sequence[str],
        images: Sequence[Image.Image] = (),
        mask: Image.Image | None = None,
    ) -> ImageRequest:
        """The request.

        Raises:
            ApiError: It cannot be fulfilled; the error names the field.
        """
        self.check_model(fields.model)
        _check_supported(fields)
        if not fields.prompt.strip():
            message = "prompt is empty, expected a text that says what to make"
            raise ApiError("invalid_value", message, param="prompt")
        self._check_texts(fields)
        count = fields.n or 1
        most = min(self.config.max_n, self.config.max_queue)
        if count > most:
            message = f"n must be at most {most}, got {count}"
            raise ApiError("invalid_value", message, param="n")
        if fields.stream and count > 1:
            message = "streaming makes one image; use n 1, or send several requests"
            raise ApiError("invalid_value", message, param="n")
        seed = secrets.randbelow(2**31) if fields.seed is None else fields.seed
        if seed + count > 2**63:
            message = f"seed {seed} leaves no seeds for {count} images"
            raise ApiError("invalid_value", message, param="seed")
        height, width = self._size(fields.size, images, has_mask=mask is not None)
        steps = self._steps(fields)
        guidance = fields.guidance_scale
        guidance = self.model.defaults.guidance_scale if guidance is None else guidance
        solver, unused = _solver(fields).at(guidance)
        if fields.negative_prompt and guidance <= 1:
            unused.append("negative_prompt")
        kind: Any = fields.output_format or "png"
        return ImageRequest(
            prompt=fields.prompt,
            negative_prompt=fields.negative_prompt,
            count=count,
            seed=seed,
            height=height,
            width=width,
            steps=steps,
            guidance=guidance,
            solver=solver,
            tokens=self._tokens(height, width, images, guidance),
            quality=_quality(fields),
            format=kind,
            compression=_compression(fields),
            stream=bool(fields.stream),
            partial_images=fields.partial_images or 0,
            progress=bool(fields.progress),
            preview_interval=fields.preview_interval or 0,
            metadata="minimal" if "minimal" in (fields.metadata, self.config.metadata) else "full",
            safety_identifier=fields.safety_identifier or fields.user,
            images=images,
            mask=mask,
            ignored=[*ignored, *unused],
            warnings=self._warnings(height, width),
        )

    def check_model(self, name: str | None) -> None:
        """Refuse the name of another model.

        Raises:
            ApiError: It is one.
        """
        if name is not None and name not in self.names:
            message = f"there is no model {name[:100]!r} here; this server has {self.names[0]!r}"
            raise ApiError("model_not_found", message, param="model")

    def _check_texts(self, fields: ImageParameters) -> None:
        for name in ("prompt", "negative_prompt"):
            text = getattr(fields, name)
            if not text:
                continue
            try:
                self.model.check_texts([text])
            except ValueError as error:
                code = "string_above_max_length" if "tokens" in str(error) else "invalid_value"
                raise ApiError(code, f"{name}: {error}", param=name) from None

    def _steps(self, fields: ImageParameters) -> int:
        if fields.num_inference_steps is not None:
            if fields.quality not in (None, "auto"):
                message = "quality decides the number of steps; give either it or the steps"
                raise ApiError("invalid_value", message, param="quality")
            return int(fields.num_inference_steps)
        factor = QUALITIES[fields.quality or "auto"]
        usual = self.model.defaults.num_inference_steps
        # In whole tenths, since 0.7 * 10 is a little more than 7 in floating point.
        return min(MAX_STEPS, -(-usual * round(10 * factor) // 10))

    def _size(
        self, size: str | None, images: Sequence[Image.Image], *, has_mask: bool
    ) -> tuple[int | None, int | None]:
        """(height, width) of the result; (None, None) where the first image decides."""
        for each in images:
            try:
                reference_size(each.height, each.width, self.side, max_side=self.model.max_side)
            except ValueError as error:
                raise ApiError("invalid_value", str(error), param="image") from None
        if size is None or size == "auto":
            usual = self.model.defaults
            return (None, None) if images else (usual.height, usual.width)
        match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", size)
        if match is None:
            message = f"size must be auto or WIDTHxHEIGHT such as 512x512, got {size[:20]!r}"
            raise ApiError("invalid_value", message, param="size")
        width, height = int(match[1]), int(match[2])
        nearest = self._nearest(height, width)
        if nearest != (height, width):
            message = (
                f"size {width}x{height} is not possible: both sides must be multiples of "
                f"{SIZE_UNIT} from {SMALLEST_SIDE} to {self.model.max_side}, with at most "
                f"{self.max_pixels:,} pixels; the nearest is {nearest[1]}x{nearest[0]}"
            )
            raise ApiError("invalid_value", message, param="size")
        if has_mask and (images[0].width, images[0].height) != (width, height):
            message = "with a mask the size is the first image's; leave size out"
            raise ApiError("invalid_value", message, param="size")
        # The size that the first image is seen in, which fits its latents.
        return (None, None) if has_mask else (height, width)

    def _tokens(
        self,
        height: int | None,
        width: int | None,
        images: Sequence[Image.Image],
        guidance: float,
    ) -> int:
        """As :attr:`deepgen.pipeline.engine.Job.tokens`, before the engine has the job."""
        sizes = [
            reference_size(each.height, each.width, self.side, max_side=self.model.max_side)
            for each in images
        ]
        usual = sizes[0] if sizes else (self.model.defaults.height, self.model.defaults.width)
        made = usual if height is None or width is None else (height, width)
        return tokens_of([made, *sizes], guidance)

    def _nearest(self, height: int, width: int) -> tuple[int, int]:
        """The allowed size that is nearest to a wanted one, of about its shape."""
        pixels = height * width
        scale = min(1.0, math.sqrt(self.max_pixels / pixels))
        limits = (SMALLEST_SIDE, self.model.max_side - self.model.max_side % SIZE_UNIT)

        def fitted(side: float) -> int:
            return min(max(nearest_side(round(side), 1), limits[0]), limits[1])

        found = [fitted(height * scale), fitted(width * scale)]
        while found[0] * found[1] > self.max_pixels and max(found) > SMALLEST_SIDE:
            found[found.index(max(found))] -= SIZE_UNIT
        return found[0], found[1]

    def _warnings(self, height: int | None, width: int | None) -> list[str]:
        if height is None or width is None:
            return []
        ratio, usual = height * width / self.side**2, self.model.defaults.trained_size_ratio
        if 1 / usual <= ratio <= usual:
            return []
        return [f"trained at about {self.side}x{self.side}; expect a poor result at this size"]


def _check_supported(fields: ImageParameters) -> None:
    unsupported: list[tuple[str, object, str]] = [
        ("background", "transparent", "images are opaque; use opaque or auto"),
        ("output_format", "gif", "use png, jpeg or webp"),
        ("output_format", "svg", "use png, jpeg or webp"),
        ("response_format", "url", "nothing is stored here; use b64_json"),
    ]
    for name, value, advice in unsupported:
        if getattr(fields, name) == value:
            message = f"{name} {value} is not supported: {advice}"
            raise ApiError("unsupported_value", message, param=name)
    needs = [("partial_images", "stream"), ("progress", "stream"), ("preview_interval", "progress")]
    for name, other in needs:
        if getattr(fields, name) and not getattr(fields, other):
            raise ApiError("invalid_value", f"{name} needs {other}", param=name)


def _solver(fields: ImageParameters) -> SolverOptions:
    names = ("solver", "guidance_interval", "guidance_rescale")
    given = {name: getattr(fields, name) for name in names if getattr(fields, name) is not None}
    try:
        return solver_from_json(given)
    except ValueError as error:
        raise ApiError("invalid_value", str(error), param=str(error).partition(" ")[0]) from None


def _quality(fields: ImageParameters) -> str | None:
    if fields.num_inference_steps is not None:
        return None
    return fields.quality if fields.quality in NAMED else "high"


def _compression(fields: ImageParameters) -> int:
    value = 100 if fields.output_compression is None else fields.output_compression
    if value != 100 and fields.output_format in (None, "png"):
        message = "png is always lossless; leave output_compression out, or use jpeg or webp"
        raise ApiError("invalid_value", message, param="output_compression")
    return value
