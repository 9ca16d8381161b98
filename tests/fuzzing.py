"""Damaged inputs by the thousand: each target makes one case from a seed and reads it.

A case passes if it is read, or refused by one of the target's errors. ``tests/test_fuzzing.py``
runs some hundred cases of each; ``perf/fuzz.py`` any number, with bounds on time and memory.
"""

from __future__ import annotations

import io
import json
import random
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from pydantic import ValidationError
from safetensors.numpy import save

from deepgen.checkpoint.configs import (
    check_depths,
    check_vae_size,
    read_bridge,
    read_defaults,
    read_dit,
    read_provenance,
    read_rope_precision,
    read_schedule,
)
from deepgen.checkpoint.files import CONFIG_NAMES, ModelFolder
from deepgen.checkpoint.headers import read_header
from deepgen.checkpoint.tokenizer_files import check_tokenizer
from deepgen.conditioning.prompts import PromptTemplate
from deepgen.data.importers.table import TableSource
from deepgen.data.records import ImageRef
from deepgen.data.shards import read_bytes
from deepgen.errors import LONGEST_MESSAGE, CheckpointError, DataError, ImageError
from deepgen.images.io import decode_image
from deepgen.reading import parse_json, parse_yaml
from deepgen.scoring import parsing

MINI = Path(__file__).parents[1] / "src" / "deepgen" / "mini" / "assets"

