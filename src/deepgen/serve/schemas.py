"""The fields of requests: those of the OpenAI Images API, and ours under diffusers' names.

What asks for another image than we can make is refused; what only labels, routes or tunes
moderation is accepted and reported as ignored.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictStr
from pydantic import ValidationError as PydanticError

from deepgen.errors import shown
from deepgen.serve.errors import ApiError

MAX_TEXT = 32_000
"""Characters of a prompt."""

# Below the library's own limits: of a server others wait for the images of each.
MAX_STEPS = 200
MAX_GUIDANCE = 20.0
MAX_PARTIAL_IMAGES = 3

ALIASES: Mapping[str, str] = {
    "steps": "num_inference_steps",
    "guidance": "guidance_scale",
    "true_cfg_scale": "guidance_scale",
    "image[]": "image",
}

IGNORED = ("moderation", "input_fidelity", "user")
"""Fields without an effect on the image; ``user`` is echoed."""

UNSUPPORTED = ("style", "complexity", "frame_count", "frame_duration_ms", "svg", "markup")
"""OpenAI's fields that ask for what this model cannot do."""


def _whole(value: Any) -> Any:
    """Whole numbers written as 2.0 are not; a bool is no number."""
    if isinstance(value, bool):
        raise ValueError("must be a whole number")
    return value


def _seed(value: Any) -> Any:
    """A seed may come as digits, since JavaScript loses whole numbers above 2^53."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    return _whole(value)


Text = Annotated[StrictStr, Field(max_length=MAX_TEXT)]
Label = Annotated[StrictStr, Field(max_length=512)]
Whole = Annotated[int, Field(strict=True), BeforeValidator(_whole)]
Seed = Annotated[Annotated[int, Field(strict=True, ge=0, lt=2**63)], BeforeValidator(_seed)]
Rescale = Annotated[float, Field(strict=True), BeforeValidator(_whole)]
Level = Annotated[float, Field(strict=True, ge=0, le=1), BeforeValidator(_whole)]
Interval = Annotated[list[Level], Field(min_length=2, max_length=2)]
Guidance = Annotated[float, Field(strict=True, ge=0, le=MAX_GUIDANCE), BeforeValidator(_whole)]


class ImageParameters(BaseModel):
    """Fields of generations and edits."""

    model_config = ConfigDict(extra="forbid")

    prompt: Text
    model: Label | None = None
    n: Annotated[Whole, Field(ge=1)] | None = None
    size: Label | None = None
    quality: Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"] | None = (
        None
    )
    background: Literal["auto", "opaque", "transparent"] | None = None
    output_format: Literal["png", "jpeg", "webp", "gif", "svg"] | None = None
    output_compression: Annotated[Whole, Field(ge=0, le=100)] | None = None
    stream: StrictBool | None = None
    partial_images: Annotated[Whole, Field(ge=0, le=MAX_PARTIAL_IMAGES)] | None = None
    response_format: Literal["b64_json", "url"] | None = None
    moderation: Literal["auto", "low"] | None = None
    user: Label | None = None
    safety_identifier: Label | None = None
    seed: Seed | None = None
    num_inference_steps: Annotated[Whole, Field(ge=1, le=MAX_STEPS)] | None = None
    guidance_scale: Guidance | None = None
    negative_prompt: Text | None = None
    solver: Literal["euler", "ab2"] | None = None
    guidance_interval: Interval | None = None
    guidance_rescale: Annotated[Rescale, Field(ge=0, le=1)] | None = None
    metadata: Literal["full", "minimal"] | None = None
    progress: StrictBool | None = None
    preview_interval: Annotated[Whole, Field(ge=0, le=MAX_STEPS)] | None = None


class EditParameters(ImageParameters):
    """Fields of edits, without the images."""

    input_fidelity: Literal["low", "high"] | None = None


class ImageSource(BaseModel):
    """An image in the JSON form of an edit."""

    model_config = ConfigDict(extra="forbid")

    image_url: Annotated[StrictStr, Field(max_length=28_000_000)] | None = None
    file_id: Label | None = None


def _source(value: Any) -> Any:
    """An image may also come as the address alone."""
    if isinstance(value, str):
        return {"image_url": value}
    if not isinstance(value, dict | ImageSource):
        raise ValueError('an object such as {"image_url": "data:image/png;base64,..."}')
    return value


Source = Annotated[ImageSource, BeforeValidator(_source)]


class JsonEditParameters(EditParameters):
    """Fields of an edit in JSON."""

    images: Annotated[list[Source], Field(min_length=1, max_length=16)]
    mask: Source | None = None


def parse_fields(
    kind: type[ImageParameters], values: Mapping[str, Any], *, ignore_unknown: bool
) -> tuple[Any, list[str]]:
    """Fields, checked one by one, and the names of those that were ignored.

    Raises:
        ApiError: The first field that cannot be used.
    """
    known = dict(values)
    sent: dict[str, str] = {}
    for alias, name in ALIASES.items():
        if alias in known:
            sent[name] = alias
            if known.get(name) is not None:
                message = f"give either {name} or {alias}, not both"
                raise ApiError("invalid_value", message, param=alias)
            known[name] = known.pop(alias)
    for name in UNSUPPORTED:
        if known.pop(name, None) is not None:
            message = f"{name} is not supported by this model; leave it out"
            raise ApiError("unsupported_parameter", message, param=name)
    unknown = [name for name in known if name not in kind.model_fields]
    if unknown and not ignore_unknown:
        raise _unknown(unknown[0], kind)
    for name in unknown:
        del known[name]
    try:
        fields = kind.model_validate({k: v for k, v in known.items() if v is not None})
    except PydanticError as error:
        raise _explained(error, sent) from None
    return fields, [*unknown, *(name for name in IGNORED if known.get(name) is not None)]


INTERVAL_ITEM = "guidance_interval[]"


def text_values(form: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Fields of a form, whose values are texts, with numbers and truth values parsed.

    Raises:
        ApiError: A field comes twice, or is not of its type.
    """
    values: dict[str, Any] = {}
    for name, text in form:
        if name == INTERVAL_ITEM:
            # A list, as OpenAI's clients write it into a form.
            found = values.setdefault("guidance_interval", [])
            found.append(_parsed("guidance_interval", "guidance_scale", text))
            continue
        own = ALIASES.get(name, name)
        if name in values:
            raise ApiError("invalid_value", f"{shown(name)} is given twice", param=name)
        values[name] = _parsed(name, own, text)
    return values


