"""Whether an image shows what a GenEval prompt asks for, decided from detections.

The rules of GenEval (arXiv 2310.11513) as its scorer applies them, over any detector that gives
classes, boxes and confidences. Reasons are worded as in published result files, so that stored
rows can be checked against a decision made here.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from deepgen.errors import BenchmarkError
from deepgen.eval.benchmark import Json, Number
from deepgen.reading import parse_json
from deepgen.scoring.detection import Mask

COLORS = (
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple",
    "pink",
    "brown",
    "black",
    "white",
)

CONFIDENCE = 0.3
COUNTING_CONFIDENCE = 0.9
"""Counting needs a surer detector, because every false object changes the number."""

MOST_OBJECTS = 16
"""Per class; the most confident ones are kept."""

# Boxes may overlap by this fraction of their summed sizes before an offset counts.
OVERLAP_TOLERANCE = 0.1
NO_OFFSET = 1e-3
# Of the way along an axis: beyond it, a direction is named. A diagonal neighbour has two names.
DIRECTION = 0.5

Box = tuple[Number, Number, Number, Number]
"""(left, top, right, bottom), in pixels."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Detection:
    """One object that a detector found, by GenEval's name of its class."""

    label: str
    box: Box
    confidence: Number
    mask: Mask | None = None
    """Its pixels, where the detector gives them."""


ColorReader = Callable[[str, Sequence[Detection]], Sequence[str]]
"""From a class and some objects of it to one of the ten colours for each."""


def find_faults(
    metadata: Mapping[str, Json], detections: Iterable[Detection], read_colors: ColorReader
) -> tuple[str, ...]:
    """A reason for every clause of a prompt that fails; none where the image is correct.

    Args:
        metadata: The prompt's line: ``tag``, ``include`` and perhaps ``exclude``.
        detections: In any order and of any confidence.
        read_colors: Asked only about objects whose colour a clause names.
    """
    objects = keep_confident(detections, tag=metadata["tag"])
    reasons: list[str] = []
    # Of each clause, the objects that meet it; None once it failed, which leaves no target.
    met: list[list[Detection] | None] = []
    for clause in metadata.get("include", ()):
        found = objects.get(clause["class"], [])[: clause["count"]]
        reason = _count_reason(clause, found) or _color_reason(clause, found, read_colors)
        if reason is None and "position" in clause:
            reason = _position_reason(clause, found, met)
        met.append(found if reason is None else None)
        reasons += [] if reason is None else [reason]
    for clause in metadata.get("exclude", ()):
        number = len(objects.get(clause["class"], []))
        if number >= clause["count"]:
            reasons.append(f"expected {clause['class']}<{clause['count']}, found {number}")
    return tuple(reasons)


def keep_confident(detections: Iterable[Detection], *, tag: str) -> dict[str, list[Detection]]:
    """Per class the objects that count, most confident first; overlapping ones all stay."""
    threshold = COUNTING_CONFIDENCE if tag == "counting" else CONFIDENCE
    kept: dict[str, list[Detection]] = {}
    for each in sorted(detections, key=lambda detection: -detection.confidence):
        if each.confidence > threshold and len(kept.setdefault(each.label, [])) < MOST_OBJECTS:
            kept[each.label].append(each)
    return kept


def relations(first: Box, second: Box) -> frozenset[str]:
    """How the first box lies to the second: ``left of``, ``right of``, ``above``, ``below``.

    Per axis, with centres a and b and sizes s_a and s_b::

        offset    = a - b
        revised   = sign(offset) * max(|offset| - 0.1 * (s_a + s_b), 0)
        direction = revised / |offset as a vector|
    """
    offsets, revised = [], []
    for low, high in ((0, 2), (1, 3)):
        offset = (first[low] + first[high]) / 2 - (second[low] + second[high]) / 2
        sizes = abs(first[high] - first[low]) + abs(second[high] - second[low])
        offsets.append(offset)
        revised.append(math.copysign(max(abs(offset) - OVERLAP_TOLERANCE * sizes, 0.0), offset))
    if all(abs(each) < NO_OFFSET for each in revised):
        return frozenset()
    x, y = (each / math.hypot(*offsets) for each in revised)
    named = {
        "left of": x < -DIRECTION,
        "right of": x > DIRECTION,
        "above": y < -DIRECTION,
        "below": y > DIRECTION,
    }
    return frozenset(name for name, holds in named.items() if holds)


def _count_reason(clause: Mapping[str, Json], found: Sequence[Detection]) -> str | None:
    if len(found) >= clause["count"]:
        return None
    return f"expected {clause['class']}>={clause['count']}, found {len(found)}"


def _color_reason(
    clause: Mapping[str, Json], found: Sequence[Detection], read_colors: ColorReader
) -> str | None:
    if "color" not in clause:
        return None
    counted = Counter(read_colors(clause["class"], found))
    wanted = clause["color"]
    if counted[wanted] >= clause["count"]:
        return None
    others = ", ".join(f"{counted[color]} {color}" for color in COLORS if counted[color])
    return (
        f"expected {wanted} {clause['class']}>={clause['count']}, "
        f"found {counted[wanted]} {wanted}; and {others}"
    )


def _position_reason(
    clause: Mapping[str, Json],
    found: Sequence[Detection],
    met: Sequence[list[Detection] | None],
) -> str | None:
    """The first pair of object and target for which the relation does not hold."""
    wanted, target = clause["position"]
    targets = met[target]
    if targets is None:
        return f"no target for {clause['class']} to be {wanted}"
    for each in found:
        for other in targets:
            named = relations(each.box, other.box)
            if wanted not in named:
                listed = " and ".join(sorted(named))
                return f"expected {clause['class']} {wanted} target, found {listed} target"
    return None


_COLOR_REASON = re.compile(r"expected (\w+) (.+)>=\d+, found \d+ \1; and (.*)")


def parse_stored_row(row: Json, place: str) -> tuple[list[Detection], ColorReader | None]:
    """Detections of a stored row, and its colours where the row has a verdict that tells them.

    Raises:
        BenchmarkError: The row is in another form.
    """
    try:
        detections = _stored_detections(row)
        if "metadata" not in row or "reason" not in row:
            return detections, None
        return detections, _stored_colors(parse_json(row["metadata"]), row["reason"])
    except (KeyError, TypeError, ValueError, AttributeError) as cause:
        raise BenchmarkError(
            f"{place}: no row with the detections of an image ({type(cause).__name__}: {cause})"
        ) from cause


def _stored_detections(row: Mapping[str, Json]) -> list[Detection]:
    details = row["details"]
    # The official scorer stores JSON inside JSON.
    boxes_of = parse_json(details) if isinstance(details, str) else details
    return [
        Detection(label=label, box=(left, top, right, bottom), confidence=confidence)
        for label, boxes in boxes_of.items()
        for left, top, right, bottom, confidence in boxes
    ]


def _stored_colors(metadata: Mapping[str, Json], reasons: str) -> ColorReader:
    """Reads colours off a stored verdict: wrong ones are named in it, all others were right."""
    colors = {
        clause["class"]: [clause["color"]] * clause["count"]
        for clause in metadata["include"]
        if "color" in clause
    }
    for reason in reasons.split("\n"):
        if match := _COLOR_REASON.fullmatch(reason):
            listed = (each.split(" ") for each in match[3].split(", "))
            colors[match[2]] = [color for number, color in listed for _ in range(int(number))]
    return lambda label, objects: colors[label]