ODD_BYTES = (b"\0", b"\xff", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\1", b"\x80\0\0\0")

ODD_TEXTS = (
    *"[]{}\":,\\#&*!|>-?%@`'\n\t\0\ufeff", "[" * 300, "{\"a\":" * 300, "- " * 200, "&a [*a]",
    "<<: ", "!!float ''", "!!binary ", "1" * 5000,
    "1e999", "NaN", "-Infinity", "\ud800", "\\ud800", "null", "\u2028", "true", "0x", "2001-99-99",
)  # fmt: skip

ODD_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1, 2, 255, 10**9, 2**31, 2**63, 10**38, 10**400, -(10**18), 0.5, -0.0,
    1e-300, 1e300, float("nan"), float("inf"), "", "x", "x" * 100_000, "\ud800", [], {}, [[]],
    [1] * 10_000, {"a": 1}, [None], {"": {}},
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """What is read, and how it may be refused."""

    read: Callable[[random.Random, Path], object]
    refusals: tuple[type[Exception], ...]


def mutated(rng: random.Random, data: bytes, pieces: tuple[bytes, ...] = ODD_BYTES) -> bytes:
    """Content with a few changes: bits, pieces, repetitions, cuts."""
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        place = rng.randrange(len(content) + 1)
        # Headers, which are short, are where most decisions are made.
        if rng.random() < 0.5:
            place = min(place, rng.randrange(64))
        kind = rng.randrange(6)
        if kind == 0 and place < len(content):
            content[place] ^= 1 << rng.randrange(8)
        elif kind == 1 and place < len(content):
            content[place] = rng.randrange(256)
        elif kind == 2:
            piece = rng.choice(pieces)
            content[place : place + len(piece)] = piece
        elif kind == 3:
            content[place:place] = rng.choice(pieces)
        elif kind == 4:
            end = min(len(content), place + rng.randrange(1, 64))
            content[place:place] = content[place:end] * rng.choice((1, 2, 50))
        elif rng.random() < 0.3:
            del content[place:]
    return bytes(content)


def mutated_text(rng: random.Random, text: str) -> str:
    """A text with a few changes; lone surrogates as in no file."""
    pieces = tuple(each.encode("utf-8", "surrogatepass") for each in ODD_TEXTS)
    return mutated(rng, text.encode(), pieces).decode("utf-8", "replace")


def mutated_values(rng: random.Random, values: Any) -> Any:
    """Plain values with one replaced, removed or added somewhere."""
    if isinstance(values, dict) and values and rng.random() < 0.9:
        name = rng.choice(sorted(values))
        if rng.random() < 0.1:
            return {key: value for key, value in values.items() if key != name}
        return {**values, name: mutated_values(rng, values[name])}
    if isinstance(values, list) and values and rng.random() < 0.5:
        place = rng.randrange(len(values))
        return [*values[:place], mutated_values(rng, values[place]), *values[place + 1 :]]
    return rng.choice(ODD_VALUES)


@cache
def images() -> tuple[bytes, ...]:
    """A small image in every format and most modes that are read."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (24, 31, 4), dtype=np.uint8))
    deep = Image.fromarray(rng.integers(0, 1 << 16, (24, 31), dtype=np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    modes = {
        "PNG": ("1", "L", "LA", "P", "RGB", "RGBA"),
        "TIFF": ("1", "L", "P", "RGB", "RGBA", "CMYK", "LAB"),
        "JPEG": ("L", "RGB", "CMYK"),
        "WEBP": ("RGB", "RGBA"),
        "AVIF": ("RGB", "RGBA"),
        "GIF": ("L", "P"),
        "BMP": ("1", "L", "P", "RGB", "RGBA"),
        "PPM": ("1", "L", "RGB"),
        "ICO": ("RGBA",),
    }
    found = []
    for kind, names in modes.items():
        for mode in names:
            converted = image.convert("RGB").convert(mode) if mode == "LAB" else image.convert(mode)
            options: list[dict[str, Any]] = [{}]
            if kind == "JPEG":
                options += [{"progressive": True}, {"exif": exif.tobytes()}]
            if kind == "TIFF":
                options += [{"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"}]
            if kind in ("GIF", "WEBP"):
                frames = [converted.transpose(Image.Transpose.ROTATE_180)]
                options += [{"save_all": True, "append_images": frames}]
            for each in options:
                content = io.BytesIO()
                converted.save(content, format=kind, **each)
                found.append(content.getvalue())
    for kind in ("PNG", "TIFF", "PPM"):
        content = io.BytesIO()
        deep.save(content, format=kind)
        found.append(content.getvalue())
    return (*found, b"P3\n# text\n2 2\n255\n" + b"9 " * 12, b"P1\n3 2\n101 010\n")


def image_case(rng: random.Random, folder: Path) -> object:
    """Decode a damaged image."""
    with warnings.catch_warnings(action="ignore"):
        return decode_image(mutated(rng, rng.choice(images())))


JSON_TEXT = json.dumps({"a": [1, 2.5, "text", None, True, {"b": {"c": []}}], "\u00e9": -1e-7})


def json_case(rng: random.Random, folder: Path) -> object:
    """Parse a damaged JSON text."""
    return parse_json(mutated_text(rng, JSON_TEXT))


YAML_TEXT = """
# settings
steps: 100
optimizer: {lr: 1.0e-4, betas: [0.9, 0.95]}
data:
  folder: "a b"
  prompts: |
    several
    lines
  when: 2001-01-01
"""


def yaml_case(rng: random.Random, folder: Path) -> object:
    """Parse a damaged YAML text."""
    return parse_yaml(mutated_text(rng, YAML_TEXT))


@cache
def weights() -> bytes:
    """A small safetensors file."""
    tensors: dict[str, Any] = {"a.weight": np.ones((3, 4), np.float32), "b": np.ones(5, np.float16)}
    return save(tensors, {"format": "pt"})


def header_case(rng: random.Random, folder: Path) -> object:
    """Read a damaged header of weights."""
    path = folder / "w.safetensors"
    path.write_bytes(mutated(rng, weights()))
    return read_header(path)


@cache
def configurations() -> Mapping[str, tuple[dict[str, Any], int]]:
    """The mini's configurations, and how many tensors each component has."""
    model = ModelFolder(MINI)
    files = {**CONFIG_NAMES, "prompt": "", "index": "", "tokens": ""}
    found: dict[str, tuple[dict[str, Any], int]] = {}
    for name in files:
        path = {
            "prompt": "prompt_template.json",
            "index": "model_index.json",
            "tokens": "tokenizer/tokenizer.json",
        }.get(name) or f"{name}/{CONFIG_NAMES[name]}"
        has_weights = name in ("transformer", "vae", "vlm", "connector")
        found[name] = (model.json(path), len(model.stored(name)) if has_weights else 0)
    return found


def configuration_case(rng: random.Random, folder: Path) -> object:
    """Read a damaged configuration; models are built from those only that pass."""
    name = rng.choice(sorted(configurations()))
    values, tensors = configurations()[name]
    values = mutated_values(rng, values)
    path = folder / "model" / "tokenizer" / "tokenizer.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    (folder / "model" / "model_index.json").write_text("{}")
    path.write_text(json.dumps(values), encoding="utf-8")
    model = ModelFolder(folder / "model")
    if name == "tokens":
        check_tokenizer(model)
        return None
    values = model.json("tokenizer/tokenizer.json")
    if name in ("transformer", "vae", "vlm"):
        check_depths(values, tensors, name)
    readers: dict[str, Callable[[], object]] = {
        "transformer": lambda: read_dit(values),
        "vae": lambda: check_vae_size(values, tensors, name),
        "connector": lambda: (
            read_rope_precision(values),
            read_bridge(values, ModelFolder(MINI).stored("connector")),
        ),
        "scheduler": lambda: read_schedule(values),
        "index": lambda: (read_defaults(values), read_provenance(values)),
        "prompt": lambda: PromptTemplate.from_json(values),
    }
    return readers[name]() if name in readers else None


ROWS = [
    {"image": "a.png", "txt": f"caption {n}", "id": f"row{n}", "skills": '["a"]'} for n in "123"
]


@cache
def tables() -> Mapping[str, bytes]:
    """A small table in every format."""
    parquet = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), parquet)
    names = list(ROWS[0])
    lines = "".join(json.dumps(each) + "\n" for each in ROWS)
    csv = "\n".join([",".join(names), *(",".join(each.values()) for each in ROWS)])
    return {
        "t.jsonl": lines.encode(),
        "t.json": json.dumps(ROWS).encode(),
        "t.csv": csv.encode(),
        "t.tsv": csv.replace(",", "\t").encode(),
        "t.parquet": parquet.getvalue(),
    }


