from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from deepgen.scoring.answers import Unreadable
from deepgen.scoring.parsing import (
    CheckPoints,
    WiseScores,
    after_thinking,
    criterion_lines,
    parse_check_points,
    parse_criteria,
    parse_rise,
    parse_uniredit,
    parse_viescore,
    parse_wise_legacy,
    parse_wise_verified,
    parse_yes_no,
)

NOTHING = object()
"""In place of a value: the reply is unreadable."""

READABLE_BY_NOBODY = [
    "",
    "   \n",
    "I'm sorry, but I can't assist with that request.",
    "A fine image; the light is warm and the cat looks pleased.",
    "<think>The cat is there, so the answer is yes. Final Score: 5. Score: 1",
]


def two_points(reply: str) -> CheckPoints | Unreadable:
    return parse_check_points(reply, 2)


def rise(reply: str) -> int | Unreadable:
    return parse_rise(reply, range(1, 6))


def logical(reply: str) -> int | Unreadable:
    return parse_rise(reply, range(2))


def is_read_as(value: Any, parsed: Any) -> bool:
    return isinstance(parsed, Unreadable) if value is NOTHING else bool(parsed == value)


PARSERS: list[Callable[[str], Any]] = [
    two_points,
    parse_viescore,
    parse_criteria,
    parse_wise_legacy,
    parse_wise_verified,
    parse_yes_no,
    rise,
    logical,
    parse_uniredit,
]

BLOCK = (
    "<prompt>a cat and a dog</prompt>\n<checkpoint>['Relation', 'Attribute']</checkpoint>\n"
    "<analysis>{}</analysis>\n<score>{}</score>"
)


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.__name__)
@pytest.mark.parametrize("reply", READABLE_BY_NOBODY)
def test_no_parser_finds_a_score_where_there_is_none(
    parser: Callable[[str], Any], reply: str
) -> None:
    assert isinstance(parser(reply), Unreadable)


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.__name__)
def test_no_reply_makes_a_parser_raise(parser: Callable[[str], Any]) -> None:
    dice = random.Random(3)
    pieces = [
        *"<>[]{}()\"'\\:,.-*/ \n0159²٣\x00\ud83d",
        *["<score>", "</score>", "<analysis>", "</analysis>", "Final Score", "Score", "</think>"],
        *[
            "Consistency",
            "Realism",
            "Aesthetic Quality",
            '{"score": [',
            "yes",
            "no",
            "1e999",
            "NaN",
        ],
    ]
    for _ in range(300):
        parser("".join(dice.choices(pieces, k=dice.randrange(1, 40))))
    for deep in ("[" * 5000, "{" * 5000, '{"a":' * 5000, "-" * 5000, "9" * 5000):
        parser(BLOCK.format(deep, deep))
        parser(f'{{"score": [{deep}, 1]}} Final Score: {deep} Prompt: {deep}')


def test_what_is_thought_aloud_is_no_answer() -> None:
    assert after_thinking("<think>yes</think>no") == "no"
    assert after_thinking("yes</think>no") == "no"
    assert after_thinking("<think>yes") == ""
    assert after_thinking("no") == "no"
    assert parse_yes_no("<think>It could be yes.</think>\nNo.") == 0
    assert rise("<think>Final Score: 1?</think> Final Score: 4") == 4


@pytest.mark.parametrize(
    ("reply", "scores"),
    [
        (BLOCK.format("['both there', 'brown']", "[1, 0]"), (1, 0)),
        ("Here it is:\n```xml\n" + BLOCK.format('["a", "b"]', "[\n1,\n1]") + "\n```Done.", (1, 1)),
        (BLOCK.format("['a', 'b']", "[1, 0, 1]"), NOTHING),
        (BLOCK.format("['a']", "[1, 0]"), NOTHING),
        (BLOCK.format("['the cat's tail', 'b']", "[1, 0]"), NOTHING),
        (BLOCK.format("['a', 'b']", "[1, 2]"), NOTHING),
        (BLOCK.format("['a', 'b']", "[1, 0.5]"), NOTHING),
        (BLOCK.format("['a', 'b']", "['1', '0']"), NOTHING),
        (BLOCK.format("['a', 'b']", "1, 0"), NOTHING),
        (BLOCK.format("['a', 'b']", "[1, 0").removesuffix("</score>"), NOTHING),
        (BLOCK.format("['a', 'b']", "__import__('os').getcwd()"), NOTHING),
    ],
)
def test_unigenbench_takes_two_lists_of_the_right_length(reply: str, scores: Any) -> None:
    parsed = two_points(reply)
    assert is_read_as(scores, parsed.scores if isinstance(parsed, CheckPoints) else parsed)


