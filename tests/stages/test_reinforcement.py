"""The stage of reinforcement learning as a user runs it: with the mini, and on bad input."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from deepgen.checkpoint.folder import load_folder
from deepgen.cli.main import main
from deepgen.config.rl import PolicyConfig, RlConfig, RolloutConfig
from deepgen.config.train import CheckpointConfig
from deepgen.errors import CheckpointError
from deepgen.recipes.rl import rl
from deepgen.recipes.rl_lora import rl_lora
from deepgen.rl.group_records import read_groups
from deepgen.rl.rewards.base import Reward
from deepgen.stages.reinforcement import build_rl
from deepgen.stages.resume import resolve_settings, stored_settings
from tests.rl.running import Measured

CPU = torch.device("cpu")


def prompts_in(folder: Path, *records: Mapping[str, Any]) -> Path:
    path = folder / "prompts.jsonl"
    default = [{"id": f"{i}", "prompt": f"a {i} square", "category": "general"} for i in range(3)]
    path.write_text("\n".join(json.dumps(each) for each in records or default))
    return path


def bright(offset: float = 0.0) -> dict[str, Reward]:
    measured = Measured(f"bright {offset}", lambda x: float(x.mean()) + offset)
    measured.identity = {"offset": str(offset)}
    return {"bright": Reward(name="bright", scorer=measured)}


def stage(folder: Path, preset: Any = rl, **policy: Any) -> Any:
    config = replace(
        preset(),
        output=folder / "run",
        steps=2,
        checkpoint=CheckpointConfig(every=1),
        rl=RlConfig(
            prompts=(prompts_in(folder),),
            weights={"general": {"bright": 1.0}},
            rollout=RolloutConfig(prompts=1, group_size=2, steps=4, window=1, side=32),
            policy=PolicyConfig(**{"sft_weight": 0.0, **policy}),
            held_out=folder / "prompts.jsonl",
            held_out_prompts=1,
            watch_groups=1,
        ),
    )
    return resolve_settings(config, 1)


@pytest.mark.parametrize("preset", [rl, rl_lora])
def test_a_run_leaves_a_model_metrics_and_groups(tmp_path: Path, preset: Any) -> None:
    config = stage(tmp_path, preset)
    path = build_rl(config, device=CPU, rewards=bright())()
    model, base = load_folder(path), load_folder(Path(build_base()))
    changed = [
        name
        for (name, mine), (_, other) in zip(
            model.state_dict().items(), base.state_dict().items(), strict=True
        )
        if not torch.equal(mine, other)
    ]
    assert changed and all(name.startswith("dit.") for name in changed)
    assert (tmp_path / "run" / "lora").exists() == (preset is rl_lora)
    lines = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [each for each in lines if "reward/bright" in each]
    assert len(steps) == 2
    assert {"rollout", "decode", "reference", "rewards"} <= set(steps[0]["speed"]["time"])
    assert any(0 < each.get("val/reward/bright", 0) < 1 for each in lines)
    first, second = read_groups(tmp_path / "run")
    assert (first.step, second.step, len(first.images)) == (1, 2, 2)
    card = json.loads((path / "model_card.json").read_text())
    assert card["stage"] == config.stage
    assert card["rewards"] == {"bright": {"offset": "0.0"}}
    assert stored_settings(tmp_path / "run", None) == config
    # The same command would resume it; with another reward it is another run.
    with pytest.raises(CheckpointError, match=r"rl\.rewards"):
        build_rl(config, device=CPU, rewards=bright(0.1))()


def build_base() -> str:
    from deepgen.checkpoint.hub import resolve

    return str(resolve("mini"))


CASES = {
    "no prompts": ([], {}, "no prompts to learn from"),
    "no rewards": (["PROMPTS"], {"weights": {"general": {"scene": 1}}}, "no rewards to learn from"),
    "group of one": (["PROMPTS", "--rl.rollout.group-size", "1"], {}, "at least 2, got 1"),
    "zero weights": (
        ["PROMPTS"],
        {"rewards": {"ocr": {}}, "weights": {"general": {"ocr": 0}}},
        "the weights of the category general sum to 0",
    ),
    "category": (
        ["PROMPTS"],
        {"rewards": {"ocr": {}}, "weights": {"text": {"ocr": 1}}},
        "the category general has no rewards",
    ),
    "scene": (
        ["PROMPTS"],
        {"rewards": {"scene": {}}, "weights": {"general": {"scene": 1}}},
        "the prompt 0 has no scene in its details",
    ),
    "unknown": (
        ["PROMPTS"],
        {"rewards": {"beauty": {}}, "weights": {"general": {"beauty": 1}}},
        "there is no reward 'beauty'",
    ),
    "no data": (
        ["PROMPTS", "--rl.policy.sft-weight", "0.1"],
        {"rewards": {"ocr": {}}},
        "no data to train on",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_cannot_be_learned_from_is_refused_in_one_line(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, settings, expected = CASES[name]
    config = tmp_path / "rewards.yaml"
    config.write_text(json.dumps({"rl": settings}))
    named = ["--rl.prompts", str(prompts_in(tmp_path))] if "PROMPTS" in arguments else []
    others = [each for each in arguments if each != "PROMPTS"]
    without = [] if "--rl.policy.sft-weight" in others else ["--rl.policy.sft-weight", "0"]
    output = tmp_path / "run"
    command = ["train", "rl", "--config", str(config), "-o", str(output), *without]
    assert main([*command, *named, *others]) != 0
    error = capsys.readouterr().err
    assert expected in error.replace("\n", " ")
    assert "Traceback" not in error
    assert not output.exists()
