"""From the fields of a published row to a sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from deepgen.data.importers.source import (
    BadRow,
    BadSampleError,
    ImageSource,
    RawSample,
    as_list,
    check_whole,
    first_of,
    image_of,
    is_empty,
    variant_of,
)
from deepgen.data.records import PromptKind, PromptVariant
from deepgen.errors import DataError

Locate = Callable[[str], ImageSource]
"""From a path as it is stated to where that image is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fields:
    """Which field holds what. Of several names for one thing the first that is filled counts."""

    target: tuple[str, ...]
    texts: Mapping[str, PromptKind | None]
    """Fields whose texts are prompts, all that are filled, and their kinds; None means the usual
    kind: an instruction for edits, else a caption by its length."""
    references: tuple[str, ...] = ()
    """For edits; a field holds one path or a list. Without any the samples are text-to-image."""
    rivals: tuple[str, ...] = ()
    """Names under which the one caption is published; two of them filled need --caption-key."""
    id: tuple[str, ...] = ()
    reasoning: tuple[str, ...] = ()
    render_text: tuple[str, ...] = ()
    licence: tuple[str, ...] = ()
    sha256: tuple[str, ...] = ()
    """Of the target, as hexadecimal digits."""
    lang: tuple[str, ...] = ()
    skills: tuple[str, ...] = ("general",)
    skill_fields: tuple[str, ...] = ()
    """Fields whose values are skills as well, such as the kind of an edit."""
    has_edits_only: bool = True
    """Whether a row without references is a fault, where there are fields of references."""
    split_by_reference: bool = False
    """Whether all edits of one image are held out together, because they are so alike."""
    absolute: bool = False
    """Whether paths begin with a slash that means the folder of the data set."""

    @property
    def required(self) -> list[tuple[str, ...]]:
        """Groups of fields of which some row must have one."""
        references = self.references if self.has_edits_only else ()
        groups = [self.target, tuple(self.texts), references]
        return [each for each in groups if each]


def read_fields(row: Mapping[str, Any], fields: Fields, native_id: str, locate: Locate) -> Any:
    """The sample of a row, or why it is none.

    Raises:
        DataError: Two fields may be the caption, and the user has chosen neither.
    """
    own = first_of(row, fields.id)
    if own is not None:
        native_id = f"{native_id.rpartition('/')[0]}/{own}".lstrip("/")
    try:
        target = first_of(row, fields.target)
        if target is None:
            raise BadSampleError("missing", f"no target under {', '.join(fields.target)}")
        values = as_list(first_of(row, fields.references))
        if fields.references and fields.has_edits_only and not values:
            raise BadSampleError("missing", f"no reference under {', '.join(fields.references)}")
        references = tuple(located(each, locate, fields.absolute) for each in values)
        reasoning = first_of(row, fields.reasoning)
        extra = [str(row[each]) for each in fields.skill_fields if not is_empty(row.get(each))]
        licence, digest = first_of(row, fields.licence), first_of(row, fields.sha256)
        sample = RawSample(
            native_id=native_id,
            prompts=prompts_of(row, fields, is_edit=bool(references)),
            target=located(target, locate, fields.absolute),
            references=references,
            reasoning=None if reasoning is None else str(reasoning),
            skills=tuple(dict.fromkeys([*fields.skills, *extra])),
            render_text=tuple(str(each) for each in as_list(first_of(row, fields.render_text))),
            licence=None if licence is None else str(licence),
            sha256=None if digest is None else str(digest).lower(),
            split_key=str(values[0]) if fields.split_by_reference and values else None,
        )
        check_whole(sample)
        return sample
    except BadSampleError as error:
        return BadRow(native_id=_clean(native_id), reason=error.reason, message=str(error))


def prompts_of(
    row: Mapping[str, Any], fields: Fields, *, is_edit: bool
) -> tuple[PromptVariant, ...]:
    """All texts of a row, each once.

    Raises:
        BadSampleError: There is none.
        DataError: Two fields may be the caption.
    """
    filled = [each for each in fields.rivals if not is_empty(row.get(each))]
    if len({str(row[each]).strip() for each in filled}) > 1:
        raise DataError(
            f"a row has texts under {' and '.join(filled)}; choose the caption, for example "
            f"--caption-key {filled[0]}"
        )
    lang = first_of(row, fields.lang)
    found: dict[str, PromptVariant] = {}
    for key, kind in fields.texts.items():
        for text in as_list(row.get(key)):
            if isinstance(text, str) and not text.strip():
                continue
            own = text if isinstance(text, Mapping) else {"text": text, "kind": kind}
            each = variant_of(own, lang, is_edit=is_edit)
            found.setdefault(each.text, each)
    if not found:
        raise BadSampleError("empty_prompt", f"no text under {', '.join(fields.texts)}")
    return tuple(found.values())


def located(value: object, locate: Locate, absolute: bool = False) -> ImageSource:
    """An image that a row states, where it is.

    Raises:
        BadSampleError: It is no path, or one that leads out of the data set.
    """
    if absolute and isinstance(value, str):
        value = value.lstrip("/")
    found = image_of(value)
    return locate(found) if isinstance(found, str) else found


def fields_of(pairs: Iterable[str], usual: Fields) -> Fields:
    """Fields as the user maps them, ``role=key``; roles that are not mapped stay as usual.

    Raises:
        ValueError: A pair is malformed, or there is no such role.
    """
    kinds = get_args(PromptKind)
    roles = (
        "target",
        "references",
        "text",
        *kinds,
        "id",
        "reasoning",
        "render_text",
        "licence",
        "sha256",
        "lang",
    )
    single: dict[str, list[str]] = {}
    texts: dict[str, PromptKind | None] = {}
    for pair in pairs:
        role, mark, key = pair.partition("=")
        if not mark or not key or role not in roles:
            raise ValueError(
                f"--map takes ROLE=FIELD with a role of {', '.join(roles)}; got {pair!r}"
            )
        if role == "text" or role in kinds:
            texts[key] = None if role == "text" else role  # type: ignore[assignment]
        else:
            single.setdefault(role, []).append(key)
    values: dict[str, Any] = {role: tuple(keys) for role, keys in single.items()}
    if texts:
        values |= {"texts": texts, "rivals": ()}
    if any(kind is not None and kind.startswith("instruction") for kind in texts.values()):
        values["has_edits_only"] = True
    return replace(usual, **values)


def _clean(name: str) -> str:
    return name.encode(errors="replace").decode()
