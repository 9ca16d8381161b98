from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from deepgen.errors import DataError
from deepgen.rl.prompts import (
    Prompt,
    PromptSet,
    PromptStream,
    check_prompts,
    read_prompts,
    write_prompts,
)
from deepgen.rl.rewards.base import Reward
from deepgen.scoring.ocr import TextSimilarity
from tests.scoring.test_ocr import FixedReader


def prompts(prefix: str, count: int) -> tuple[Prompt, ...]:
    return tuple(
        Prompt(id=f"{prefix}{number}", prompt=f"{prefix} {number}", category="general")
        for number in range(count)
    )


def test_records_survive_a_file(tmp_path: Path) -> None:
    records = (
        Prompt(id="a", prompt="一只猫", category="general", source="ours", license="CC0"),
        Prompt(
            id="b",
            prompt='a sign "TEA"',
            category="text",
            target_texts=("TEA",),
            details={"scene": {"kind": "word"}},
        ),
    )
    path = tmp_path / "new" / "prompts.jsonl"
    write_prompts(path, records)
    assert read_prompts(path) == records
    item = records[1].item(Image.new("RGB", (2, 2)))
    assert (item.category, item.target_texts) == ("text", ("TEA",))
    assert item.details == {"scene": {"kind": "word"}}
    with pytest.raises(ValueError, match=r"prompts.jsonl exists; choose another name"):
        write_prompts(path, records)


def test_a_text_file_has_one_prompt_a_line(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("a cat\n\n a dog \n", encoding="utf-8")
    found = read_prompts(path, category="general")
    assert [(each.id, each.prompt) for each in found] == [("list/1", "a cat"), ("list/3", "a dog")]


GOOD = {"id": "a", "prompt": "a cat", "category": "general"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not valid JSON"),
        ("[]", "line 2: expected an object, found list"),
        (json.dumps({**GOOD, "id": "b", "targets": ["x"]}), "the fields targets are unknown"),
        (json.dumps({"id": "b", "category": "general"}), "prompt must be a text, got None"),
        (json.dumps({"id": "b", "prompt": "x"}), "category must be a text, got ''"),
        (json.dumps({**GOOD, "id": "b", "target_texts": "x"}), "target_texts must be a list"),
        (json.dumps({**GOOD, "id": "b", "details": [1]}), "details must be an object"),
        (json.dumps(GOOD), "the id 'a' occurs twice"),
    ],
)
def test_a_line_that_is_no_record_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"line 2: .*") as caught:
        read_prompts(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_without_prompts_or_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DataError, match="has no prompts"):
        read_prompts(tmp_path / "empty.jsonl")
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_prompts(tmp_path / "none.jsonl")


def test_the_stream_is_a_function_of_seed_and_position() -> None:
    sets = [PromptSet(prompts=prompts("a", 30)), PromptSet(prompts=prompts("b", 30))]
    whole = [each.id for each in PromptStream(sets, seed=5).take(0, 64)]
    resumed = PromptStream(sets, seed=5)
    # Two processes take halves of every iteration of 16, from the middle on.
    halves = [
        each.id
        for start in range(32, 64, 16)
        for rank in range(2)
        for each in resumed.take(start + 8 * rank, 8)
    ]
    assert halves == whole[32:]
    assert [each.id for each in PromptStream(sets, seed=6).take(0, 64)] != whole


@pytest.mark.parametrize(
    ("mode", "share"),
    # 300 prompts of weight 1 and 100 of weight 3.
    [("sample_proportional", 300 / 600), ("weight_only", 1 / 4)],
)
def test_the_two_modes_weigh_prompts_or_files(mode: str, share: float) -> None:
    sets = [PromptSet(prompts=prompts("a", 300)), PromptSet(prompts=prompts("b", 100), weight=3.0)]
    stream = PromptStream(sets, seed=0, mode=mode)  # type: ignore[arg-type]
    drawn = Counter(each.id for each in stream.take(0, 1500))
    of_first = sum(count for name, count in drawn.items() if name[0] == "a")
    assert of_first / 1500 == pytest.approx(share, abs=0.04)
    assert sum(name[0] == "b" for name in drawn) == 100


def test_weights_that_are_not_positive_and_no_files_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match="must be a positive number, got 0"):
        PromptSet(prompts=prompts("a", 1), weight=0.0)
    with pytest.raises(ValueError, match="name at least one file"):
        PromptStream([], seed=0)


def test_a_text_prompt_without_targets_is_refused_before_any_step() -> None:
    ocr = Reward(name="ocr", scorer=TextSimilarity(FixedReader()), needs="target_texts")
    scene = Reward(name="scene", scorer=TextSimilarity(FixedReader()), needs="scene")
    rewards = {"ocr": ocr, "scene": scene}
    weights = {"text": {"ocr": 1.0, "scene": 0.0}, "general": {"scene": 1.0}}
    good = Prompt(id="a", prompt="a", category="text", target_texts=("TEA",))
    check_prompts([good], rewards, weights)
    with pytest.raises(DataError, match=r"the prompt b has no target_texts .* reward ocr"):
        check_prompts(
            [good, Prompt(id="b", prompt='"TEA"', category="text", target_texts=("?",))],
            rewards,
            weights,
        )
    with pytest.raises(DataError, match="the prompt c has no scene"):
        check_prompts([Prompt(id="c", prompt="a", category="general")], rewards, weights)
    with pytest.raises(ValueError, match="the category 'other', which has no rewards"):
        check_prompts([Prompt(id="d", prompt="a", category="other")], rewards, weights)
