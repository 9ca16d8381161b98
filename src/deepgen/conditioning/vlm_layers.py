"""Which layers of the VLM are read, and the names of its tensors in files; no torch in here."""

from __future__ import annotations

import re
from collections.abc import Callable

from deepgen.config.model import BridgeConfig, BridgeKind

LAYER_KEY = re.compile(r"(?:^|\.)layers\.(\d+)\.")
FINAL_NORM_KEY = re.compile(r"(?:^|\.)norm\.weight$")


def selected_layers(layers: int, count: int) -> tuple[int, ...]:
    """Which hidden states the bridge stacks, deepest first; evenly spaced, without the last.

    State 0 is the embedding, state i the residual stream after i layers.

    >>> selected_layers(36, 6)
    (35, 29, 23, 17, 11, 5)
    """
    if layers % count:
        raise ValueError(f"a VLM of {layers} layers has no {count} evenly spaced ones")
    return tuple(range(layers - 1, -1, -(layers // count)))


def used_layers(layers: int, kind: BridgeKind, count: int) -> int:
    """How many decoder layers influence the image; later ones are never run."""
    return layers if kind == "last" else selected_layers(layers, count)[0]


def unused_keys(layers: int, bridge: BridgeConfig) -> Callable[[str], bool]:
    """Which tensors of a stored Qwen2.5-VL never influence an image.

    Args:
        layers: Decoder layers of the stored model.
        bridge: What reads the model.

    Returns:
        A predicate on tensor names, in any of the layouts that versions of transformers write.
    """
    live = used_layers(layers, bridge.kind, bridge.num_selected_layers)

    def is_unused(key: str) -> bool:
        if key.endswith("lm_head.weight"):
            return True
        layer = LAYER_KEY.search(key)
        if layer:
            return int(layer[1]) >= live
        return bridge.kind == "stacked" and FINAL_NORM_KEY.search(key) is not None

    return is_unused


def module_key(key: str) -> str:
    """Name in our ``VisionLanguageModel`` of a tensor stored by any version of transformers.

    ``model.language_model.layers...`` (5.x), ``model.layers...`` (as 4.56 saved) and
    ``layers...`` all become ``language_model.layers...``; ``visual...`` likewise.
    """
    name = key.removeprefix("model.")
    if name.startswith(("visual.", "language_model.", "lm_head.")):
        return name
    return f"language_model.{name}"
