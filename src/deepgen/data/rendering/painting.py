"""From a design to pixels: backgrounds, bent and tilted text, signs over photographs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from deepgen.data.rendering.design import Block, Color, Design
from deepgen.data.rendering.faces import Face
from deepgen.data.rendering.layout import Fitted, draw_mask, fit

FINE = 2
"""Text that is bent or tilted is drawn so many times larger, then reduced."""

VEIL = 0.78
"""How much of a photograph behind text is covered by the ground's colour: text has to be read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rendering:
    """An image and the font sizes of its texts, in pixels."""

    image: Image.Image
    ems: tuple[int, ...]


def render(
    design: Design,
    faces: Sequence[Face],
    photo: Callable[[int], Image.Image],
    *,
    ems: Sequence[int] | None = None,
) -> Rendering:
    """The image of a design.

    Args:
        photo: Gives photographs by number.
        ems: Font sizes; the largest that fit by default.

    Raises:
        DoesNotFitError: A text is too long for its place.
    """
    height, width = design.size
    if design.kind == "sign":
        canvas = _backdrop(design, photo)
        panel, sizes = _panel(design, faces, ems)
        quad = [(x * width * FINE, y * height * FINE) for x, y in design.corners]
        warped = _tilted(panel, quad, (width * FINE, height * FINE)).reduce(FINE)
        shadow = Image.new("RGBA", warped.size, (0, 0, 0, 255))
        shade = warped.getchannel("A").point(lambda value: value * 0.45)
        canvas.paste(shadow, (5, 7), shade.filter(ImageFilter.GaussianBlur(6)))
        canvas.paste(warped, (0, 0), warped.getchannel("A"))
        return Rendering(image=canvas, ems=sizes)
    canvas = _ground(design, photo)
    sizes = _write(canvas, design, faces, ems)
    return Rendering(image=canvas, ems=sizes)


def _write(
    canvas: Image.Image,
    design: Design,
    faces: Sequence[Face],
    ems: Sequence[int] | None,
    *,
    scale: int = 1,
) -> tuple[int, ...]:
    """Write all texts on a canvas that is larger by a scale; returns their font sizes there."""
    shorter = min(design.size) * scale
    mask = Image.new("L", canvas.size, 0)
    sizes = []
    for number, block in enumerate(design.blocks):
        left, top, right, bottom = (
            round(each * length) for each, length in zip(block.box, canvas.size * 2, strict=True)
        )
        place = (right - left, bottom - top)
        face = faces[block.face]
        em = None if ems is None else ems[number]
        text = fit(block, face, place, shorter=shorter, angle=design.angle, scale=scale, em=em)
        part = _laid_out(block, face, text, place, design.angle)
        mask.paste(ImageChops.lighter(part, mask.crop((left, top, right, bottom))), (left, top))
        sizes.append(text.em)
    _apply(canvas, mask, design)
    return tuple(sizes)


def _apply(canvas: Image.Image, mask: Image.Image, design: Design) -> None:
    """Ink through a mask, after its shadow or outline."""
    if design.effect == "shadow":
        shade = mask.filter(ImageFilter.GaussianBlur(2)).point(lambda value: value * 0.4)
        canvas.paste(_mixed(design.ground.rgb, (60, 60, 60), 0.7), (2, 3), shade)
    if design.effect == "outline":
        # In the colour of the ground, so that the text stays legible on anything.
        wide = mask.filter(ImageFilter.GaussianBlur(1.5)).point(lambda value: value * 6)
        canvas.paste(design.ground.rgb, (0, 0), wide)
    canvas.paste(design.ink.rgb, (0, 0), mask)


def _laid_out(
    block: Block, face: Face, text: Fitted, place: tuple[int, int], angle: float
) -> Image.Image:
    """The mask of a text after its layout, as large as its place."""
    if block.layout not in ("slanted", "curved"):
        return draw_mask(block, face, text, place, 1)
    if block.layout == "slanted":
        # The extent before rotation may be wider than the place.
        reach = math.ceil(max(*place, text.width + text.em, text.height + text.em))
        mask = draw_mask(replace(block, align="center"), face, text, (reach, reach), FINE)
        turned = mask.rotate(angle, Image.Resampling.BILINEAR).reduce(FINE)
    else:
        turned = _bent(block, face, text, place, angle)
    left, top = (turned.width - place[0]) // 2, (turned.height - place[1]) // 2
    return turned.crop((left, top, left + place[0], top + place[1]))


def _bent(
    block: Block, face: Face, text: Fitted, place: tuple[int, int], angle: float
) -> Image.Image:
    """One line along the arc of a circle, in the middle of its place."""
    strip_size = (math.ceil(text.width + text.em), math.ceil(text.leading))
    strip = draw_mask(replace(block, align="center"), face, text, strip_size, FINE)
    radius = text.width / math.radians(abs(angle))
    middle = strip_size[1] / 2
    half = math.radians(abs(angle)) / 2
    # Height of the arc: from the outer edge at its middle to the inner edge at its ends.
    rise = (radius + middle) - (radius - middle) * math.cos(half)
    center = (place[0] / 2, place[1] / 2 - rise / 2 + radius + middle)
    down = angle < 0

    # For every pixel where it comes from: the turn around the arc's centre from its middle gives
    # the place along the line, the distance from the centre the place across it.
    columns = (np.arange(place[0] * FINE) + 0.5) / FINE
    rows = (np.arange(place[1] * FINE) + 0.5) / FINE
    across = columns[None, :] - center[0]
    up = center[1] - (place[1] - rows if down else rows)[:, None]
    turns, distances = np.arctan2(across, up), np.hypot(across, up)
    along = (strip_size[0] / 2 + turns * radius) * FINE
    depth = (middle - (distances - radius)) * FINE
    depth = strip.height - depth if down else depth
    return Image.fromarray(_sampled(np.asarray(strip), along, depth)).reduce(FINE)