def _parsed(name: str, own: str, text: str) -> Any:
    if own in (
        "n",
        "output_compression",
        "partial_images",
        "num_inference_steps",
        "preview_interval",
    ):
        try:
            return int(text)
        except ValueError:
            message = f"{name} must be a whole number, got {shown(text)}"
            raise ApiError("invalid_type", message, param=name) from None
    if own == "guidance_interval":
        try:
            return [float(each) for each in text.split(",")]
        except ValueError:
            message = f"{name} must be two numbers such as 0.2,0.8, got {shown(text)}"
            raise ApiError("invalid_type", message, param=name) from None
    if own in ("guidance_scale", "guidance_rescale"):
        try:
            return float(text)
        except ValueError:
            message = f"{name} must be a number, got {shown(text)}"
            raise ApiError("invalid_type", message, param=name) from None
    if own in ("stream", "progress"):
        if text.lower() not in ("true", "false"):
            message = f"{name} must be true or false, got {shown(text)}"
            raise ApiError("invalid_type", message, param=name)
        return text.lower() == "true"
    return text


def _unknown(name: str, kind: type[BaseModel]) -> ApiError:
    names = [*kind.model_fields, *ALIASES]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return ApiError("unknown_parameter", f"there is no field {shown(name)}{hint}", param=name[:100])


def _explained(error: PydanticError, sent: Mapping[str, str]) -> ApiError:
    """The first problem that pydantic found, as an error of the API.

    Args:
        error: What it found.
        sent: Names that the client used, by ours.
    """
    problem = error.errors(include_url=False)[0]
    first, *rest = (str(each) for each in problem["loc"])
    name = ".".join([sent.get(first, first), *rest])
    kind, found = problem["type"], shown(problem.get("input"))
    if kind == "missing":
        return ApiError("missing_required_parameter", f"{name} is missing", param=name)
    if kind == "extra_forbidden":
        return ApiError("unknown_parameter", f"there is no field {name}", param=name)
    if kind == "too_long":
        most = problem["ctx"]["max_length"]
        return ApiError("invalid_value", f"at most {most} {name} can be used", param=name)
    if kind == "too_short" and problem["ctx"]["min_length"] > 1:
        least = problem["ctx"]["min_length"]
        return ApiError("invalid_value", f"{name} needs {least} values, got {found}", param=name)
    if kind == "too_short":
        return ApiError("invalid_value", f"{name} is empty, expected at least one", param=name)
    if kind == "list_type":
        message = f"{name} must be a list, got {found}"
        return ApiError("invalid_type", message, param=name)
    if kind == "string_too_long":
        most = problem["ctx"]["max_length"]
        message = f"{name} is too long; {most:,} characters are the limit"
        return ApiError("string_above_max_length", message, param=name)
    expected = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    expected = expected.removeprefix("must be ")
    code = "invalid_type" if kind.endswith(("_type", "_parsing")) else "invalid_value"
    return ApiError(code, f"{name} must be {expected}, got {found}", param=name)
