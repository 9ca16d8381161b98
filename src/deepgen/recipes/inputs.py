"""What a stage learns from beside its settings, its data and the model's weights."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

from deepgen.config.model import Padding
from deepgen.model import DeepGen

PROBE = "Zwei rote Äpfel,  an OLD map of 1897\n\t“fünf”, 3.14 × 2; 一只熊猫 🐼 don't"
"""Letters, digits, signs and spaces of many kinds, which other rules split otherwise."""


def inputs_of(model: DeepGen, *, side: int, padding: Padding) -> dict[str, Any]:
    """What decides about a run and is in no weight: what was left open, and the model's own words.

    Two model folders with the same weights may differ in these; a run that began with one of them
    would be another with the other.

    Args:
        model: With everything that its folder says.
        side: Pictures are brought to about ``side * side`` pixels.
        padding: How prompts of a micro-batch pad each other.
    """
    tokenize = model.conditioner.tokenize
    tokenizer = tokenize.tokenizer
    # By what it does, since libraries write the same tokenizer in different ways.
    words = [sorted(tokenizer.get_vocab().items()), tokenizer(PROBE)["input_ids"]]
    return {
        "side": side,
        "padding": padding,
        **{f"scheduler.{name}": value for name, value in asdict(model.schedule).items()},
        "vae.shift_factor": model.vae.shift,
        "vae.scaling_factor": model.vae.scale,
        "rope_precision": model.conditioner.vlm.rope_precision,
        "tokenizer": _digest(words),
        "prompt_template": _digest([asdict(tokenize.template)]),
    }


def _digest(values: list[Any]) -> str:
    text = json.dumps(values, sort_keys=True)
    # Of 64 bits: it tells apart, and proves nothing.
    return hashlib.sha256(text.encode()).hexdigest()[:16]
