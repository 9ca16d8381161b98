"""Names in adapters' files: the styles of peft, diffusers, kohya and LyCORIS, and where they lead.

A key is a layer's name and a role, such as one of the two matrices of LoRA. The layer's name is
ours, flattened (dots as underscores), or that of the original SD3 code, where one matrix holds what
are three here (queries, keys and values).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from deepgen.checkpoint.original_names import original_layers
from deepgen.conditioning.vlm_layers import module_key
from deepgen.dit.model import DiT
from deepgen.model import DeepGen

LORA = ("down", "up")
EMBEDDING = ("embedding_down", "embedding_up")
LOHA = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
LOKR = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b")
ALPHA = "alpha"

KEY = re.compile(
    r"""(?P<layer>.+?)
    (?: \.lora_(?P<peft>[AB])(?:\.[^.]+)?\.weight       # peft, diffusers
    |   \.lora_(?P<kohya>down|up)\.weight               # kohya, LyCORIS
    |   (?P<processor>[._])lora(?:_linear_layer)?\.(?P<old>down|up)\.weight   # older diffusers
    |   \.lora_embedding_(?P<embedding>[AB])(?:\.[^.]+)?
    |   \.(?P<other>alpha|hada_w[12]_[ab]|lokr_w[12](?:_[ab])?)
    )""",
    re.VERBOSE,
)
SIDES = {"A": "down", "B": "up", "down": "down", "up": "up"}

WRAPPERS = ("base_model.model.", "module.", "_orig_mod.")
QWEN = ("model.language_model.", "language_model.", "model.visual.", "visual.")
ROOTS = ("transformer.", "vlm.", "connector.")
FLAT = ("lora_transformer_", "lora_unet_", "lycoris_")
ORIGINAL = ("model.diffusion_model.", "diffusion_model.")


@dataclass(frozen=True, slots=True)
class Target:
    """A weight that an adapted layer is, or has a part of."""

    weight: str
    """Name of the parameter, from one of ``ROOTS`` on."""
    third: int | None = None
    """Which third of the layer's rows it is."""
    is_swapped: bool = False
    """Whether the halves of its rows are the other way round: scale and shift."""


def split_key(key: str) -> tuple[str, str] | None:
    """Layer and role of a key; None if it is of no adapter that is read."""
    found = KEY.fullmatch(key)
    if found is None:
        return None
    layer = found["layer"]
    if found["embedding"]:
        return layer, f"embedding_{SIDES[found['embedding']]}"
    if found["processor"] == "_" or layer.endswith("_lora"):
        layer = layer.removesuffix("_lora").replace(".processor.", ".")
        layer += ".0" if layer.endswith(".to_out") else ""
    if found["other"]:
        return layer, found["other"]
    return layer, SIDES[found["peft"] or found["kohya"] or found["old"]]


def own_name(layer: str) -> str:
    """A layer's name in the model that was adapted; diffusers writes it after its component."""
    return _unwrapped(layer).removeprefix("transformer.")


def find_weight(model: DeepGen, name: str) -> Tensor:
    """A parameter by its name in a ``Target``.

    Raises:
        AttributeError: There is none.
    """
    root = next(each for each in ROOTS if name.startswith(each))
    modules: dict[str, nn.Module] = {
        "transformer.": model.dit,
        "vlm.": model.conditioner.vlm,
        "connector.": model.conditioner.bridge,
    }
    return modules[root].get_parameter(name.removeprefix(root))


class LayerNames:
    """Finds the layers of a model by all names that files have for them."""

    def __init__(self, model: DeepGen) -> None:
        self._model = model
        self._originals = dict(_original_names(model.dit))
        layers = (
            name
            for name, module in model.dit.named_modules()
            if isinstance(getattr(module, "weight", None), Tensor)
        )
        self._flat = {
            name.replace(".", "_"): (Target(f"transformer.{name}.weight"),) for name in layers
        } | {name.replace(".", "_"): targets for name, targets in self._originals.items()}

    def __call__(self, layer: str) -> tuple[Target, ...]:
        """What a layer of an adapter is in the model; empty if nothing."""
        plain = _unwrapped(layer)
        for prefix in FLAT:
            if plain.startswith(prefix):
                return self._flat.get(plain.removeprefix(prefix), ())
        for prefix in ORIGINAL:
            if plain.startswith(prefix):
                plain = plain.removeprefix(prefix)
        if plain in self._originals:
            return self._originals[plain]
        root = next((each for each in ROOTS if plain.startswith(each)), "transformer.")
        if plain.startswith(QWEN):
            # Names of the whole Qwen2.5-VL, in any version of transformers.
            root, plain = "vlm.", module_key(plain)
        name = f"{root}{plain.removeprefix(root)}.weight"
        if name.startswith("vlm.visual."):
            self._model.conditioner.vlm.require_vision()
        try:
            find_weight(self._model, name)
        except AttributeError:
            return ()
        return (Target(name),)


def _unwrapped(name: str) -> str:
    """A layer's name without the prefixes that wrappers of the whole model add."""
    while wrapper := next((each for each in WRAPPERS if name.startswith(each)), None):
        name = name.removeprefix(wrapper)
    return name


def _original_names(dit: DiT) -> Iterator[tuple[str, tuple[Target, ...]]]:
    """Layers of the DiT by their names in the original code of SD3, and what they are here."""
    for layer in original_layers(dit.config.num_layers, dit.config.dual_attention_layers):
        names = [f"transformer.{own}.weight" for own in layer.own]
        yield (
            layer.name,
            tuple(Target(name, third) for third, name in enumerate(names))
            if len(names) > 1
            else (Target(names[0], is_swapped=layer.is_swapped),),
        )
