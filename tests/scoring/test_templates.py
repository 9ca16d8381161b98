from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deepgen.errors import ScorerError
from deepgen.scoring.templates import (
    PinnedFile,
    TemplateSource,
    join_templates,
    load_template,
    load_texts,
    parse_template,
)

MODULE = '''
"""A scorer that must never be run."""
from pathlib import Path

Path(__file__).with_name("ran").touch()
PLAIN = "Judge {this} image."
LONG = ("Judge "
        "it well.")
SUM = "Judge " + f"{LONG} now"
FORMAT = """Caption: {caption}
Answer as {{"score": [a, b]}}."""
BY_KIND = {"add": "Was {thing} added?", "remove": "Is it gone?"}
NUMBER = 3
ROUNDED = f"about {NUMBER:.2f}"

def ask(item, logical):
    """Asks."""
    text = f"Instruction: {item['instruction']}; reply {{1}}"
    if logical:
        rubric = "0 or 1"
    else:
        rubric = "1 to 5"
    return [{"role": "system", "content": "You are strict."}, {"role": "user", "content": text}]
'''


def source(
    folder: Path, text: str, symbol: str, *, name: str = "eval/ask.py", **more: Any
) -> TemplateSource:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="")
    file = PinnedFile(
        repository="someone/bench",
        commit="abc1234",
        path=name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )
    return TemplateSource(file=file, symbol=symbol, **more)


@pytest.mark.parametrize(
    ("symbol", "values", "filled"),
    [
        ("PLAIN", {}, "Judge {this} image."),
        ("LONG", {}, "Judge it well."),
        ("SUM", {"LONG": "it"}, "Judge it now"),
        ("BY_KIND/remove", {}, "Is it gone?"),
        (
            "ask/text",
            {"item['instruction']": "Add {a} cat"},
            "Instruction: Add {a} cat; reply {1}",
        ),
        ("ask/rubric#1", {}, "0 or 1"),
        ("ask/rubric#2", {}, "1 to 5"),
        ("ask/@8", {}, "You are strict."),
    ],
)
def test_texts_of_python_files_are_found_and_filled(
    tmp_path: Path, symbol: str, values: dict[str, str], filled: str
) -> None:
    template = load_template(tmp_path, source(tmp_path, MODULE, symbol))
    assert template.slots == set(values)
    assert template.fill(values) == filled
    assert not (tmp_path / "eval" / "ran").exists()


def test_format_strings_have_their_own_braces(tmp_path: Path) -> None:
    template = load_template(tmp_path, source(tmp_path, MODULE, "FORMAT", style="format"))
    filled = template.fill({"caption": "a {cat}"})
    assert filled == 'Caption: a {cat}\nAnswer as {"score": [a, b]}.'


def test_texts_of_json_files_have_marks(tmp_path: Path) -> None:
    text = json.dumps({"add": ["unused", "Edit: <edit_prompt>. Rate {it}."]})
    asked = source(tmp_path, text, "add/1", name="prompts.json", marks=("<edit_prompt>",))
    filled = load_template(tmp_path, asked).fill({"<edit_prompt>": "add <edit_prompt>"})
    assert filled == "Edit: add <edit_prompt>. Rate {it}."


@pytest.mark.parametrize("symbol", ["add", "add/2", "add/first", "remove", "add/1/x"])
def test_names_that_a_json_file_does_not_have_are_refused(tmp_path: Path, symbol: str) -> None:
    asked = source(tmp_path, '{"add": ["a", "b"]}', symbol, name="prompts.json")
    with pytest.raises(ScorerError, match=r"prompts\.json of someone/bench holds no text"):
        load_template(tmp_path, asked)


def test_a_whole_file_may_be_the_prompt(tmp_path: Path) -> None:
    asked = source(tmp_path, "Rate it.\r\n", "", name="prompt.txt")
    assert load_template(tmp_path, asked).fill({}) == "Rate it.\r\n"


def test_every_gap_needs_its_value(tmp_path: Path) -> None:
    asked = source(tmp_path, "{a} and {b}", "", name="prompt.txt", style="format")
    template = load_template(tmp_path, asked)
    assert template.fill({"a": "{b}", "b": "2"}) == "{b} and 2"
    with pytest.raises(ValueError, match=r"values for \['a'\], expected for \['a', 'b'\]"):
        template.fill({"a": "1"})
    with pytest.raises(ValueError, match=r"expected for \['a', 'b'\]"):
        template.fill({"a": "1", "b": "2", "c": "3"})


@pytest.mark.parametrize(
    ("symbol", "reason"),
    [
        ("ABSENT", "it has 0 definitions of 'ABSENT'"),
        ("NUMBER", "it is a Constant, expected a string"),
        ("ROUNDED", "the slot 'NUMBER' is formatted"),
        ("BY_KIND", "it is a Dict"),
        ("BY_KIND/alter", "no key 'alter'"),
        ("ask/rubric", "'rubric' is assigned 2 times; choose rubric#1"),
        ("rubric", "it has 0 definitions"),
        ("ask/@99", "strings, number 99 was requested"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, symbol: str, reason: str) -> None:
    with pytest.raises(ScorerError, match=reason) as told:
        load_template(tmp_path, source(tmp_path, MODULE, symbol))
    assert "eval/ask.py of someone/bench holds no text" in str(told.value)


def test_another_version_of_the_file_is_refused_with_both_names(tmp_path: Path) -> None:
    asked = source(tmp_path, MODULE, "PLAIN")
    (tmp_path / "eval" / "ask.py").write_text(MODULE + "\n", encoding="utf-8")
    with pytest.raises(ScorerError, match="is another version: its SHA-256 is") as told:
        load_template(tmp_path, asked)
    assert str(asked.file.sha256) in str(told.value)
    assert "abc1234" in str(told.value)


def test_a_missing_file_comes_with_the_command_that_gets_it(tmp_path: Path) -> None:
    asked = source(tmp_path, MODULE, "PLAIN")
    with pytest.raises(ScorerError, match=r"git clone https://github\.com/someone/bench") as told:
        load_template(tmp_path / "nowhere", asked)
    assert "checkout abc1234" in str(told.value)
    assert "\n" not in str(told.value)


def test_a_file_that_nobody_has_verified_passes_in_any_version(tmp_path: Path) -> None:
    asked = source(tmp_path, MODULE, "PLAIN")
    unknown = replace(asked, file=replace(asked.file, sha256=None))
    (tmp_path / "eval" / "ask.py").write_text(MODULE + "\n", encoding="utf-8")
    assert load_template(tmp_path, unknown).fill({}) == "Judge {this} image."


def test_a_dictionary_of_texts_is_read_whatever_its_keys(tmp_path: Path) -> None:
    text = 'TERMS = {"a / b": "of both", "c": "of " "one"}\nOTHER = {"a": 1}\nDEEP = {"x": TERMS}\n'
    assert load_texts(tmp_path, source(tmp_path, text, "TERMS")) == {
        "a / b": "of both",
        "c": "of one",
    }
    for symbol in ("OTHER", "DEEP", "ABSENT"):
        with pytest.raises(ScorerError, match=f"holds no texts '{symbol}'"):
            load_texts(tmp_path, source(tmp_path, text, symbol))


def test_templates_are_joined_and_their_gaps_renamed() -> None:
    joined = join_templates([parse_template("a {x}"), parse_template("{y} b {{}}")], "\n")
    assert joined.fill({"x": "1", "y": "2"}) == "a 1\n2 b {}"
    renamed = joined.renamed({"x": "first"})
    assert renamed.fill({"first": "1", "y": "2"}) == "a 1\n2 b {}"
    hashes = {each.sha256 for each in (joined, renamed, parse_template("a x"))}
    assert len(hashes) == 3
