import os
from collections.abc import Callable
from pathlib import Path

import pytest

from deepgen.config.codec import read_values, read_yaml, to_values, updated, write_yaml
from deepgen.config.stage import StageConfig
from deepgen.recipes.sft import sft


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    config = updated(
        sft(),
        {
            "data": {"folder": "images"},
            "logging": {"sample_prompts": ["a", "b"]},
            "lora": {"rank": 2},
        },
        name="here",
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
        ("lr: 1.0e-3", "did you mean optimizer.lr (lr in the group optimizer)?"),
        ("data: images", "data is a group of settings (folder, side, "),
        ("side: 64", "did you mean data.side (side in the group data)?"),
        ("warmup_ratios: 0.1", "did you mean optimizer.warmup_ratio ("),
        ("lora.rank: 4", "did you mean lora.rank ("),
        ("lerning_rate: 1", "known are checkpoint, "),
        ("optimizer: {lr: .inf}", "lr must be a positive number"),
        ("optimizer: {max_grad_norm: 0}", "max_grad_norm must be a positive number"),
        ("optimizer: {max_grad_norm: .nan}", "max_grad_norm must be a positive number"),
        ("optimizer: {weight_decay: -0.1}", "weight_decay must be at least 0"),
        ("optimizer: {weight_decay: .inf}", "weight_decay must be at least 0"),
        ("optimizer: {beta2: .nan}", "beta2 must be at least 0 and below 1"),
        ("optimizer: {warmup_ratio: .nan}", "warmup_ratio must be from 0 to 1"),
        ("lora: {alpha: 0}", "alpha must be a positive number"),
        ("lora: {alpha: .inf}", "alpha must be a positive number"),
        ("lora: {dropout: .nan}", "dropout must be at least 0 and below 1"),
        ("seed: -1", "seed must be at least 0"),
        ("ema_decay: .nan", "ema_decay must be between 0 and 1"),
        ("data: {caption_drop: .nan}", "caption_drop must be from 0 to 1"),
        ("logging: {peak_tflops: .nan}", "peak_tflops must be a positive number"),
        ("steps: many", "steps cannot be 'many'"),
        ("steps: 0", "steps must be at least 1"),
        ("lora: {rank: 0}", "rank must be a number from 1 to 4096"),
        ("- steps", "must map names to values"),
        ("steps: [", "config.yaml is not valid YAML: line 1, column 9: "),
        ("a: b: c", "is not valid YAML: line 1, column 5: mapping values are not allowed here"),
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


def test_a_file_that_cannot_be_read_is_named_without_numbers_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe")
    for path, reason in (
        (tmp_path / "absent.yaml", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (tmp_path / "a.yaml", "it is not UTF-8 text"),
    ):
        with pytest.raises(ValueError, match=f"cannot be read: {reason}$"):
            read_yaml(path, sft())


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkfifo, "it is a named pipe"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a device"),
        (lambda path: path.write_text("a: &a [1]\nb: *a"), "the alias .a is not read"),
        (lambda path: path.write_text("- " * 500 + "a"), "nested more than 100 deep"),
        (lambda path: path.write_text("x" * (65 << 10)), "more than 65,536 bytes"),
    ],
)
def test_settings_are_a_file_of_bounded_size_and_depth(
    make: Callable[[Path], object], reason: str, tmp_path: Path
) -> None:
    make(tmp_path / "config.yaml")
    with pytest.raises(ValueError, match=rf"config\.yaml .*{reason}"):
        read_values(tmp_path / "config.yaml")


def test_a_value_of_any_length_is_quoted_in_short(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"steps: {'x' * 60_000}")
    with pytest.raises(ValueError, match="steps cannot be") as caught:
        read_yaml(tmp_path / "config.yaml", sft())
    assert len(str(caught.value)) < 500
