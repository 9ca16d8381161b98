"""What decides about a run besides its settings, its data and the model's weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from deepgen.conditioning.vlm import VisionLanguageModel
from deepgen.config.codec import to_values
from deepgen.config.model import Padding
from deepgen.data.latents import weights_hash
from deepgen.model import DeepGen
from deepgen.train.identity import FROZEN_PRECISION, PRECISION

PROBE = "Zwei rote Äpfel,  an OLD map of 1897\n\t“fünf”, 3.14 × 2; 一只熊猫 🐼 don't"
"""Characters of many kinds, which different tokenizers split differently."""

# Configuration of the language model and of the vision tower that no shape depends on.
TEXT = (
    *("num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("rms_norm_eps", "hidden_act"),
)
ROPE = ("rope_theta", "mrope_section")
VISION = ("num_heads", "window_size", "fullatt_block_indexes", "hidden_act")


def describe_inputs(
    model: DeepGen, *, side: int, padding: Padding, mixed: bool = False, edits: bool = False
) -> dict[str, Any]:
    """Resolved defaults, and everything of a model folder that is not a weight.

    Two model folders with the same weights may differ in these; a run that began with one of them
    must not be resumed with the other.

    Args:
        mixed: Whether products are computed in bfloat16.
        edits: Whether references are read, so that the vision tower decides too.
    """
    tokenize = model.conditioner.tokenize
    tokenizer = tokenize.tokenizer
    # By its results, since libraries serialise the same tokenizer in different ways.
    words = [sorted(tokenizer.get_vocab().items()), tokenizer(PROBE)["input_ids"]]
    return {
        "data.side": side,
        "padding": padding,
        # Depends on the device where it is auto.
        PRECISION: "bfloat16" if mixed else "float32",
        FROZEN_PRECISION: str(model.conditioner.vlm.embedding.dtype).removeprefix("torch."),
        **_inside("scheduler", to_values(model.schedule)),
        **_inside("transformer", to_values(model.dit.config)),
        **_inside("connector", to_values(model.conditioner.bridge.config)),
        **_inside("vlm", _vlm_values(model.conditioner.vlm)),
        "vae.shift_factor": model.vae.shift,
        "vae.scaling_factor": model.vae.scale,
        "rope_precision": model.conditioner.vlm.rope_precision,
        "tokenizer": _digest(words),
        "prompt_template": _digest([asdict(tokenize.template)]),
        **({"vision_tower": _vision_hash(model.conditioner.vlm)} if edits else {}),
    }


def _inside(part: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{part}.{name}": value for name, value in values.items()}


def _vlm_values(vlm: VisionLanguageModel) -> dict[str, Any]:
    """Selected values, since the rest differs between versions of the library that wrote it."""
    text: Any = vlm.config.text_config
    vision: Any = vlm.config.vision_config
    return {
        **{name: getattr(text, name) for name in TEXT},
        **{name: text.rope_parameters[name] for name in ROPE},
        **{f"vision.{name}": getattr(vision, name) for name in VISION},
    }


def _vision_hash(vlm: VisionLanguageModel) -> str:
    """Hash of the vision tower, which is not part of the model until the first reference.

    The hash of all frozen weights is taken before that, and so does not cover it.
    """
    tower = vlm.visual
    if tower is None:
        assert vlm.load_vision is not None
        tower = vlm.load_vision()
    return weights_hash(tower)


def _digest(values: list[Any]) -> str:
    text = json.dumps(values, sort_keys=True)
    # 64 bits are enough to tell models apart.
    return hashlib.sha256(text.encode()).hexdigest()[:16]
