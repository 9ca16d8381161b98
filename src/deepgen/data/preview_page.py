"""A data set as one page: samples with search and filters, pairs with a slider, histograms.

The page is a single file that loads nothing, which its own policy forbids as well. Texts of the
data set reach it as JSON, and its script shows them as text, never as markup.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from io import BytesIO
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from deepgen.data.dataset import QUARANTINE, DataSet, read_quarantine
from deepgen.data.randomness import key_of, permuted
from deepgen.data.records import UNKNOWN_LANGUAGE, ImageRef, Record
from deepgen.errors import DataError, ImageError
from deepgen.images.io import decode_image

MAX_BYTES = 32 << 20
"""Of the images in the page; browsers take seconds for more."""

MOST_QUARANTINED = 500

QUALITY = 80

LONGEST_TEXT = 2000
"""Characters of a prompt in the page."""

MOST_BARS = 12

SIZES = ((256, "below 256 px"), (512, "256 to 511 px"), (1024, "512 to 1023 px"))
LARGEST = "1024 px and more"

LENGTHS = ((50, "below 50"), (100, "50 to 99"), (200, "100 to 199"), (400, "200 to 399"))
LONGEST = "400 and more"

Bars = list[tuple[str, int, float]]
"""Label, count, and width in percent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """The page, and how much of the data set it has."""

    html: str
    shown: int
    total: int


def preview_page(
    data: DataSet,
    *,
    count: int = 200,
    seed: int = 0,
    side: int = 384,
    faults: Mapping[int, Sequence[str]] | None = None,
    max_bytes: int = MAX_BYTES,
    watch: Callable[[], None] = lambda: None,
) -> Page:
    """The page of a data set; larger sets are shown in part, and the page says so.

    Of a mixture only samples that it uses are shown and counted.

    Args:
        count: Samples shown at most, chosen by the seed.
        side: Pixels of the longer side of an image in the page.
        faults: What else is wrong with a sample, by row.
        max_bytes: Where the samples end, counted in bytes of images.
        watch: Called after each sample.
    """
    used = np.flatnonzero(data.used)
    table = data.table.take(used) if len(used) < len(data) else data.table
    count = min(count, len(used))
    rows = used[permuted(np.arange(count), len(used), key_of(seed, "preview"))]
    shown: list[dict[str, Any]] = []
    size = 0
    for row in rows.tolist():
        sample = _sample(data, row, side, list((faults or {}).get(row, ())))
        size += sum(len(each) for each in (sample["target"], *sample["references"]))
        if size > max_bytes and shown:
            break
        shown.append(sample)
        watch()
    folders = [part.folder for part, _ in data.parts if (part.folder / QUARANTINE).is_file()]
    bad = [row for folder in folders for row in read_quarantine(folder)]
    listed = [_quarantined(each) for each in islice(bad, MOST_QUARANTINED)]
    script = _asset("preview.js")
    environment = Environment(
        loader=PackageLoader("deepgen.data", "assets"), autoescape=True, undefined=StrictUndefined
    )
    html = environment.get_template("preview.html").render(
        name=data.manifest.name,
        total=len(used),
        quarantined=len(bad),
        shown=len(shown),
        listed=len(listed),
        histograms=list(_histograms(table)),
        samples=_embedded([*shown, *listed]),
        style=_asset("preview.css"),
        script=script,
        script_hash=base64.b64encode(sha256(script.encode()).digest()).decode(),
    )
    return Page(html=html, shown=len(shown), total=len(used))


def _asset(name: str) -> str:
    return (files("deepgen.data") / "assets" / name).read_text(encoding="utf-8")


def _embedded(values: Any) -> str:
    """JSON within an element: nothing in it can end the element or begin another."""
    text = json.dumps(values, ensure_ascii=True)
    for each in "<>&":
        text = text.replace(each, f"\\u{ord(each):04x}")
    return text


