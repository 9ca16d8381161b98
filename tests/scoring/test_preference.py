from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from deepgen.errors import ScorerError
from deepgen.scoring.answers import Answer, AnswerStatus, Parse, Unreadable, parsed_answer
from deepgen.scoring.preference import (
    PRIOR_GAMES,
    PairwisePreference,
    all_pairs,
    bradley_terry_strengths,
    create_scorer,
    missing_reason,
    parse_verdict,
    sparse_pairs,
    win_rates,
)
from deepgen.scoring.questions import Question
from deepgen.scoring.scorer import ScorerInput
from deepgen.scoring.templates import parse_template
from tests.scoring.servers import Heard, Said, completion, serve

FIRST, SECOND = "<answer>Image 1 is better</answer>", "<answer>Image 2 is better</answer>"


class ShadeJudge:
    """Sees the shades of the two images, and replies by a rule."""

    name = "shades"

    def __init__(self, reply: Callable[[int, int], str]) -> None:
        self.reply = reply
        self.asked: list[tuple[int, int]] = []

    def ask(self, question: Question, parse: Parse[Any]) -> Answer[Any]:
        import io

        first, second = (
            Image.open(io.BytesIO(part.data)).convert("L").getpixel((4, 4))
            for part in question.parts
            if not isinstance(part, str)
        )
        assert isinstance(first, int)
        assert isinstance(second, int)
        self.asked.append((first, second))
        return parsed_answer(parse(self.reply(first, second)))


def brighter(first: int, second: int) -> str:
    return FIRST if first > second else SECOND


def group(count: int) -> list[ScorerInput]:
    """Images from dark to bright."""
    return [
        ScorerInput(image=Image.new("RGB", (8, 8), (30 * step,) * 3), prompt="light")
        for step in range(count)
    ]


def preference(reply: Callable[[int, int], str], **options: Any) -> PairwisePreference:
    return PairwisePreference(ShadeJudge(reply), parse_template("which? {prompt}"), **options)


def values(answers: Sequence[Answer[float]]) -> list[float]:
    assert all(each.status is AnswerStatus.SCORED for each in answers), answers
    return [each.value for each in answers if each.value is not None]


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_every_pair_is_compared_once_and_each_image_is_first_about_half_of_the_time(
    count: int,
) -> None:
    pairs = all_pairs(count)
    assert sorted(tuple(sorted(pair)) for pair in pairs) == list(combinations(range(count), 2))
    first = Counter(pair[0] for pair in pairs)
    assert max(first[i] for i in range(count)) - min(first[i] for i in range(count)) <= 1
    both = all_pairs(count, both_orders=True)
    assert len(both) == len(set(both)) == count * (count - 1)


def test_the_published_orientation_of_a_group_of_eight() -> None:
    first = Counter(pair[0] for pair in all_pairs(8))
    assert [first[image] for image in range(8)] == [4, 4, 4, 4, 3, 3, 3, 3]
    assert {(0, 1), (0, 2), (0, 3), (0, 4), (7, 0), (7, 1), (7, 2)} <= set(all_pairs(8))


def test_sparse_pairs_compare_each_image_with_four_others_and_connect_all() -> None:
    pairs = sparse_pairs(8, random.Random(3))
    assert len({frozenset(pair) for pair in pairs}) == 16
    assert set(Counter(image for pair in pairs for image in pair).values()) == {4}
    assert set(Counter(pair[0] for pair in pairs).values()) == {2}
    reached = {0}
    for _ in range(8):
        reached |= {image for pair in pairs if reached & set(pair) for image in pair}
    assert reached == set(range(8))


def test_a_strict_order_gives_equally_spaced_win_rates() -> None:
    found = values(preference(brighter).score(group(8)))
    assert found == pytest.approx([rank / 7 for rank in range(8)])


def test_a_judge_that_only_ties_gives_one_half() -> None:
    found = preference(lambda first, second: "<answer>tie</answer>").score(group(8))
    assert values(found) == [0.5] * 8


def test_a_judge_that_always_prefers_the_first_image_moves_win_rates_by_a_fourteenth() -> None:
    scorer = preference(lambda first, second: FIRST)
    found = values(scorer.score(group(8)))
    assert found == pytest.approx([4 / 7] * 4 + [3 / 7] * 4)
    assert scorer.take_metrics() == {"missing": 0.0, "ties": 0.0, "first_won": 1.0}
    assert values(preference(lambda *_: FIRST, both_orders=True).score(group(8))) == [0.5] * 8


def test_bradley_terry_of_a_sparse_group_follows_the_order_and_has_the_mean_one_half() -> None:
    found = values(preference(brighter, pairs="sparse").score(group(8)))
    assert sum(found) / 8 == pytest.approx(0.5)
    assert all(0 < each < 1 for each in found)
    ranks = [sorted(found).index(each) for each in found]
    assert sum((place - rank) ** 2 for place, rank in enumerate(ranks)) <= 10  # Spearman 0.88


def test_bradley_terry_strengths_maximise_the_likelihood() -> None:
    rng = random.Random(1)
    pairs = sparse_pairs(8, rng, both_orders=True)
    verdicts: dict[Any, Any] = {pair: rng.choice(["first", "second", "tie"]) for pair in pairs}
    strengths = bradley_terry_strengths(8, verdicts)
    for image, own in enumerate(strengths):
        # The derivative of the log-likelihood by log p_i: games won minus games expected.
        won = sum(
            {"first": float(pair[0] == image), "second": float(pair[1] == image), "tie": 0.5}[each]
            for pair, each in verdicts.items()
            if image in pair
        )
        others = [sum(pair) - image for pair in pairs if image in pair]
        expected = sum(own / (own + strengths[other]) for other in others)
        prior = PRIOR_GAMES * (0.5 - own / (own + 1))
        assert won - expected + prior == pytest.approx(0, abs=1e-6)


