"""Where the items of a scene are: their edges, and the relation of two of them."""

from __future__ import annotations

from itertools import combinations
from typing import Literal, NamedTuple, get_args

from deepgen.mini.world.lettering import aspect
from deepgen.mini.world.scene import Item, Scene, Thing

Relation = Literal["left of", "right of", "above", "below"]

RELATIONS: tuple[Relation, ...] = get_args(Relation)
OPPOSITE: dict[Relation, Relation] = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
}


class Edges(NamedTuple):
    """Edges of an item in pixels; bottom and right lie just outside."""

    top: float
    left: float
    bottom: float
    right: float


def box(item: Item, height: int, width: int) -> Edges:
    """The square that holds a drawing, or the edges of a word, on such a canvas."""
    tall = item.size * min(height, width)
    wide = tall if isinstance(item, Thing) else tall * aspect(item.text)
    y, x = item.center[0] * height, item.center[1] * width
    return Edges(y - tall / 2, x - wide / 2, y + tall / 2, x + wide / 2)


def is_tidy(scene: Scene) -> bool:
    """Whether every item lies inside the canvas and none overlaps another."""
    boxes = [box(item, scene.height, scene.width) for item in scene.items]
    inside = all(
        edges.top >= 0
        and edges.left >= 0
        and edges.bottom <= scene.height
        and edges.right <= scene.width
        for edges in boxes
    )
    return inside and not any(_overlap(one, other) for one, other in combinations(boxes, 2))


def relation(first: Item, second: Item, scene: Scene) -> Relation | None:
    """Relation of the first item to the second; None where no word fits, as on a diagonal."""
    down = (second.center[0] - first.center[0]) * scene.height
    right = (second.center[1] - first.center[1]) * scene.width
    # Within about 27 degrees of an axis "left of" and "above" are unambiguous.
    if abs(right) >= 2 * abs(down) and right:
        return "left of" if right > 0 else "right of"
    if abs(down) >= 2 * abs(right) and down:
        return "above" if down > 0 else "below"
    return None


def _overlap(one: Edges, other: Edges) -> bool:
    return (
        one.top < other.bottom
        and other.top < one.bottom
        and one.left < other.right
        and other.left < one.right
    )
