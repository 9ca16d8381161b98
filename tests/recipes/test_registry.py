"""What ``deepgen train`` offers is what the registry has."""

from __future__ import annotations

import pytest

from deepgen.cli.main import main
from deepgen.config.stage import STAGES
from deepgen.recipes.registry import RECIPES, recipe_of


@pytest.mark.parametrize("name", RECIPES)
def test_the_help_of_training_describes_every_recipe(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", "").split())
    summary = (RECIPES[name].__doc__ or "").partition("\n")[0]
    assert summary and f"{name} {summary}" in shown


def test_every_stage_has_a_recipe() -> None:
    for stage in STAGES:
        assert RECIPES[recipe_of(stage)]().stage == stage


@pytest.mark.parametrize(("arguments", "found"), [(["dpo"], "'dpo'"), ([], "'nothing'")])
def test_an_unknown_recipe_is_refused_with_those_there_are(
    arguments: list[str], found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *arguments, "--steps", "3"]) == 2
    error = capsys.readouterr().err
    assert f"found {found} where a recipe was expected" in error
    assert all(name in error for name in (*RECIPES, "mini")) and error.count("\n") == 1
