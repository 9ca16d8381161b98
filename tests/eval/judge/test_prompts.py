from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from deepgen.errors import ScorerError
from deepgen.eval.judge.prompts import (
    JudgePrompts,
    load_judge_prompts,
    paraphrased_prompts,
)
from deepgen.eval.registry import BENCHMARKS, create_scorer, find_benchmark
from deepgen.eval.report.results import describe, to_markdown
from deepgen.eval.run.scorer_identity import read_scorer, set_scorer
from deepgen.eval.scorer import ScoringOptions
from deepgen.scoring.questions import Question
from deepgen.scoring.templates import parse_template
from tests.eval.judge.images import draw, protocol_of
from tests.eval.judge.official import FILES, official_of, write_official
from tests.eval.judge.test_protocols import first_item, point_item, rise_item, uniredit_item
from tests.eval.stored_runs import geneval_items, make_run


def official(folder: Path, name: str) -> JudgePrompts:
    write_official(folder / "checkout", name)
    return load_judge_prompts(find_benchmark(name), ScoringOptions(official=folder / "checkout"))


def asked(folder: Path, name: str) -> list[Question]:
    """The questions about an item of ours in the official prompts."""
    item = {
        "unigenbench/en": point_item,
        "rise/2026-04": lambda: rise_item("temporal_reasoning", reference="rotten"),
        "uniredit": uniredit_item,
    }.get(name, lambda: first_item(name))()
    generated = draw(folder, item)
    if name == "uniredit":
        right = folder / "data" / item.fields["reference_image"]
        right.parent.mkdir(parents=True, exist_ok=True)
        right.write_bytes(generated.path.read_bytes())
    benchmark = find_benchmark(name)
    protocol = protocol_of(benchmark, official(folder, name), "some judge")
    return [each.question for each in protocol.questions(generated)]


def test_wise_is_judged_with_the_official_prompts(tmp_path: Path) -> None:
    item = first_item("wise/legacy")
    (question,) = asked(tmp_path, "wise/legacy")
    assert question.system == "Be a strict judge of it all."
    expected = f'Judge "{item.prompt}", which means\n{item.fields["Explanation"]}. A line each.'
    assert question.parts[0] == expected


def test_corebench_is_judged_under_the_official_rules(tmp_path: Path) -> None:
    assert asked(tmp_path, "corebench")[0].system == "\nAnswer yes or no.\n"


def test_unigenbench_quotes_the_official_definitions(tmp_path: Path) -> None:
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
        "reasoning_w_ref_image: rules\nmore rules a red line to the exit, braces {}",
        "generation, braces {}",
    ]


@pytest.mark.parametrize("name", FILES)
def test_paraphrased_prompts_have_every_question_of_the_official_ones(
    tmp_path: Path, name: str
) -> None:
    ours, theirs = paraphrased_prompts(find_benchmark(name)), official(tmp_path, name)
    assert theirs.texts.keys() <= ours.texts.keys()
    assert ours.origin == "paraphrased"
    assert theirs.origin.startswith(official_of(name).file.repository)
    assert ours.sha256 != theirs.sha256


def test_every_judged_benchmark_has_judge_prompts() -> None:
    judged = [each for each in BENCHMARKS.values() if each.scorer == "judge"]
    without = {
        each.name for each in judged if each.judge_prompts and not each.judge_prompts.official
    }
    assert without == {"wise/verified"}
    for benchmark in judged:
        protocol_of(benchmark, paraphrased_prompts(benchmark))


def test_other_texts_are_other_judge_prompts(tmp_path: Path) -> None:
    before = official(tmp_path, "imgedit")
    path = tmp_path / "checkout" / official_of("imgedit").file.path
    path.write_text(path.read_text().replace("done", "well done"))
    options = ScoringOptions(official=tmp_path / "checkout")
    after = load_judge_prompts(find_benchmark("imgedit"), options)
    assert before.sha256 != after.sha256
    assert before.origin == after.origin