def _sampled(
    pixels: npt.NDArray[np.uint8], x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
) -> npt.NDArray[np.uint8]:
    """Values between pixels, bilinearly; 0 outside."""
    padded = np.pad(pixels, 1).astype(np.float32)
    height, width = padded.shape
    # Pixel centres are at halves, and there is a margin of one pixel.
    x = (x + 0.5).clip(0, width - 1.001)
    y = (y + 0.5).clip(0, height - 1.001)
    left, top = x.astype(np.int32), y.astype(np.int32)
    right, low = (x - left).astype(np.float32), (y - top).astype(np.float32)
    upper = padded[top, left] * (1 - right) + padded[top, left + 1] * right
    lower = padded[top + 1, left] * (1 - right) + padded[top + 1, left + 1] * right
    values: npt.NDArray[np.uint8] = (upper * (1 - low) + lower * low + 0.5).astype(np.uint8)
    return values


def _panel(
    design: Design, faces: Sequence[Face], ems: Sequence[int] | None
) -> tuple[Image.Image, tuple[int, ...]]:
    """A sign as seen from the front, twice as large as it will be."""
    height, width = design.size
    points = np.array(design.corners) * (width, height)
    upper_left, upper_right, lower_right, lower_left = points
    across = upper_right[0] - upper_left[0]
    down = (lower_left[1] - upper_left[1] + lower_right[1] - upper_right[1]) / 2
    size = (round(across), round(down))
    large = (size[0] * FINE, size[1] * FINE)
    panel = Image.new("RGB", large, design.ground.rgb)
    draw = ImageDraw.Draw(panel)
    inset, line = 8 * FINE, 3 * FINE
    edge = (inset, inset, large[0] - inset, large[1] - inset)
    draw.rounded_rectangle(edge, 10 * FINE, outline=design.ink.rgb, width=line)
    wanted = None if ems is None else [each * FINE for each in ems]
    # Half a pixel of every size is lost where they are halved below.
    sizes = _write(panel, design, faces, wanted, scale=FINE)
    corners = Image.new("L", large, 0)
    ImageDraw.Draw(corners).rounded_rectangle((0, 0, *large), 16 * FINE, fill=255)
    panel.putalpha(corners)
    return panel, tuple(each // FINE for each in sizes)


def _tilted(
    panel: Image.Image, quad: Sequence[tuple[float, float]], size: tuple[int, int]
) -> Image.Image:
    """A panel with its corners at four points, in perspective."""
    ends = ((0, 0), (panel.width, 0), (panel.width, panel.height), (0, panel.height))
    rows, values = [], []
    for (x, y), (u, v) in zip(quad, ends, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    coefficients = np.linalg.solve(np.array(rows), np.array(values)).tolist()
    return panel.transform(
        size, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR
    )


def _ground(design: Design, photo: Callable[[int], Image.Image]) -> Image.Image:
    """What text is written on."""
    height, width = design.size
    ground = design.ground.rgb
    canvas = Image.new("RGB", (width, height), ground)
    other = _mixed(ground, design.ink.rgb, 0.1)
    if design.background == "gradient":
        return _gradient((width, height), ground, other)
    if design.background == "paper":
        rng = np.random.default_rng(design.seed)
        grain = rng.normal(0, 5, (height, width, 1)).astype(np.float32)
        pixels = np.asarray(canvas, dtype=np.float32) + grain
        return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(canvas)
    if design.background == "stripes":
        for left in range(-height, width, 48):
            draw.line((left, height, left + height, 0), fill=other, width=18)
    if design.background == "frame":
        inset = min(width, height) // 40
        edge = (inset, inset, width - inset, height - inset)
        draw.rectangle(edge, outline=design.ink.rgb, width=max(2, inset // 3))
    if design.background == "photo":
        return Image.blend(_fitted(photo(design.photo), (width, height)), canvas, VEIL)
    return canvas


def _backdrop(design: Design, photo: Callable[[int], Image.Image]) -> Image.Image:
    """What is behind a sign."""
    height, width = design.size
    if design.background == "photo":
        return _fitted(photo(design.photo), (width, height))
    wall = design.ground.rgb if design.wall is None else design.wall.rgb
    muted = _mixed(wall, (150, 150, 150), 0.35)
    if design.background == "gradient":
        return _gradient((width, height), _mixed(muted, (255, 255, 255), 0.4), muted)
    canvas = Image.new("RGB", (width, height), muted)
    if design.background == "bricks":
        rng = np.random.default_rng(design.seed)
        draw = ImageDraw.Draw(canvas)
        canvas.paste(_mixed(muted, (230, 230, 230), 0.5), (0, 0, width, height))
        for row, top in enumerate(range(0, height, 26)):
            for left in range(-64 + 32 * (row % 2), width, 64):
                shade = _mixed(muted, (0, 0, 0), float(rng.uniform(0, 0.2)))
                draw.rectangle((left + 2, top + 2, left + 61, top + 23), fill=shade)
    return canvas


def _gradient(size: tuple[int, int], top: Color, bottom: Color) -> Image.Image:
    mask = Image.linear_gradient("L").resize(size, Image.Resampling.BILINEAR)
    return Image.composite(Image.new("RGB", size, bottom), Image.new("RGB", size, top), mask)


def _fitted(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return ImageOps.fit(image, size, Image.Resampling.LANCZOS)


def _mixed(first: Color, second: Color, share: float) -> Color:
    """A colour with this much of a second one."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue
