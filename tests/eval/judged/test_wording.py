from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from deepgen.errors import ScorerError
from deepgen.eval.judged.official_prompts import OFFICIAL_PROMPTS
from deepgen.eval.judged.opening import interview_of
from deepgen.eval.judged.wording import Wording, open_wording, own_wording
from deepgen.eval.registry import BENCHMARKS, find_benchmark
from deepgen.eval.scorer import ScoringOptions
from deepgen.scoring.questions import Question
from deepgen.scoring.templates import parse_template
from tests.eval.judged.drawings import draw
from tests.eval.judged.official import FILES, write_official
from tests.eval.judged.test_judged import first_item, point_item, rise_item, uniredit_item


def official(folder: Path, name: str) -> Wording:
    write_official(folder / "checkout", name)
    return open_wording(find_benchmark(name), ScoringOptions(official=folder / "checkout"))


def asked(folder: Path, name: str) -> list[Question]:
    """What an item of ours is asked in the authors' words."""
    item = {
        "unigenbench/en": point_item,
        "rise/2026-04": lambda: rise_item("temporal_reasoning", reference="rotten"),
        "uniredit": uniredit_item,
    }.get(name, lambda: first_item(name))()
    drawing = draw(folder, item)
    if name == "uniredit":
        right = folder / "data" / item.fields["reference_image"]
        right.parent.mkdir(parents=True, exist_ok=True)
        right.write_bytes(drawing.path.read_bytes())
    benchmark = find_benchmark(name)
    interview = interview_of(benchmark, official(folder, name), "some judge")
    return [ask.question for ask in interview.asks(drawing)]


def test_wise_is_asked_in_the_words_of_its_authors(tmp_path: Path) -> None:
    item = first_item("wise/legacy")
    (question,) = asked(tmp_path, "wise/legacy")
    assert question.system == "Be a strict judge of it all."
    expected = f'Judge "{item.prompt}", which means\n{item.fields["Explanation"]}. A line each.'
    assert question.parts[0] == expected


def test_corebench_is_asked_under_the_rules_of_its_authors(tmp_path: Path) -> None:
    assert asked(tmp_path, "corebench")[0].system == "\nAnswer yes or no.\n"


def test_unigenbench_quotes_the_definitions_of_its_authors(tmp_path: Path) -> None:
    (question,) = asked(tmp_path, "unigenbench/en")
    assert question.parts[0] == (
        "Prompt a cat, points ['Style', 'Attribute - Color']. "
        "In general:「\nStyle: how it is drawn\nAttribute - Color: which colours it has\n」 "
        "Here:「\nStyle: ink drawing\nAttribute - Color: the sky is green\n」\n"
        "<prompt>a cat</prompt>"
    )


def test_gedit_joins_its_rules_by_line_breaks(tmp_path: Path) -> None:
    semantics, quality = asked(tmp_path, "gedit/en")
    head = 'Answer in JSON: {"score": [...]}\n'
    prompt = first_item("gedit").prompt
    assert semantics.parts[0] == f"{head}Two images.\nWas it done: {prompt}"
    assert quality.parts[0] == f"{head}How does it look?"


def test_imgedit_has_a_rubric_per_type(tmp_path: Path) -> None:
    item = first_item("imgedit")
    (question,) = asked(tmp_path, "imgedit")
    assert question.parts[0] == f"{item.category}: was {item.prompt} done?"


def test_rise_and_uniredit_fill_what_they_format_and_nothing_else(tmp_path: Path) -> None:
    texts = [question.parts[0] for question in asked(tmp_path / "rise", "rise/2026-04")]
    assert texts == [
        "consist: let it ripen rotten, braces {}",
        "reasoning: let it ripen rotten, braces {}",
        "generation, braces {}",
    ]
    texts = [question.parts[0] for question in asked(tmp_path / "uniredit", "uniredit")]
    assert texts[1:] == [
        "reasoning_w_ref_image: rules\ngo on a red line to the exit, braces {}",
        "generation, braces {}",
    ]


@pytest.mark.parametrize("name", FILES)
def test_own_words_have_every_question_that_the_authors_have(tmp_path: Path, name: str) -> None:
    own, theirs = own_wording(find_benchmark(name)), official(tmp_path, name)
    assert theirs.texts.keys() <= own.texts.keys()
    assert own.origin == "own words"
    assert theirs.origin.startswith(OFFICIAL_PROMPTS[name].file.repository)
    assert own.sha256 != theirs.sha256


def test_every_judged_benchmark_has_words() -> None:
    judged = [each for each in BENCHMARKS.values() if each.scorer == "judge"]
    assert {each.name for each in judged} - OFFICIAL_PROMPTS.keys() == {"wise/verified"}
    for benchmark in judged:
        interview_of(benchmark, own_wording(benchmark), "")


def test_other_words_are_another_wording(tmp_path: Path) -> None:
    before = official(tmp_path, "imgedit")
    path = tmp_path / "checkout" / OFFICIAL_PROMPTS["imgedit"].file.path
    path.write_text(path.read_text().replace("done", "well done"))
    options = ScoringOptions(official=tmp_path / "checkout")
    after = open_wording(find_benchmark("imgedit"), options)
    assert before.sha256 != after.sha256
    assert before.origin == after.origin


def test_words_that_are_not_here_are_fetched_named_or_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPGEN_CACHE", str(tmp_path))
    benchmark = find_benchmark("imgedit")
    with pytest.raises(ScorerError, match="deepgen eval fetch imgedit") as info:
        open_wording(benchmark, ScoringOptions())
    assert "--own-words" in str(info.value)
    assert "\n" not in str(info.value)
    assert open_wording(benchmark, ScoringOptions(own_words=True)).origin == "own words"
    write_official(tmp_path / "benchmarks" / "imgedit_bench" / "official", "imgedit")
    assert open_wording(benchmark, ScoringOptions()).origin.startswith("PKU-YuanGroup/ImgEdit@")


def test_words_other_than_those_fetched_first_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPGEN_CACHE", str(tmp_path))
    folder = tmp_path / "benchmarks" / "imgedit_bench" / "official"
    path = write_official(folder, "imgedit")
    name = OFFICIAL_PROMPTS["imgedit"].file.path
    recorded = {name: hashlib.sha256(path.read_bytes()).hexdigest()}
    (folder / "checksums.json").write_text(json.dumps(recorded))
    benchmark = find_benchmark("imgedit")
    open_wording(benchmark, ScoringOptions())
    path.write_text(path.read_text() + " ")
    with pytest.raises(ScorerError, match="is another version"):
        open_wording(benchmark, ScoringOptions())


def test_a_file_with_other_gaps_is_refused_before_it_is_asked() -> None:
    wording = Wording(origin="a file", texts={"question": parse_template("{prompt} {new}")})
    with pytest.raises(ScorerError, match="has a gap 'new', expected only prompt"):
        wording.fill("question", prompt="p")


def test_a_file_without_the_question_is_refused(tmp_path: Path) -> None:
    path = write_official(tmp_path, "rise/2026-04")
    path.write_text("prompt_consist = 'x'\n")
    with pytest.raises(ScorerError, match="holds no text 'prompt_"):
        open_wording(find_benchmark("rise"), ScoringOptions(official=tmp_path))
    with pytest.raises(ScorerError, match="git clone"):
        open_wording(find_benchmark("gedit"), ScoringOptions(official=tmp_path))
