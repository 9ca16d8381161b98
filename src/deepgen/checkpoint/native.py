"""Names of native training checkpoints: one flat dictionary for what was trained.

``transformer.*`` is the DiT; ``meta_queries``, ``projector_N.*`` and ``connector.*`` the bridge;
``lmm.*`` the VLM, as adapters of peft or in full; ``vae.*`` is seldom there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from deepgen.checkpoint.files import listed
from deepgen.conditioning.vlm_layers import module_key
from deepgen.errors import CheckpointError, shown

T = TypeVar("T")

WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|module|base_model\.model)\.")
"""What compiling, data parallelism and peft put in front of a module's name."""

VLM = "lmm."

BRIDGE = re.compile(r"(?:meta_queries$|projector_[123]\.|connector\.)")

ADAPTER_ENDS = re.compile(
    r"\.(?:lora_(?P<linear>[AB])(?:\.(?P<name>[^.]+))?\.weight"
    r"|lora_embedding_(?P<embedding>[AB])(?:\.(?P<own>[^.]+))?)$"
)
"""Names of peft; an adapter's own, such as ``default``, may be there or not."""

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
    raise CheckpointError(f"it has {shown(key)}, which belongs to no part of DeepGen")


def by_component(tensors: Mapping[str, T]) -> dict[str, dict[str, T]]:
    """Tensors, or what is known of them, by component and name, without wrappers.

    Raises:
        CheckpointError: One belongs to no component, or two have one name.
    """
    components: dict[str, dict[str, T]] = {}
    for key, value in tensors.items():
        component, name = split_key(key)
        named = components.setdefault(component, {})
        if name in named:
            raise CheckpointError(f"it has {shown(name)} twice, under different wrappers")
        named[name] = value
    return components


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
        CheckpointError: One of a pair is missing, a weight has two pairs, or there are other kinds
            of adapters.
    """
    pairs: dict[tuple[str, str], dict[str, str]] = {}
    own: set[str] = set()
    foreign = []
    for name in names:
        found = ADAPTER_ENDS.search(name)
        if found is None:
            if ".lora_" in name:
                foreign.append(name)
            continue
        own.add(found["name"] or found["own"] or "")
        weight = module_key(f"{name[: found.start()]}.weight")
        kind = "linear" if found["linear"] else "embedding"
        sides = pairs.setdefault((weight, kind), {})
        if sides.setdefault(found[kind], name) != name:
            own.discard("")
            raise CheckpointError(f"the checkpoint has two adapters for {shown(weight)}{_of(own)}")
    if foreign:
        raise CheckpointError(
            f"the checkpoint has {len(foreign)} tensors of other adapters than plain LoRA, such "
            f"as DoRA's magnitudes ({listed(foreign)}); merge them with peft before"
        )
    broken = [weight for (weight, _), sides in pairs.items() if len(sides) < 2]
    if broken:
        raise CheckpointError(
            f"the checkpoint has {len(broken)} adapters with one of their two matrices: "
            f"{listed(broken)}"
        )
    if len({weight for weight, _ in pairs}) < len(pairs):
        raise CheckpointError("the checkpoint has adapters of linear layers for embeddings too")
    return {
        weight: AdapterNames(sides["A"], sides["B"], kind == "embedding")
        for (weight, kind), sides in pairs.items()
    }


def _of(names: set[str]) -> str:
    return f", of {listed(names)}; delete all but one of them" if len(names) > 1 else ""


def base_names(names: Iterable[str]) -> dict[str, str]:
    """Weights of the VLM that are not adapters, by the name :func:`module_key` spells.

    Raises:
        CheckpointError: Two have one name.
    """
    found: dict[str, str] = {}
    twice = []
    for name in names:
        if ADAPTER_ENDS.search(name) is None:
            key = module_key(name.replace(BASE_LAYER, "."))
            if key in found:
                twice += [found[key], name]
            found[key] = name
    if twice:
        raise CheckpointError(f"the VLM has tensors under two names each: {listed(set(twice))}")
    return found
