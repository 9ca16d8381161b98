"""What a prompt of the mini's world asks for, as JSON, to go with it through files and HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from deepgen.mini.world.scene import Item, Scene, Thing, Word


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneRequest:
    """A scene, and the kind of its prompt, which decides what of the scene was said."""

    kind: str
    """One of ``sampling.KINDS``."""
    target: Scene

    def to_json(self) -> dict[str, Any]:
        """Strings, numbers, lists and mappings."""
        scene = self.target
        return {
            "kind": self.kind,
            "height": scene.height,
            "width": scene.width,
            "background": scene.background,
            "items": [asdict(item) | {"center": list(item.center)} for item in scene.items],
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> SceneRequest:
        """What :meth:`to_json` gave.

        Raises:
            ValueError: It is something else.
        """
        try:
            return cls(
                kind=str(stored["kind"]),
                target=Scene(
                    height=stored["height"],
                    width=stored["width"],
                    background=stored["background"],
                    items=tuple(_item(each) for each in stored["items"]),
                ),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"a scene cannot be read ({type(error).__name__}: {error}); expected the kind, the "
                "height, width, background and items of a scene of the mini's world"
            ) from None


def _item(stored: Mapping[str, Any]) -> Item:
    values = {**stored, "center": tuple(stored["center"])}
    return Word(**values) if "text" in values else Thing(**values)