def table_case(rng: random.Random, folder: Path) -> object:
    """Import a damaged table's rows."""
    name = rng.choice(sorted(tables()))
    pieces = tuple(each.encode("utf-8", "surrogatepass") for each in ODD_TEXTS)
    if rng.random() < 0.3 and name in ("t.json", "t.jsonl"):
        rows = [mutated_values(rng, each) for each in ROWS]
        text = json.dumps(rows) if name == "t.json" else "\n".join(map(json.dumps, rows))
        (folder / name).write_text(text)
    else:
        (folder / name).write_bytes(mutated(rng, tables()[name], pieces + ODD_BYTES))
    return list(TableSource(folder / name).rows())


def tar_case(rng: random.Random, folder: Path) -> object:
    """Read and decode a member of a shard whose index and bytes are damaged."""
    images_of_shard = b"".join(images()[:4])
    (folder / "s-000000.tar").write_bytes(mutated(rng, images_of_shard))
    values = {
        "shard": "s-000000.tar", "offset": 0, "length": len(images()[0]), "format": "PNG",
        "width": 31, "height": 24, "exif_orientation": 1, "mode": "1", "hash": "0",
    }  # fmt: skip
    values |= {"offset": rng.choice((0, 1, 10**6, 2**62)), "length": rng.choice((1, 800, 2**40))}
    if rng.random() < 0.5:
        values = mutated_values(rng, values)
    ref = ImageRef.model_validate(values)
    with warnings.catch_warnings(action="ignore"):
        return decode_image(read_bytes(folder, ref))


REPLIES = (
    "<analysis>['a', 'b']</analysis><score>[1, 0]</score>",
    '{"score": [5, 7], "reasoning": "good"}',
    "Brief reasoning: fine\nPrompt Compliance: 5\nVisual Naturalness: 4\nIntegrity: 3",
    "**Consistency**: 2\n**Realism**: 1\n**Aesthetic Quality**: 0",
    "<think>hm</think> Final Score: 3, 4",
    "Yes",
    "[4, 5]",
)


def reply_case(rng: random.Random, folder: Path) -> object:
    """Parse a damaged reply by every parser; none of them may raise anything."""
    reply = mutated_text(rng, rng.choice(REPLIES))
    return (
        parsing.parse_check_points(reply, 2),
        parsing.parse_viescore(reply),
        parsing.criterion_lines(reply),
        parsing.parse_criteria(reply),
        parsing.parse_wise_legacy(reply),
        parsing.parse_wise_verified(reply),
        parsing.parse_yes_no(reply),
        parsing.parse_rise(reply, range(1, 6)),
        parsing.parse_uniredit(reply),
    )


TARGETS: Mapping[str, Target] = {
    "images": Target(image_case, (ImageError,)),
    "json": Target(json_case, (ValueError,)),
    "yaml": Target(yaml_case, (ValueError,)),
    "safetensors headers": Target(header_case, (CheckpointError,)),
    "configurations": Target(configuration_case, (CheckpointError, ValueError)),
    "tables": Target(table_case, (DataError,)),
    "tar members": Target(tar_case, (ImageError, ValidationError)),
    "judge replies": Target(reply_case, ()),
}


def run_case(name: str, seed: int, folder: Path) -> str | None:
    """Run one case; what went wrong, or None."""
    target = TARGETS[name]
    try:
        target.read(random.Random(f"{name} {seed}"), folder)
    except target.refusals as error:
        if len(str(error)) > LONGEST_MESSAGE:
            return f"an error of {len(str(error))} characters: {str(error)[:100]}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return None
