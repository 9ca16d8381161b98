"""What every importer yields: samples, or rejected rows with the reason."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import islice
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, get_args

from deepgen.data.records import (
    LONG_CAPTION,
    UNKNOWN_LANGUAGE,
    PromptKind,
    PromptVariant,
    Split,
    content_hash,
)
from deepgen.errors import DataError
from deepgen.reading import parse_json


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """An image that is a range of bytes of a file, such as a member of an archive."""

    file: Path
    name: str
    """Of the archive and the member; the same wherever the source is."""
    offset: int
    length: int


ImageSource = str | bytes | Span
"""A path relative to the source's root, the bytes themselves, or a place in an archive."""

# Of references and targets, the first of these names with a value counts; of texts, only one may
# have a value. Empty values count as absent: some tables have columns that are never filled.
PROMPT_KEYS = (
    "txt", "prompt", "input_prompt", "caption", "re_caption", "text", "instruction"
)  # fmt: skip
REFERENCE_KEYS = (
    "input_image", "input_images", "references", "refs", "input", "source_file_name"
)  # fmt: skip
TARGET_KEYS = (
    "output_image", "image_path", "output", "edited_file_name", "target", "image", "file_name"
)  # fmt: skip
ID_KEYS = ("sample_id", "id")

LONGEST_PROMPT = 32_768
"""Characters; about eight times what the model reads, which training cuts and counts."""

EXCLUDED = "excluded"
"""Reason of rows that are left out on purpose; they are no faults of the source."""


class BadSampleError(Exception):
    """Why a row cannot be used: one word for counting, and a message."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, kw_only=True, slots=True)
class BadRow:
    """A row for the quarantine."""

    native_id: str
    reason: str
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """What an earlier import recorded about a sample, which this one keeps.

    Its images passed the limits of that import, so those of this one do not apply.
    """

    sample_id: str
    source: str
    source_rev: str
    split: Split
    urls: tuple[str | None, ...]
    """Of the target, the references and the negative target, if there is one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RawSample:
    """A row that is a sample, if its images can be used."""

    native_id: str
    prompts: tuple[PromptVariant, ...]
    target: ImageSource
    references: tuple[ImageSource, ...] = ()
    negative_target: ImageSource | None = None
    """The rejected image of preference data."""
    reasoning: str | None = None
    skills: tuple[str, ...] = field(default=("general",))
    render_text: tuple[str, ...] = ()
    licence: str | None = None
    """Of this sample; None means that of the import."""
    redistributable: bool | None = None
    """Whether this sample may be redistributed; None means as the import says."""
    sha256: str | None = None
    """Of the target's bytes, where the source states it."""
    split_key: str | None = None
    """Samples with one key are held out together; None means each by itself."""
    provenance: Provenance | None = None

    @property
    def images(self) -> tuple[ImageSource, ...]:
        """All images, those that training does not use as well."""
        negative = () if self.negative_target is None else (self.negative_target,)
        return (self.target, *self.references, *negative)


@dataclass(frozen=True, kw_only=True, slots=True)
class Revision:
    """Two hashes of a source, and its size."""

    content: str
    """Hash of all rows and of the names and sizes of the images; equal for a copy of the source."""
    state: str
    """Hash of the same and of the modification times of the images."""
    rows: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceOptions:
    """What the user states about a source; an importer refuses what does not apply to it."""

    images: Path | None = None
    """Where paths of images start from; None means at the source itself."""
    caption_key: str | None = None
    """Column or key that holds the text; None means the only usual one that is filled."""
    caption_suffix: str | None = None
    """Ending of the text files beside the images of a folder; None means the usual ones."""
    ignore_metadata: bool = False
    """Read captions beside the images even where a table in the folder lists them."""
    part: str | None = None
    """The only part of a published data set that is imported; None means its usual parts."""
    mapping: tuple[str, ...] = ()
    """``role=key`` pairs: which columns, keys or members hold what."""
    strip_prefix: str | None = None
    """Beginning of the paths in a published data set's tables that its files do not have."""
    scratch: Path | None = None
    """Where compressed archives are unpacked."""