def test_judge_prompts_that_are_not_here_are_fetched_named_or_paraphrased(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPGEN_CACHE", str(tmp_path))
    benchmark = find_benchmark("imgedit")
    with pytest.raises(ScorerError, match="deepgen eval fetch imgedit") as info:
        load_judge_prompts(benchmark, ScoringOptions())
    assert "--paraphrased-prompts" in str(info.value)
    assert "\n" not in str(info.value)
    assert (
        load_judge_prompts(benchmark, ScoringOptions(paraphrased_prompts=True)).origin
        == "paraphrased"
    )
    write_official(tmp_path / "benchmarks" / "imgedit_bench" / "official", "imgedit")
    assert load_judge_prompts(benchmark, ScoringOptions()).origin.startswith(
        "PKU-YuanGroup/ImgEdit@"
    )


def test_a_file_other_than_the_one_fetched_first_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPGEN_CACHE", str(tmp_path))
    folder = tmp_path / "benchmarks" / "imgedit_bench" / "official"
    path = write_official(folder, "imgedit")
    name = official_of("imgedit").file.path
    recorded = {name: hashlib.sha256(path.read_bytes()).hexdigest()}
    (folder / "checksums.json").write_text(json.dumps(recorded))
    benchmark = find_benchmark("imgedit")
    load_judge_prompts(benchmark, ScoringOptions())
    path.write_text(path.read_text() + " ")
    with pytest.raises(ScorerError, match="is another version"):
        load_judge_prompts(benchmark, ScoringOptions())


def test_a_report_says_where_the_hash_of_judge_prompts_was_first_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPGEN_CACHE", str(tmp_path))
    replies = tmp_path / "replies.json"
    replies.write_text("{}")
    benchmark = find_benchmark("imgedit")
    options = ScoringOptions(judge_url=f"scripted:{replies}")
    path = write_official(tmp_path / "benchmarks" / "imgedit_bench" / "official", "imgedit")
    found = hashlib.sha256(path.read_bytes()).hexdigest()

    first = create_scorer(benchmark, options)
    (note,) = first.notes
    assert f"SHA-256 {found} was first seen by this run" in note
    # From now on that hash is expected.
    later = create_scorer(benchmark, options)
    assert "was recorded when first seen" in later.notes[0]
    assert later.identity == first.identity
    path.write_text(path.read_text() + " ")
    with pytest.raises(ScorerError, match="is another version"):
        create_scorer(benchmark, options)

    # The note of the process that started scoring stays with the run, and is in its report.
    run = make_run(tmp_path / "run", geneval_items())
    set_scorer(run.folder, first.identity, first.notes)
    set_scorer(run.folder, later.identity, later.notes)
    report = describe(replace(run, scorer=read_scorer(run.folder.path)), "now")
    assert note in report["notes"]
    assert note in to_markdown(report)


def test_a_checkout_without_a_known_hash_is_named_and_left_alone(tmp_path: Path) -> None:
    before = official(tmp_path, "imgedit")
    assert "was first seen by this run" in before.note
    assert official(tmp_path, "imgedit").note == before.note
    assert paraphrased_prompts(find_benchmark("imgedit")).note == ""


def test_a_file_with_other_placeholders_is_refused_before_any_question() -> None:
    prompts = JudgePrompts(origin="a file", texts={"question": parse_template("{prompt} {new}")})
    with pytest.raises(ScorerError, match="has a placeholder 'new', expected only prompt"):
        prompts.fill("question", prompt="p")


def test_a_file_without_the_question_is_refused(tmp_path: Path) -> None:
    path = write_official(tmp_path, "rise/2026-04")
    path.write_text("prompt_consist = 'x'\n")
    with pytest.raises(ScorerError, match="holds no text 'prompt_"):
        load_judge_prompts(find_benchmark("rise"), ScoringOptions(official=tmp_path))
    with pytest.raises(ScorerError, match="git clone"):
        load_judge_prompts(find_benchmark("gedit"), ScoringOptions(official=tmp_path))
