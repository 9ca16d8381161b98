"""All recipes of ``deepgen train``: to add one, write its file and its line here."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module

from deepgen.config.stage import StageConfig

Recipe = Callable[[], StageConfig]
"""Returns the settings of a stage; the first line of its docstring is its help text."""

NAMES = (
    "pretrain",
    "sft",
    "lora",
    "rl",
    "rl_reference",
    "rl_lora",
    "smoke",
)
"""Names of the modules here, each with a function of the same name."""

RECIPES: Mapping[str, Recipe] = {
    name: getattr(import_module(f"deepgen.recipes.{name}"), name) for name in NAMES
}


def describe_recipes() -> dict[str, str]:
    """The help text of every recipe by its name."""
    return {name: (inspect.getdoc(make) or "").partition("\n")[0] for name, make in RECIPES.items()}


def recipe_of(stage: str) -> str:
    """The first recipe that trains a stage."""
    return next(name for name, make in RECIPES.items() if make().stage == stage)
