"""Rendered texts as a source to import: every sample is a function of its number.

Processes render; the import checks, stores and resumes as with any other source.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from hashlib import blake2b, file_digest
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from PIL import Image, features

from deepgen.config.checks import check_at_least, check_fraction
from deepgen.data.importers.source import BadRow, RawSample, Revision, Source
from deepgen.data.parallel import Processes
from deepgen.data.randomness import sample_generator
from deepgen.data.records import PromptVariant
from deepgen.data.rendering.captions import captions
from deepgen.data.rendering.design import Choices, Design, draw_design
from deepgen.data.rendering.edits import Edit, draw_edit
from deepgen.data.rendering.faces import Face, find_faces
from deepgen.data.rendering.layout import DoesNotFitError, check_line_breaking
from deepgen.data.rendering.painting import Rendering, render
from deepgen.data.rendering.vocabulary import Language, TextKind
from deepgen.errors import DataError, ImageError
from deepgen.images.formats import looks_like_image
from deepgen.images.io import JPEG_QUALITY, read_image
from deepgen.reading import open_regular, read_text

RENDERING = 1
"""Number of this package's rendering; raised when a sample of the same options changes."""

ATTEMPTS = 16
"""Designs drawn for a sample until one's texts fit; a tenth of them do not."""

KEPT_PHOTOS = 32
"""Photographs in memory per process."""

PHOTO_SIDE = 2048
"""Pixels of the longer side that a photograph in memory is reduced to."""

MAX_OWN = 200
"""Characters of a text of the user; more cannot be read at the usual sizes."""

LANGUAGES: tuple[Language, ...] = get_args(Language)
KINDS: tuple[TextKind, ...] = get_args(TextKind)

