"""The ablations of the bridge, at toy size."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deepgen.config.codec import write_yaml
from deepgen.mini.training import ablation as mini_ablation
from deepgen.mini.training.ablation import ARMS, main, table
from tests.mini.training.test_run import TOY


def test_all_arms_are_trained_from_one_start_and_measured_on_the_same_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_yaml(tmp_path / "mini.yaml", replace(TOY, output=tmp_path / "run"))
    command = ["ablation", str(tmp_path / "run"), "--config", str(tmp_path / "mini.yaml")]
    monkeypatch.setattr("sys.argv", [*command, "--steps", "1", "--seeds", "0", "--held-out", "8"])
    main()
    found = json.loads(capsys.readouterr().out)
    assert list(found["arms"]) == list(ARMS)
    # After one step the conditions are still nearly nothing, whatever they are made from.
    losses = [each["loss"]["mean"] for each in found["arms"].values()]
    assert max(losses) - min(losses) < 0.1

    def trained(*_: object) -> Path:
        raise AssertionError("what is finished is not trained again")

    monkeypatch.setattr(mini_ablation, "build", trained)
    main()
    assert json.loads(capsys.readouterr().out) == found


def test_differences_are_paired_by_sample() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(1.0, 0.5, size=(2, 500))
    found = table({"SCB": first, "other": first + 0.01})
    assert found["other"]["minus SCB"] == {"mean": 0.01, "low": 0.01, "high": 0.01}
    assert found["SCB"]["loss"]["high"] - found["SCB"]["loss"]["low"] > 0.02
    assert "minus SCB" not in found["SCB"]