def test_unigenbench_keeps_the_analysis() -> None:
    parsed = two_points(BLOCK.format("['both there', 'brown']", "[1, 0]"))
    assert parsed == CheckPoints(analysis=("both there", "brown"), scores=(1, 0))


@pytest.mark.parametrize(
    ("reply", "pair"),
    [
        ('{"reasoning": "well done", "score": [8, 9]}', (8.0, 9.0)),
        ('{"score" : [7.5, 0], "reasoning": "two\nlines"}', (7.5, 0.0)),
        ('My verdict {so far}:\n```json\n{"score": [3, 10], "reasoning": ""}\n```', (3.0, 10.0)),
        ('{"score": [8, 9]} or rather {"score": [1, 1]}', (8.0, 9.0)),
        ('{"score": [8]}', NOTHING),
        ('{"score": [8, 9, 10]}', NOTHING),
        ('{"score": [8, 11]}', NOTHING),
        ('{"score": [-1, 5]}', NOTHING),
        ('{"score": [NaN, 5]}', NOTHING),
        ('{"score": [true, 5]}', NOTHING),
        ('{"score": ["8", "9"]}', NOTHING),
        ('{"score": 8}', NOTHING),
        ('{"score": [8, 9], "reasoning": "cut in the mid', NOTHING),
        ("score: [8, 9]", NOTHING),
    ],
)
def test_viescore_takes_two_numbers_from_json(reply: str, pair: Any) -> None:
    assert is_read_as(pair, parse_viescore(reply))


LINES = "Brief reasoning: fine work\nPrompt Compliance: 5\nVisual Naturalness: 4\nDetail: 3"


@pytest.mark.parametrize(
    ("reply", "criteria", "official"),
    [
        (LINES, (5, 4, 3), (5, 4, 3)),
        (LINES.replace("\n", "  \n\n  "), (5, 4, 3), (5, 4, 3)),
        (f"Here is what I think.\n{LINES}\nHope this helps!", (5, 4, 3), (5, 4, 3)),
        (LINES.replace("Detail", "**Detail**"), (5, 4, 3), (5, 4, 3)),
        (LINES.replace(": 3", ": **3**"), NOTHING, (5, 4)),
        (LINES.replace(": 3", ": 3/5"), NOTHING, (5, 4)),
        (LINES.replace(": 3", ":3"), NOTHING, (5, 4)),
        (LINES.replace(": 3", ": of the fur: 3"), NOTHING, (5, 4)),
        (LINES.replace(": 3", ": ³"), NOTHING, (5, 4)),
        (LINES.replace(": 3", ": 7"), NOTHING, (5, 4, 7)),
        (LINES.replace(": 3", ": 0"), NOTHING, (5, 4, 0)),
        (LINES + "\nOverall: 4", NOTHING, (5, 4, 3, 4)),
        ("Prompt Compliance: 5", NOTHING, (5,)),
    ],
)
def test_imgedit_takes_three_lines(reply: str, criteria: Any, official: Any) -> None:
    assert is_read_as(criteria, parse_criteria(reply))
    assert criterion_lines(reply) == official