Encoding = Literal["jpeg", "png"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RenderOptions:
    """What is rendered."""

    fonts: Path
    """Folder of font files."""
    count: int
    """Samples."""
    seed: int = 0
    side: int = 512
    """Images have about ``side * side`` pixels."""
    kinds: tuple[TextKind, ...] = KINDS
    languages: tuple[Language, ...] = LANGUAGES
    edit_fraction: float = 0.2
    """How many samples are edits."""
    photos: Path | None = None
    """Folder of photographs for backgrounds and signs."""
    texts: Path | None = None
    """File of texts, one per line, that take the place of sentences."""
    encoding: Encoding = "jpeg"
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Processes; their number changes no image."""

    def __post_init__(self) -> None:
        for name in ("count", "workers"):
            check_at_least(name, getattr(self, name), 1)
        check_at_least("side", self.side, 256)
        check_fraction("edit_fraction", self.edit_fraction)
        if not self.kinds or not self.languages:
            raise ValueError("name at least one kind of text and one language")


class Renderer:
    """Renders samples by their numbers.

    Raises:
        DataError: There are no fonts for a language, no photographs, or no texts.
    """

    def __init__(self, options: RenderOptions) -> None:
        check_line_breaking()
        self.options = options
        self.faces = find_faces(options.fonts)
        _check_scripts(self.faces, options)
        self.photos = [] if options.photos is None else _images_in(options.photos)
        self.choices = Choices(
            faces=self.faces,
            photos=len(self.photos),
            kinds=options.kinds,
            languages=options.languages,
            own=() if options.texts is None else _own_texts(options.texts),
            side=options.side,
        )
        self._photo = lru_cache(maxsize=KEPT_PHOTOS)(self._read_photo)

    def sample(self, number: int) -> RawSample | BadRow:
        """Sample ``number``: a caption and its image, or an edit."""
        name = f"{number:09d}"
        try:
            design, first, rng = self.draw(number)
            if rng.random() < self.options.edit_fraction:
                return self._edit(name, design, first, rng)
        except DoesNotFitError:
            message = f"no text that fits was found in {ATTEMPTS} tries"
            return BadRow(native_id=name, reason="layout", message=message)
        except ImageError as error:
            return BadRow(native_id=name, reason=error.reason, message=str(error))
        except ValueError as error:
            return BadRow(native_id=name, reason="font", message=str(error))
        return self._stored(name, design, first, captions(design, self.faces, first.ems, rng))

    def draw(self, number: int) -> tuple[Design, Rendering, np.random.Generator]:
        """The design of sample ``number``, its image, and the generator for what follows.

        Raises:
            DoesNotFitError: No design of several has room for its texts.
            ImageError: A photograph is damaged.
            ValueError: No font has the characters of a text.
        """
        for attempt in range(ATTEMPTS):
            rng = sample_generator(self.options.seed, number, attempt, "rendered text")
            design = draw_design(self.choices, rng)
            try:
                return design, self._render(design), rng
            except DoesNotFitError:
                continue
        raise DoesNotFitError(f"sample {number}")

    def _render(self, design: Design, ems: tuple[int, ...] | None = None) -> Rendering:
        return render(design, self.faces, self._photo, ems=ems)

    def _edit(
        self, name: str, design: Design, first: Rendering, rng: np.random.Generator
    ) -> RawSample:
        """An edit of a design whose texts fit.

        Raises:
            DoesNotFitError: None of several edits has room for its texts.
        """
        for _ in range(ATTEMPTS):
            try:
                return self._edited(name, draw_edit(design, rng), first)
            except DoesNotFitError:
                continue
        raise DoesNotFitError(f"an edit of sample {name}")

    def _edited(self, name: str, edit: Edit, first: Rendering) -> RawSample:
        before, after = first, first
        if edit.change == "replace":
            # Sizes of the longer text, so that nothing changes but the word.
            after = self._render(edit.after)
            ems = tuple(map(min, first.ems, after.ems))
            # A sign is rendered larger and reduced, by another path where sizes are given.
            is_sign = edit.before.kind == "sign"
            if is_sign or ems != first.ems:
                before = self._render(edit.before, ems)
            if is_sign or ems != after.ems:
                after = self._render(edit.after, ems)
        elif edit.change == "add":
            before = self._render(edit.before)
        else:
            after = self._render(edit.after)
        return self._stored(name, edit.after, after, edit.instructions, before.image)

    def _stored(
        self,
        name: str,
        design: Design,
        rendering: Rendering,
        prompts: tuple[PromptVariant, ...],
        reference: Image.Image | None = None,
    ) -> RawSample:
        skills = ["text_rendering"]
        if design.kind in ("poster", "poem"):
            skills.append(design.kind)
        return RawSample(
            native_id=name,
            prompts=prompts,
            target=self._encoded(rendering.image),
            references=() if reference is None else (self._encoded(reference),),
            skills=tuple(skills),
            render_text=tuple(
                line for each in design.blocks for line in each.text.text.split("\n")
            ),
        )

    def _encoded(self, image: Image.Image) -> bytes:
        content = BytesIO()
        if self.options.encoding == "png":
            image.save(content, "PNG")
        else:
            # Colours at full resolution: halved, thin coloured strokes fade.
            image.save(content, "JPEG", quality=JPEG_QUALITY, subsampling=0)
        return content.getvalue()

    def _read_photo(self, number: int) -> Image.Image:
        image = read_image(self.photos[number])
        image.thumbnail((PHOTO_SIDE, PHOTO_SIDE))
        return image


class RenderedTexts(Source):
    """The samples of a renderer, made by several processes, in the order of their numbers."""

    contents = "fonts, photographs, texts, rendering options or versions of libraries"

    def __init__(self, options: RenderOptions) -> None:
        self.options = options
        self.root = options.fonts
        self.renderer = Renderer(options)

    def revision(self) -> Revision:
        """Hash of all that decides the images: options, fonts, photographs, texts, libraries."""
        options = {
            name: value
            for name, value in asdict(self.options).items()
            if name not in ("fonts", "photos", "texts", "workers")
        }
        stated = [RENDERING, sorted(options.items())]
        digest = blake2b(repr(stated).encode(), digest_size=16)
        for package in ("uniseg", "numpy"):
            digest.update(f"{package} {version(package)}\0".encode())
        for library in ("pil", "freetype2", "raqm", "harfbuzz"):
            digest.update(f"{library} {features.version(library)}\0".encode())
        fonts = sorted({each.path for each in self.renderer.faces})
        texts = [] if self.options.texts is None else [self.options.texts]
        for path in (*fonts, *self.renderer.photos, *texts):
            with open_regular(path) as file:
                content = file_digest(file, "sha256").hexdigest()
            digest.update(f"{path.name} {content}\0".encode())
        found = digest.hexdigest()
        return Revision(content=found, state=found, rows=self.options.count)

    def rows(self) -> Iterator[RawSample | BadRow]:
        """All samples."""
        return self.rows_from(0)

    def rows_from(self, start: int) -> Iterator[RawSample | BadRow]:
        """The samples from a number on; those before are not rendered."""
        numbers = range(start, self.options.count)
        if self.options.workers == 1:
            return map(self.renderer.sample, numbers)
        render_one = partial(_sample, self.options)
        return (sample for _, sample in Processes(self.options.workers).map(render_one, numbers))


@lru_cache(maxsize=1)
def _renderer(options: RenderOptions) -> Renderer:
    """The renderer of a process, which reads its fonts once."""
    return Renderer(options)


def _sample(options: RenderOptions, number: int) -> RawSample | BadRow:
    return _renderer(options).sample(number)


def _check_scripts(faces: list[Face], options: RenderOptions) -> None:
    has = {"en": any(each.is_latin for each in faces)}
    has["zh"] = any(each.is_chinese for each in faces)
    has["mixed"] = any(each.is_chinese and each.is_latin for each in faces)
    for language in options.languages:
        if not has[language]:
            what = {"en": "Latin letters", "zh": "Chinese characters", "mixed": "both scripts"}
            rest = [each for each in LANGUAGES if has[each]]
            raise DataError(
                f"no font in {options.fonts} has {what[language]}; add one, or render only "
                f"--languages {' '.join(rest) or 'that a font has'}"
            )


def _images_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder} of photographs; check the path")
    found = [each for each in sorted(folder.rglob("*")) if looks_like_image(each)]
    if not found:
        raise DataError(f"{folder} has no photographs; expected image files")
    return found


def _own_texts(path: Path) -> tuple[str, ...]:
    try:
        lines = [" ".join(line.split()) for line in read_text(path).splitlines()]
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text; expected one text per line") from None
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror or error}); expected one text per line"
        ) from None
    texts = tuple(line for line in lines if line)
    if not texts:
        raise DataError(f"{path} has no texts; expected one per line")
    long = [number for number, line in enumerate(lines, 1) if len(line) > MAX_OWN]
    if long:
        raise DataError(
            f"line {long[0]} of {path} has more than {MAX_OWN} characters; shorten or split it"
        )
    return texts