class Source(ABC):
    """Where samples are imported from; reading it twice gives the same rows."""

    root: Path
    """What the paths of images are relative to."""
    licence: str = "unknown"
    """That of all samples which have none of their own, unless the user states one."""
    redistributable: bool = False
    contents: str = "content of the source"
    """What its revision covers, as errors call it."""

    def probe(self) -> list[str]:
        """Check what the importer assumes about its source on the first rows, before anything else.

        Returns:
            What was found, one line each.

        Raises:
            DataError: An assumption does not hold.
        """
        return []

    def revision(self) -> Revision:
        """Hashes that identify the content of the source.

        All texts are read. Images are not, which would double the work: their names, sizes and
        modification times stand for them.

        Raises:
            DataError: The source cannot be read to its end.
        """
        content, state = blake2b(digest_size=16), blake2b(digest_size=16)
        count = 0
        for count, row in enumerate(self.rows(), 1):  # noqa: B007
            images: tuple[ImageSource, ...] = ()
            if isinstance(row, RawSample):
                images = row.images
                row = replace(row, target="", references=(), negative_target=None)
            found = [_fingerprint(self.root, each) for each in images]
            text = "".join(f"{each}\0" for each in (repr(row), *(name for name, _ in found)))
            content.update(text.encode())
            state.update((text + "".join(f"{changed}\0" for _, changed in found)).encode())
        return Revision(content=content.hexdigest(), state=state.hexdigest(), rows=count)

    def notes(self) -> list[str]:
        """What the user should know once the source has been read; one line each."""
        return []

    @abstractmethod
    def rows(self) -> Iterator[RawSample | BadRow]:
        """All rows, in an order that depends only on the source.

        Raises:
            DataError: The rest of the source cannot be read.
        """

    def rows_from(self, start: int) -> Iterator[RawSample | BadRow]:
        """The rows from number ``start`` on; a source that can skip others does.

        Raises:
            DataError: The rest of the source cannot be read.
        """
        return islice(self.rows(), start, None)


def _fingerprint(root: Path, image: ImageSource) -> tuple[str, int]:
    """Name and size of an image, and its modification time in nanoseconds."""
    if isinstance(image, bytes):
        return content_hash(image), 0
    if isinstance(image, Span):
        return f"{image.name} {image.length}", image.file.stat().st_mtime_ns
    try:
        found = (root / image).stat()
    except OSError:
        return f"{image} -", 0
    return f"{image} {found.st_size}", found.st_mtime_ns


def read_row(
    row: Mapping[str, Any], native_id: str, caption_key: str | None = None
) -> RawSample | BadRow:
    """A sample from a row of a table, by the usual names of columns.

    Args:
        native_id: The id of a row without one of its own.
        caption_key: See :func:`read_prompts`.

    Raises:
        DataError: Several columns may be the caption, and no ``caption_key`` is given.
    """
    own = first_of(row, ID_KEYS)
    native_id = native_id if own is None else str(own)
    try:
        target = first_of(row, TARGET_KEYS)
        if target is None:
            raise BadSampleError("missing", f"no target image under {', '.join(TARGET_KEYS)}")
        references = tuple(image_of(each) for each in as_list(first_of(row, REFERENCE_KEYS)))
        reasoning = first_of(row, ("reasoning",))
        sample = RawSample(
            native_id=native_id,
            prompts=read_prompts(row, is_edit=bool(references), caption_key=caption_key),
            target=image_of(target),
            references=references,
            reasoning=None if reasoning is None else str(reasoning),
            skills=tuple(str(each) for each in as_list(row.get("skills"))) or ("general",),
            render_text=tuple(str(each) for each in as_list(row.get("render_text"))),
        )
        check_whole(sample)
        return sample
    except BadSampleError as error:
        return BadRow(native_id=native_id, reason=error.reason, message=str(error))


def read_prompts(
    row: Mapping[str, Any], *, is_edit: bool, caption_key: str | None = None
) -> tuple[PromptVariant, ...]:
    """The texts of a row: ``prompts`` with kinds and weights, or a single text under a usual name.

    Args:
        caption_key: The column that holds the text, instead of any usual name.

    Raises:
        BadSampleError: There is none, or an instruction without a reference image.
        DataError: There are several, and which one to use is not stated.
    """
    variants = as_list(row.get(caption_key or "prompts"))
    if not variants and caption_key is not None:
        raise BadSampleError("empty_prompt", f"no prompt under {caption_key}")
    if not variants:
        variants = as_list(row[_caption_key(row, is_edit=is_edit)])
    return tuple(variant_of(each, row.get("lang"), is_edit=is_edit) for each in variants)


def _caption_key(row: Mapping[str, Any], *, is_edit: bool) -> str:
    """The one usual column that has a text.

    Raises:
        BadSampleError: There is none, or an instruction without a reference image.
        DataError: There are several.
    """
    filled = [key for key in PROMPT_KEYS if not is_empty(row.get(key))]
    if not filled:
        raise BadSampleError("empty_prompt", f"no prompt under {', '.join(PROMPT_KEYS)}")
    if "instruction" in filled:
        # Some edits also describe their result; the instruction counts.
        if is_edit:
            return "instruction"
        filled.remove("instruction")
    if not filled:
        raise BadSampleError("missing", "an instruction, but no reference image")
    if len(filled) > 1:
        raise DataError(
            f"a row has texts under {' and '.join(filled)}; choose the caption, for example "
            f"--caption-key {filled[0]}"
        )
    return filled[0]


