"""Names of native training checkpoints: one flat dictionary for what was trained.

``transformer.*`` is the DiT; ``meta_queries``, ``projector_N.*`` and ``connector.*`` the bridge;
``lmm.*`` the VLM, as adapters of peft or in full; ``vae.*`` is seldom there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from deepgen.checkpoint.files import listed
from deepgen.conditioning.vlm_layers import module_key
from deepgen.errors import CheckpointError

WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|module|base_model\.model)\.")
"""What compiling, data parallelism and peft put in front of a module's name."""

VLM = "lmm."

BRIDGE = re.compile(r"(?:meta_queries$|projector_[123]\.|connector\.)")

ADAPTER_ENDS = re.compile(
    r"\.(?:lora_(?P<linear>[AB])(?:\.default)?\.weight|lora_embedding_(?P<embedding>[AB])(?:\.default)?)$"
)
BASE_LAYER = ".base_layer."
"""In peft's names of the weights that adapters are for."""


def split_key(key: str) -> tuple[str, str]:
    """Component and name of a tensor, in the names of a model folder.

    Raises:
        CheckpointError: It belongs to no component.
    """
    name = WRAPPERS.sub("", key)
    if name.startswith("transformer."):
        return "transformer", name.removeprefix("transformer.")
    if BRIDGE.match(name):
        return "connector", name
    if name.startswith(VLM):
        return "vlm", name.removeprefix(VLM)
    if name.startswith("vae."):
        return "vae", name.removeprefix("vae.")
    raise CheckpointError(f"it has {key!r}, which belongs to no part of DeepGen")


def native_key(component: str, name: str) -> str:
    """The inverse of :func:`split_key`, with the VLM's names as transformers 5 has them."""
    if component == "transformer":
        return f"transformer.{name}"
    if component == "connector":
        return name
    key = module_key(name)
    return VLM + (key if key.startswith("lm_head.") else f"model.{key}")


@dataclass(frozen=True, slots=True)
class AdapterNames:
    """The two matrices of an adapted weight, by their names."""

    down: str
    up: str
    is_embedding: bool


def adapter_names(names: Iterable[str]) -> dict[str, AdapterNames]:
    """Adapters by the name of the weight they are for, as :func:`module_key` spells it.

    Raises:
        CheckpointError: One of a pair is missing, or a weight has two pairs.
    """
    ends: dict[str, dict[str, str]] = {}
    for name in names:
        found = ADAPTER_ENDS.search(name)
        if found is None:
            continue
        side = found["linear"] or found["embedding"]
        kind = "" if found["linear"] else "embedding "
        weight = module_key(f"{name[: found.start()]}.weight")
        if ends.setdefault(weight, {}).setdefault(kind + side, name) != name:
            raise CheckpointError(f"the checkpoint has two adapters for {weight!r}")
    adapters, broken = {}, []
    for weight, sides in ends.items():
        for kind in ("", "embedding "):
            if sides.keys() == {f"{kind}A", f"{kind}B"}:
                adapters[weight] = AdapterNames(sides[f"{kind}A"], sides[f"{kind}B"], bool(kind))
                break
        else:
            broken.append(weight)
    if broken:
        raise CheckpointError(
            f"the checkpoint has {len(broken)} adapters with one of their two matrices: "
            f"{listed(broken)}"
        )
    return adapters


def base_names(names: Iterable[str]) -> Mapping[str, str]:
    """Weights of the VLM that are not adapters, by the name :func:`module_key` spells."""
    return {
        module_key(name.replace(BASE_LAYER, ".")): name
        for name in names
        if ADAPTER_ENDS.search(name) is None
    }