def _sample(data: DataSet, row: int, side: int, faults: list[str]) -> dict[str, Any]:
    """What the page shows of a sample; one that cannot be read is shown with its fault."""
    message = ""
    try:
        record = data.record(row)
    except DataError as error:
        return _quarantined({"sample_id": f"row {row}", "reason": "row", "message": str(error)})
    images = []
    try:
        for each in record.images:
            images.append(_thumbnail(data, each, side))
    except ImageError as error:
        images, message = [], str(error)
        faults = [*faults, error.reason]
    except OSError as error:
        images, message = [], str(error.strerror)
        faults = [*faults, "io"]
    return {
        "id": record.sample_id,
        "source": record.source,
        "task": record.task,
        "size": _class(min(record.target.width, record.target.height), SIZES, LARGEST),
        "licence": record.licence,
        "faults": faults,
        "message": message,
        "prompts": [
            {"text": each.text[:LONGEST_TEXT], "kind": each.kind, "lang": each.lang}
            for each in record.prompts
        ],
        "render_text": record.render_text,
        "facts": list(_facts(record)),
        "target": images[0] if images else "",
        "references": images[1:],
    }


def _quarantined(row: Mapping[str, str]) -> dict[str, Any]:
    source = row["sample_id"].partition("/")[0]
    return {
        "id": row["sample_id"],
        "source": source,
        "task": "",
        "size": "",
        "licence": "",
        "faults": [row["reason"]],
        "message": row["message"],
        "prompts": [],
        "render_text": [],
        "facts": [row["sample_id"], "in quarantine: not part of the data set"],
        "target": "",
        "references": [],
    }


def _facts(record: Record) -> Iterator[str]:
    sizes = [f"{each.width} x {each.height}" for each in record.images]
    arrow = f" from {', '.join(sizes[1:])}" if sizes[1:] else ""
    yield record.sample_id
    yield f"{record.task}, {sizes[0]}{arrow}, {record.target.format}, {record.split}"
    may = "" if record.redistributable else ", not marked as redistributable"
    yield f"licence {record.licence}{may}"
    yield f"skills {', '.join(record.skills)}"
    if record.reasoning:
        yield f"reasoning: {record.reasoning[:LONGEST_TEXT]}"


def _thumbnail(data: DataSet, image: ImageRef, side: int) -> str:
    """A reduced image as an address that contains it."""
    found = decode_image(data.read(image), name=f"the image at byte {image.offset}")
    found.thumbnail((side, side), Image.Resampling.LANCZOS)
    content = BytesIO()
    found.save(content, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"


def _histograms(table: pa.Table) -> Iterator[tuple[str, Bars]]:
    """Counts over all rows; nothing is decoded."""
    target = table["target"]
    widths, heights = pc.struct_field(target, "width"), pc.struct_field(target, "height")
    yield (
        "Shorter side of targets",
        _classes(pc.min_element_wise(widths, heights).to_numpy(), SIZES, LARGEST),
    )
    prompts = pc.list_flatten(table["prompts"])
    texts = pc.struct_field(prompts, "text")
    lengths = pc.utf8_length(texts).to_numpy()
    yield "Characters of prompts", _classes(lengths, LENGTHS, LONGEST)
    languages = pc.struct_field(prompts, "lang")
    is_stated = pc.not_equal(languages, UNKNOWN_LANGUAGE)
    scripts = pc.if_else(
        pc.match_substring_regex(texts, r"\p{Han}"), "not stated, Chinese", "not stated"
    )
    yield "Languages of prompts", _counted(pc.if_else(is_stated, languages, scripts))
    for title, column in (("Tasks", "task"), ("Sources", "source"), ("Licences", "licence")):
        yield title, _counted(table[column])
    yield "Skills", _counted(pc.list_flatten(table["skills"]))


def _class(value: int, limits: Sequence[tuple[int, str]], last: str) -> str:
    return next((label for limit, label in limits if value < limit), last)


def _classes(values: Any, limits: Sequence[tuple[int, str]], last: str) -> Bars:
    places = np.searchsorted([limit for limit, _ in limits], values, side="right")
    counts = np.bincount(places, minlength=len(limits) + 1).tolist()
    return _bars(list(zip([*(label for _, label in limits), last], counts, strict=True)))


def _counted(column: Any) -> Bars:
    found = pc.value_counts(column).to_pylist()
    counts = sorted(((str(e["values"]), e["counts"]) for e in found), key=lambda e: (-e[1], e[0]))
    rest = sum(count for _, count in counts[MOST_BARS:])
    return _bars([*counts[:MOST_BARS], *([("others", rest)] if rest else [])])


def _bars(counts: list[tuple[str, int]]) -> Bars:
    most = max((count for _, count in counts), default=0) or 1
    return [(label, count, round(100 * count / most, 2)) for label, count in counts]