def named_images(row: object) -> list[str]:
    """Paths of all images that a row of a table names, whether the row can be used or not."""
    if not isinstance(row, dict):
        return []
    values = [each for key in (*TARGET_KEYS, *REFERENCE_KEYS) for each in as_list(row.get(key))]
    paths = [each.get("path") if isinstance(each, Mapping) else each for each in values]
    return [each for each in paths if isinstance(each, str)]


def image_of(value: object) -> ImageSource:
    """An image of a table: a relative path, bytes, or a struct of the two.

    Raises:
        BadSampleError: A path out of the source, or something else.
    """
    if isinstance(value, Mapping):
        content = value.get("bytes")
        value = value.get("path") if content is None else content
    if isinstance(value, bytes | Span):
        return value
    if not isinstance(value, str) or not value.strip():
        raise BadSampleError("missing", f"expected the path of an image, found {str(value)[:60]!r}")
    check_relative(value)
    return value


def check_relative(path: str) -> None:
    """Refuse paths that may be outside the source.

    Raises:
        BadSampleError: An absolute path, one with ``..``, or a URL.
    """
    if "://" in path or path.startswith("data:"):
        raise BadSampleError("path", f"{path[:100]!r} is a URL; download it first")
    windows = PureWindowsPath(path)
    if PurePosixPath(path).is_absolute() or windows.drive or windows.root:
        raise BadSampleError("path", f"{path!r} is an absolute path, expected a relative one")
    if ".." in windows.parts:
        raise BadSampleError("path", f"{path!r} points outside the source's folder")
    if "\0" in path:
        raise BadSampleError("path", f"{path!r} is not a path")


def check_whole(sample: RawSample) -> None:
    """Refuse lone surrogates: JSON can encode them, but neither files nor hashes can.

    Raises:
        BadSampleError: A text has one.
    """
    texts = [
        sample.native_id,
        sample.reasoning or "",
        *(part for each in sample.prompts for part in (each.text, each.lang)),
        *sample.skills,
        *sample.render_text,
        *(each for each in sample.images if isinstance(each, str)),
    ]
    try:
        "".join(f"{text} " for text in texts).encode()
    except UnicodeEncodeError:
        raise BadSampleError("row", "a text or name has a lone surrogate") from None


def variant_of(value: object, lang: object, *, is_edit: bool) -> PromptVariant:
    """A prompt from a text, or from an object with a text and perhaps kind, language and weight.

    Raises:
        BadSampleError: The text is empty, or one of the values is none.
    """
    own: Mapping[str, Any] = value if isinstance(value, Mapping) else {"text": value}
    text = own.get("text")
    if not isinstance(text, str):
        raise BadSampleError("empty_prompt", f"expected a text as prompt, found {text!r}")
    if not text.strip():
        raise BadSampleError("empty_prompt", "the prompt is empty")
    if len(text) > LONGEST_PROMPT:
        raise BadSampleError(
            "prompt_too_long",
            f"the prompt has {len(text):,} characters, at most {LONGEST_PROMPT:,}",
        )
    if "\0" in text:
        raise BadSampleError("row", "the prompt has a NUL character")
    weight = own.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < 1e9:
        raise BadSampleError(
            "weight", f"a prompt's weight must be a positive number, got {weight!r}"
        )
    kind = own.get("kind") or _kind(text, is_edit=is_edit)
    if kind not in get_args(PromptKind):
        raise BadSampleError("kind", f"unknown kind of prompt {kind!r}; expected {PromptKind}")
    stated = own.get("lang") or lang or UNKNOWN_LANGUAGE
    return PromptVariant(text=text.strip(), kind=kind, lang=str(stated), weight=float(weight))


def _kind(text: str, *, is_edit: bool) -> PromptKind:
    if is_edit:
        return "instruction"
    return "caption_long" if len(text) > LONG_CAPTION else "caption_short"


def first_of(row: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    """The value of the first of these keys that is filled; None if none is."""
    return next((row[key] for key in keys if not is_empty(row.get(key))), None)


def is_empty(value: object) -> bool:
    """Whether a field counts as absent."""
    return value is None or (isinstance(value, str | bytes | list | dict) and not value)


def as_list(value: object) -> list[Any]:
    """A list from one value, a list, or a list written as JSON."""
    if is_empty(value):
        return []
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            values = parse_json(value)
        except ValueError:
            return [value]
        # A caption may be "[1]"; real lists hold texts or objects.
        return values if all(isinstance(each, str | dict) for each in values) else [value]
    return value if isinstance(value, list) else [value]
