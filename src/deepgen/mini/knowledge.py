"""What the mini's world knows about its objects: drawing, names, kinds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectFacts:
    """One kind of object."""

    code: str
    """OpenMoji file name, without ending."""
    fills: tuple[str, str] | None = None
    """(light, dark) fill of the part that a tint replaces; None where the drawing has no such part."""


OBJECTS: dict[str, ObjectFacts] = {
    "dog": ObjectFacts(code="1F436"),
    "cat": ObjectFacts(code="1F431"),
    "pig": ObjectFacts(code="1F437"),
    "panda": ObjectFacts(code="1F43C"),
    "fox": ObjectFacts(code="1F98A"),
    "frog": ObjectFacts(code="1F438"),
    "fish": ObjectFacts(code="1F41F"),
    "octopus": ObjectFacts(code="1F419"),
    "turtle": ObjectFacts(code="1F422"),
    "penguin": ObjectFacts(code="1F427"),
    "apple": ObjectFacts(code="1F34E"),
    "banana": ObjectFacts(code="1F34C"),
    "grapes": ObjectFacts(code="1F347"),
    "strawberry": ObjectFacts(code="1F353"),
    "carrot": ObjectFacts(code="1F955"),
    "mushroom": ObjectFacts(code="1F344"),
    "tree": ObjectFacts(code="1F332"),
    "cactus": ObjectFacts(code="1F335"),
    "car": ObjectFacts(code="1F697"),
    "rocket": ObjectFacts(code="1F680"),
    "house": ObjectFacts(code="1F3E0"),
    "umbrella": ObjectFacts(code="2602"),
    "star": ObjectFacts(code="2B50"),
    "heart": ObjectFacts(code="2764"),
}