def test_missing_verdicts_are_no_ties() -> None:
    verdicts: dict[Any, Any] = dict.fromkeys(all_pairs(3), "first") | {(0, 1): None}
    assert win_rates(3, verdicts) == [0.0, 1.0, 0.5]


@pytest.mark.parametrize(("missing", "reason"), [(2, ""), (3, "the judge decided 25 of 28 pairs")])
def test_a_tenth_of_the_pairs_may_be_missing(missing: int, reason: str) -> None:
    pairs = all_pairs(8)
    gone = [pairs[0], pairs[10], pairs[20]][:missing]
    verdicts: dict[Any, Any] = {pair: None if pair in gone else "first" for pair in pairs}
    assert missing_reason(8, verdicts) == reason


def test_each_image_needs_five_verdicts_of_seven() -> None:
    pairs = all_pairs(40)
    own = [pair for pair in pairs if 7 in pair]
    verdicts: dict[Any, Any] = dict.fromkeys(pairs, "first") | dict.fromkeys(own[:12])
    assert missing_reason(40, verdicts) == "the judge decided 27 of 39 pairs of image 7"


def test_too_many_unreadable_replies_leave_the_whole_group_without_a_number() -> None:
    scorer = preference(lambda first, second: "hard to say" if first == 0 else FIRST)
    found = scorer.score(group(8))
    assert {each.status for each in found} == {AnswerStatus.UNREADABLE}
    assert all(each.value is None for each in found)
    assert "decided 24 of 28 pairs; one of the others: no verdict" in found[0].reason
    assert scorer.take_metrics()["missing"] == pytest.approx(4 / 28)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (FIRST, "first"),
        (
            "<think>Image 2 is better in colour</think>\n<ANSWER> image 1 is BETTER </ANSWER>",
            "first",
        ),
        ("<answer>Image 1 is better</answer> no: <answer>Image 2 is better.</answer>", "second"),
        ("<think>Image 1 is better?</think> So Image 2 is clearly better.", "second"),
        ("Image 2 is better", "second"),
        ("<answer>both are equally good</answer>", "tie"),
    ],
)
def test_verdicts_are_read_with_tolerance(reply: str, expected: str) -> None:
    assert parse_verdict(reply) == expected


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "Both images have their charm.",
        "<answer>Image 1 is better. Image 2 is better.</answer>",
        "<think>Image 1 is better, because",
        "<answer>Image 3 is better</answer>",
    ],
)
def test_what_names_no_or_both_images_is_unreadable(reply: str) -> None:
    assert isinstance(parse_verdict(reply), Unreadable)


def test_a_malformed_reply_is_requested_once_more_with_another_seed_and_temperature() -> None:
    def reply(heard: Heard) -> Said:
        return completion("prose" if heard.body["temperature"] == 0 else FIRST)

    with serve(reply) as server:
        scorer = create_scorer(url=f"{server.url}/v1", model="stub")
        found = values(scorer.score(group(2)))
    assert found == [1.0, 0.0]
    asked = [(each.body["temperature"], each.body.get("seed")) for each in server.heard]
    assert asked == [(0, None), (0.7, 1)]
    kinds = [part["type"] for part in server.heard[0].body["messages"][0]["content"]]
    assert kinds == ["image_url", "image_url", "text"]
    assert "Caption: light" in json.dumps(server.heard[0].body)


def test_a_judge_that_answers_prose_is_found_before_any_image_is_made() -> None:
    def reply(heard: Heard) -> Said:
        images = sum(part["type"] == "image_url" for part in heard.body["messages"][0]["content"])
        if images == 1:  # The probe of the judge itself, which it passes.
            asked = len(server.heard)
            return completion(("red", "green", "blue")[(asked - 1) % 3])
        return completion("What a lovely pair of images!")

    with serve(reply) as server:
        scorer = create_scorer(url=f"{server.url}/v1", model="stub", concurrency=1)
        with pytest.raises(ScorerError, match=r"its verdict was missing \('What a lovely pair"):
            scorer.check()


def test_a_canary_that_is_judged_wrongly_is_an_error_and_one_that_is_judged_rightly_is_not() -> (
    None
):
    preference(brighter).check()
    with pytest.raises(ScorerError, match=r"its verdict was first .* expected second"):
        preference(lambda first, second: FIRST).check()


def test_a_question_without_its_slot_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "question.txt"
    file.write_text("Which is better?")
    with pytest.raises(ScorerError, match=r"slots \[\], expected exactly \{prompt\}"):
        create_scorer(url="http://localhost/v1", model="stub", question=str(file))
    with pytest.raises(ScorerError, match="cannot be read"):
        create_scorer(url="http://localhost/v1", model="stub", question=str(tmp_path / "none"))


def test_images_of_several_prompts_are_no_group() -> None:
    with pytest.raises(ValueError, match="3 images of 2 prompts"):
        preference(brighter).score(
            [*group(2), ScorerInput(image=Image.new("RGB", (8, 8)), prompt="other")]
        )