@pytest.mark.parametrize(
    ("reply", "scores"),
    [
        ("Consistency: 2\nRealism: 1\nAesthetic Quality: 0", (2, 1, 0)),
        ("**Consistency:** 2\n**Realism**: 1\n**Aesthetic Quality** : **0**", (2, 1, 0)),
        ("CONSISTENCY 2\nrealism 1\naesthetic quality 0", (2, 1, 0)),
        (
            "Well.\n\n1. Consistency: 2, it fits.\n2. Realism: 1.\n3. Aesthetic Quality: 0\n",
            (2, 1, 0),
        ),
        ("2\n1\n0", (2, 1, 0)),
        ("Consistency\uff1a2\nRealism\uff1a1\nAesthetic Quality\uff1a0", (2, 1, 0)),
        ("Realism: 2? No.\nConsistency: 2\nRealism: 1\nAesthetic Quality: 0", (2, 1, 0)),
        ("My scores:\n 2\n1 \n\n0\n", (2, 1, 0)),
        ("Consistency: 2\nRealism: 1", NOTHING),
        ("Consistency: 2\nRealism: 1\nAesthetic Quality: 3", NOTHING),
        ("Consistency: 2\nRealism: 1\nAesthetic Quality: 10", NOTHING),
        ("Consistency: 1.5\nRealism: 1\nAesthetic Quality: 2", NOTHING),
        ("2\n1", NOTHING),
        ("2\n1\n0\n2", NOTHING),
        ("2\n1\n5", NOTHING),
    ],
)
def test_wise_legacy_takes_three_digits(reply: str, scores: Any) -> None:
    parsed = parse_wise_legacy(reply)
    if scores is not NOTHING:
        consistency, realism, quality = scores
        scores = WiseScores(consistency=consistency, realism=realism, aesthetic_quality=quality)
    assert is_read_as(scores, parsed)


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("Score: 1", 1),
        ("The bridge is right.\n**Score:** 0.", 0),
        ("score: **1**", 1),
        ("Score: 1\nScore: 1", 1),
        ("Score: 1, or perhaps Score: 0", NOTHING),
        ("The score 1 is for what shows. Score: 0", 0),
        ("Score: 2", NOTHING),
        ("Score: 10", NOTHING),
        ("Score: 0.5", NOTHING),
        ("1", NOTHING),
    ],
)
def test_wise_verified_takes_one_bit(reply: str, score: Any) -> None:
    assert is_read_as(score, parse_wise_verified(reply))


@pytest.mark.parametrize(
    ("reply", "score", "lower_case_only"),
    [
        ("yes", 1, 1),
        ("no", 0, 0),
        ("Yes", 1, NOTHING),
        ("**YES**.", 1, NOTHING),
        ("The answer is no, I see none.", 0, 0),
        ("no doubt: yes", 1, 1),
        ("nothing of yesterday", NOTHING, NOTHING),
    ],
)
def test_corebench_takes_whole_words(reply: str, score: Any, lower_case_only: Any) -> None:
    assert is_read_as(score, parse_yes_no(reply))
    assert is_read_as(lower_case_only, parse_yes_no(reply, ignore_case=False))


@pytest.mark.parametrize(
    ("reply", "score", "first"),
    [
        ("Final Score: 4", 4, 4),
        ("The shadow moved.\n\n**Final Score:** 5", 5, 5),
        ("**Final Score**:\n\n**3**\n", 3, 3),
        ("final score 2. Good.", 2, 2),
        ("Final Score: 5\nOf 10 images the best.", 5, 5),
        ("Final Score: 4\nFinal Score: 2", 4, 4),
        ("The Final Score weighs all.\nFinal Score: 4", 4, 4),
        ("Final Score: 4, 5", NOTHING, 4),
        ("Final Score: 4\n5", NOTHING, 4),
        ("Final Score: 4/5", 4, 4),
        ("Final Scores: 3.", 3, 3),
        ("Final Score\uff1a5", 5, 5),
        ("Final Score: 4.5", NOTHING, NOTHING),
        ("Final Score: 6", NOTHING, NOTHING),
        ("Final Score: 0", NOTHING, NOTHING),
        ("Final Score: four", NOTHING, NOTHING),
        ("Score: 4", NOTHING, NOTHING),
    ],
)
def test_rise_and_uniredit_take_the_final_score(reply: str, score: Any, first: Any) -> None:
    assert is_read_as(score, rise(reply))
    assert is_read_as(first, parse_uniredit(reply))


def test_rise_has_two_values_for_logic() -> None:
    assert [logical(f"Final Score: {number}") for number in (0, 1)] == [0, 1]
    assert isinstance(logical("Final Score: 5"), Unreadable)
