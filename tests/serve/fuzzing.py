"""Random requests made from the schema of the fields, most of them wrong in one place or several.

``tests/serve/test_fuzzing.py`` sends a hundred of them, ``perf/serve_fuzz.py`` thousands.
"""

from __future__ import annotations

import base64
import json
import random
import time
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import httpx2
from PIL import Image

from deepgen.serve.errors import KINDS
from deepgen.serve.schemas import ALIASES, UNSUPPORTED, JsonEditParameters

SCHEMA = JsonEditParameters.model_json_schema()["properties"]

MOST_SECONDS = 2.0

NASTY: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1.5,
    2**63,
    -(2**70),
    1e308,
    "",
    " ",
    "\0",
    "\ud7ff\uffff",
    "1",
    "0x10",
    "true",
    "null",
    "../../etc/passwd",
    "a" * 40_000,
    "9" * 5000,
    [],
    [[]],
    [None],
    {},
    {"a": {"b": []}},
    {"$ref": "#"},
)


def _png() -> bytes:
    content = BytesIO()
    Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save(content, format="PNG")
    return content.getvalue()


PNG = _png()

URLS = (
    "data:image/png;base64," + base64.b64encode(PNG).decode(),
    "data:image/png;base64,####",
    "data:image/png;base64," + base64.b64encode(PNG[:60]).decode(),
    "data:text/html,<script>",
    "http://127.0.0.1/",
    "file:///etc/passwd",
    "",
)


@dataclass(frozen=True)
class Case:
    """A request."""

    path: str
    content: bytes
    content_type: str


def make_case(rng: random.Random) -> Case:
    """One request, JSON or multipart, to either endpoint."""
    is_edit = rng.random() < 0.5
    values: dict[str, Any] = {"prompt": "a cat"} if rng.random() < 0.9 else {}
    if is_edit:
        values["images"] = [{"image_url": URLS[0]}]
    for _ in range(rng.choice((0, 1, 1, 2, 5))):
        name = _name(rng)
        values[name] = _value(name, rng)
    if is_edit and rng.random() < 0.5:
        return Case("edits", *_multipart(values, rng))
    content = json.dumps(values).encode()
    if rng.random() < 0.1:
        content = _damaged(content, rng)
    return Case("edits" if is_edit else "generations", content, "application/json")


def _name(rng: random.Random) -> str:
    names: list[str] = [*SCHEMA, *ALIASES, *UNSUPPORTED]
    name: str = rng.choice(names)
    if rng.random() < 0.1:
        position = rng.randrange(len(name) + 1)
        return (
            name[:position] + rng.choice(("", "x", "[]", ".", "\n", "é", "[a]")) + name[position:]
        )
    return name


def _value(name: str, rng: random.Random) -> Any:
    """Of the kind that the schema asks for, at its limits, or anything else."""
    if rng.random() < 0.3:
        return rng.choice(NASTY)
    if name == "size":
        sides = ("auto", "64x64", "96x64", "65x64", "1x1", "99999x99999", "x", "64X64", "-64x64")
        return rng.choice(sides)
    if name in ("images", "mask"):
        source = {rng.choice(("image_url", "image_url", "file_id", "url")): rng.choice(URLS)}
        return [source] * rng.choice((0, 1, 2, 17)) if name == "images" else source
    schema = SCHEMA.get(ALIASES.get(name, name), {})
    kinds = schema.get("anyOf", [schema])
    kind = rng.choice(kinds)
    if "enum" in kind:
        return rng.choice(kind["enum"])
    if kind.get("type") in ("integer", "number"):
        low, high = kind.get("minimum", 0), kind.get("maximum", 30)
        return rng.choice((low - 1, low, low + 1, (low + high) // 2, high, high + 1))
    if kind.get("type") == "boolean":
        return rng.random() < 0.5
    if kind.get("type") == "string":
        most = kind.get("maxLength", 100)
        return rng.choice(("a", "é" * 10, "a" * most, "a" * (most + 1), "a\u202eb"))
    return rng.choice(NASTY)


def _multipart(values: dict[str, Any], rng: random.Random) -> tuple[bytes, str]:
    """A form; images are files in it."""
    boundary = rng.choice(("x", "-" * 60, "a b"))
    parts = []
    for name, value in values.items():
        if name == "images":
            for _ in range(rng.choice((0, 1, 2))):
                field = rng.choice(("image", "image[]", "image", "file"))
                disposition = f'form-data; name="{field}"; filename="../a"'
                parts.append((disposition, rng.choice((PNG, PNG, PNG[:50], b""))))
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            field = name.replace("\n", "%0A").replace('"', "%22")
            parts.append((f'form-data; name="{field}"', text.encode("utf-8", "replace")))
    rng.shuffle(parts)
    body = b"".join(
        f"--{boundary}\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + data + b"\r\n"
        for disposition, data in parts
    )
    body += f"--{boundary}--\r\n".encode()
    if rng.random() < 0.2:
        body = _damaged(body, rng)
    return body, f'multipart/form-data; boundary="{boundary}"'


def _damaged(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 3))):
        if changed:
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed[: rng.choice((len(changed), rng.randrange(len(changed) + 1)))])


def complaint(url: str, case: Case, client: httpx2.Client) -> tuple[int, str | None]:
    """The status of a case's answer, and what is wrong with the answer; None if nothing is."""
    started = time.monotonic()
    headers = {"content-type": case.content_type}
    found = client.post(f"{url}/v1/images/{case.path}", content=case.content, headers=headers)
    seconds = time.monotonic() - started
    status = found.status_code
    if status >= 500:
        return status, f"status {status}: {found.text[:300]}"
    if seconds > MOST_SECONDS:
        return status, f"took {seconds:.1f} s"
    if status == 200:
        return status, None
    try:
        error = found.json()["error"]
    except (ValueError, KeyError):
        return status, f"status {status} without an error object: {found.text[:300]}"
    if set(error) != {"message", "type", "param", "code"} or error["code"] not in KINDS:
        return status, f"an error object with {error}"
    if KINDS[error["code"]].status != status:
        return status, f"{error['code']} with status {status}"
    if "ImageSource" in error["message"] or len(error["message"]) > 600:
        return status, f"message {error['message'][:700]!r}"
    return status, None
