"""All recipes of ``deepgen train``: to add one, write its file and its line here."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from deepgen.config.stage import StageConfig
from deepgen.recipes.lora import lora
from deepgen.recipes.pretrain import pretrain
from deepgen.recipes.sft import sft
from deepgen.recipes.smoke import smoke

Recipe = Callable[[], StageConfig]
"""Returns the settings of a stage; the first line of its docstring is its help text."""

RECIPES: dict[str, Recipe] = {
    "pretrain": pretrain,
    "sft": sft,
    "lora": lora,
    "smoke": smoke,
}


def describe_recipes() -> str:
    """Name and help text of every recipe, in one paragraph."""
    return " ".join(
        f"{name}: {(inspect.getdoc(make) or '').partition(chr(10))[0]}"
        for name, make in RECIPES.items()
    )


def recipe_of(stage: str) -> str:
    """The first recipe that trains a stage."""
    return next(name for name, make in RECIPES.items() if make().stage == stage)
