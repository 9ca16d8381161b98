from pathlib import Path

import pytest

from deepgen.config.codec import read_yaml, to_values, updated, write_yaml
from deepgen.config.stage import StageConfig
from deepgen.recipes.sft import sft


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    config = updated(
        sft(), {"data": "pictures", "sample_prompts": ["a", "b"], "lora": {"rank": 2}}, name="here"
    )
    write_yaml(tmp_path / "config.yaml", config)
    assert read_yaml(tmp_path / "config.yaml", StageConfig()) == config


def test_fields_that_a_file_does_not_name_stay(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("steps: 7\noptimizer: {lr: 1.0e-3}\n")
    config = read_yaml(path, sft())
    assert config.steps == 7 and config.optimizer.lr == 1e-3
    assert config.optimizer.beta2 == 0.95 and config.stage == "sft"


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("# nothing yet\n")
    assert read_yaml(path, sft()) == sft()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("stpes: 7", "did you mean steps?"),
        ("optimizer: {learning_rate: 1}", "optimizer has no setting"),
        ("steps: many", "steps cannot be 'many'"),
        ("steps: 0", "steps must be at least 1"),
        ("lora: {rank: 0}", "rank must be at least 1"),
        ("- steps", "must map names to values"),
        ("steps: [", "is no YAML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, part: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"config\.yaml") as caught:
        read_yaml(path, sft())
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_are_plain() -> None:
    values = to_values(sft())
    assert values["output"] == "runs/sft" and values["optimizer"]["lr"] == 5e-5
