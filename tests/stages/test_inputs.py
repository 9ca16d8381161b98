"""Folders with the same weights that make another run all the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deepgen.checkpoint.folder import load_folder, load_on_meta
from deepgen.checkpoint.hub import resolve
from deepgen.stages.inputs import describe_inputs
from deepgen.train.state import frozen_digest


def of(folder: Path) -> dict[str, Any]:
    return describe_inputs(load_on_meta(folder), side=64, padding="none")


@pytest.fixture(scope="module")
def mini() -> dict[str, Any]:
    return of(resolve("mini"))


def swap_words(values: dict[str, Any]) -> None:
    """Two words of the vocabulary take each other's number."""
    words = values["model"]["vocab"]
    one, other = [word for word in words if word.isalpha() and len(word) > 2][:2]
    words[one], words[other] = words[other], words[one]


def split_otherwise(values: dict[str, Any]) -> None:
    values["model"]["merges"] = values["model"]["merges"][:100]


def with_other_eps(values: dict[str, Any]) -> None:
    values.get("text_config", values)["rms_norm_eps"] = 1e-3


@pytest.mark.parametrize(
    ("file", "change", "name"),
    [
        ("scheduler/scheduler_config.json", lambda each: each.update(shift=1.5), "scheduler.shift"),
        ("vae/config.json", lambda each: each.update(scaling_factor=0.5), "vae.scaling_factor"),
        (
            "connector/config.json",
            lambda each: each.update(rope_precision="bf16"),
            "rope_precision",
        ),
        (
            "connector/config.json",
            lambda each: each["connector"].update(num_attention_heads=1),
            "connector.num_attention_heads",
        ),
        ("vlm/config.json", with_other_eps, "vlm.rms_norm_eps"),
        ("tokenizer/tokenizer.json", swap_words, "tokenizer"),
        ("tokenizer/tokenizer.json", split_otherwise, "tokenizer"),
        (
            "prompt_template.json",
            lambda each: each.update(GENERATION="Draw: {input}"),
            "prompt_template",
        ),
    ],
)
def test_what_a_folder_says_beside_its_weights_is_told_apart(
    mini: dict[str, Any],
    tmp_path: Path,
    file: str,
    change: Callable[[dict[str, Any]], None],
    name: str,
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(resolve("mini"), folder)
    values = json.loads((folder / file).read_text())
    change(values)
    (folder / file).write_text(json.dumps(values))
    altered = of(folder)
    assert altered.keys() == mini.keys()
    assert [each for each in mini if altered[each] != mini[each]] == [name]


def test_where_edits_are_trained_the_weights_of_the_vision_tower_count() -> None:
    one, other = load_folder(resolve("mini")), load_folder(resolve("mini"))
    digest = frozen_digest(one, ())
    mine = describe_inputs(one, side=64, padding="none", edits=True)
    # As in checkpoints of earlier versions, which were written before any reference was seen.
    assert frozen_digest(one, ()) == digest
    assert "vision_tower" not in describe_inputs(one, side=64, padding="none")
    next(iter(other.conditioner.vlm.require_vision().parameters())).data.add_(0.1)
    theirs = describe_inputs(other, side=64, padding="none", edits=True)
    assert [each for each in mine if mine[each] != theirs[each]] == ["vision_tower"]


def test_they_are_plain_and_small(mini: dict[str, Any]) -> None:
    assert json.loads(json.dumps(mini)) == mini
    assert len(json.dumps(mini)) < 3000
    assert {"data.side", "padding", "compute.precision"} <= mini.keys()
