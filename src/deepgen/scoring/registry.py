"""Scorers by name. To add one: a module here that has ``create_scorer``, and its line below."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, TypeVar

from deepgen.errors import ScorerError
from deepgen.scoring.scorer import Scorer

T = TypeVar("T")

SCORERS: Mapping[str, str] = {
    "clip": "CLIPScore: how well an image fits its prompt",
    "ocr": "fraction of the target words that an OCR engine reads in an image",
    "preference": "win rate against the other images of the same prompt, by a judge",
    "remote": "the number that a worker behind HTTP gives an image",
    "yes_no": "whether a judge says that an image shows what its prompt asks for",
}
"""Name of a scorer, which is that of its module, and what it measures."""


def create_scorer(name: str, **options: Any) -> Scorer:
    """Load or reach the scorer of a name.

    Args:
        options: Arguments of the ``create_scorer`` of its module.

    Raises:
        ScorerError: There is no such scorer, it takes other options, or it cannot be used.
    """
    if name not in SCORERS:
        raise ScorerError(f"there is no scorer {name!r}; choose one of {', '.join(SCORERS)}")
    # Only the module of the chosen scorer: some import torch.
    factory = import_module(f"deepgen.scoring.{name}").create_scorer
    scorer: Scorer = created(f"scorer {name}", factory, options)
    return scorer


def created(what: str, factory: Callable[..., T], options: Mapping[str, Any]) -> T:
    """Call a factory with options that come from a user.

    Args:
        what: Named in the error.
        factory: Makes the object.
        options: Its arguments.

    Raises:
        ScorerError: It takes other options, or cannot be created.
    """
    signature = inspect.signature(factory)
    try:
        signature.bind(**options)
    except TypeError as error:
        taken = ", ".join(signature.parameters) or "no options"
        raise ScorerError(f"the {what} cannot be created: {error}; it takes {taken}") from None
    return factory(**options)
