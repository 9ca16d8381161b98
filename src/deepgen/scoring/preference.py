"""Which images of a group are preferred: a judge compares pairs, and each image gets a win rate.

Pref-GRPO (arXiv 2508.20751) is the idea. A judge sees two images of one prompt and names the
better one. Its preference for a position cancels: each image is shown first about as often as
second. A pair without a verdict is missing, and never a tie.
"""

from __future__ import annotations

import hashlib
import random
import re
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Literal

from PIL import Image

from deepgen.errors import ScorerError, reason_of
from deepgen.reading import read_text
from deepgen.scoring.answers import Answer, AnswerStatus, Parse, Unreadable
from deepgen.scoring.judge import HttpJudge, Judge, JudgeConfig
from deepgen.scoring.parsing import after_thinking
from deepgen.scoring.questions import EncodedImage, Question, jpeg_image
from deepgen.scoring.scorer import ScorerInput
from deepgen.scoring.templates import Template, parse_template
from deepgen.threads import bounded_map

Verdict = Literal["first", "second", "tie"]
Pairs = Literal["all", "sparse"]
Pair = tuple[int, int]
"""Images by their place in the group, in the order in which the judge sees them."""

_POINTS: Mapping[Verdict, float] = {"first": 1.0, "tie": 0.5, "second": 0.0}
"""Of a comparison, to the first image; the second one gets the rest."""

MOST_MISSING = 0.1
"""Fraction of the pairs that may be missing."""

LEAST_COMPARED = 5 / 7
"""Fraction of an image's pairs that must have a verdict: 5 of 7 in a group of 8."""

PRIOR_GAMES = 0.2
"""Games that each image drew with an imagined average opponent, so that Bradley-Terry strengths of
images that won or lost every game are finite."""

QUESTION = """\
You are a strict and impartial evaluator. The two images above were both generated from the \
caption below; the first one is Image 1, the second one is Image 2.

Caption: {prompt}

Compare them in three dimensions, and in up to two more that matter for this caption:
1. Semantic consistency: does the image show everything that the caption asks for, and nothing \
that contradicts it? This includes any text that is to be written.
2. Aesthetics: composition, colour, light.
3. Authenticity: no artefacts, no distorted shapes.

Inside <think> and </think>, give each image a score from 1 to 10 in each dimension, with a short \
reason, and add the scores up. Then write exactly one line, one of these two:
<answer>Image 1 is better</answer>
<answer>Image 2 is better</answer>"""

_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.IGNORECASE | re.DOTALL)
_BETTER = re.compile(r"\bimage\s*([12])\s+(?:is|was)\s+(?:\w+\s+)?better\b", re.IGNORECASE)
_TIE = re.compile(r"\b(?:tie|equally good|both are equal)\b", re.IGNORECASE)


def parse_verdict(reply: str) -> Verdict | Unreadable:
    """The verdict in the last answer block, or in what follows the thinking if there is none.

    A reply that names both images as the better one is unreadable.
    """
    blocks = _ANSWER.findall(reply)
    text = blocks[-1] if blocks else after_thinking(reply)
    named = set(_BETTER.findall(text))
    if len(named) > 1:
        return Unreadable("both images are called better")
    if named:
        return "first" if named == {"1"} else "second"
    return "tie" if _TIE.search(text) else Unreadable("no verdict such as 'Image 1 is better'")


def all_pairs(count: int, *, both_orders: bool = False) -> list[Pair]:
    """Every unordered pair once, each image first in about half of its own.

    Image i comes first against the next ``(count - 1) // 2`` images of the ring; of two opposite
    ones the lower index does.
    """
    pairs = [
        (first, (first + step) % count)
        for step in range(1, (count - 1) // 2 + 1)
        for first in range(count)
    ]
    if count % 2 == 0:
        pairs += [(first, first + count // 2) for first in range(count // 2)]
    return pairs + [(second, first) for first, second in pairs] if both_orders else pairs


def sparse_pairs(count: int, rng: random.Random, *, both_orders: bool = False) -> list[Pair]:
    """A random connected graph in which each image is compared with four others (16 pairs of 8).

    A shuffled ring, each image with the next two; it is first against these.
    """
    if count <= 5:
        return all_pairs(count, both_orders=both_orders)
    ring = rng.sample(range(count), count)
    pairs = [
        (ring[place], ring[(place + step) % count]) for step in (1, 2) for place in range(count)
    ]
    return pairs + [(second, first) for first, second in pairs] if both_orders else pairs


def missing_reason(count: int, verdicts: Mapping[Pair, Verdict | None]) -> str:
    """Why verdicts are too few for the whole group; empty if they suffice."""
    valid = sum(each is not None for each in verdicts.values())
    if valid < (1 - MOST_MISSING) * len(verdicts):
        return f"the judge decided {valid} of {len(verdicts)} pairs"
    for image in range(count):
        own = [verdict for pair, verdict in verdicts.items() if image in pair]
        decided = sum(each is not None for each in own)
        if decided < ceil(LEAST_COMPARED * len(own)):
            return f"the judge decided {decided} of {len(own)} pairs of image {image}"
    return ""


def win_rates(count: int, verdicts: Mapping[Pair, Verdict | None]) -> list[float]:
    """``(wins + ties / 2) / comparisons`` of each image, over the pairs with a verdict."""
    wins, games = _counted(count, verdicts)
    played = [sum(games[own, other] for other in range(count)) for own in range(count)]
    return [won / number for won, number in zip(wins, played, strict=True)]


def _counted(
    count: int, verdicts: Mapping[Pair, Verdict | None]
) -> tuple[list[float], Counter[tuple[int, int]]]:
    """Wins of each image, ties counted half, and comparisons of each two, in both orders."""
    wins = [0.0] * count
    games: Counter[tuple[int, int]] = Counter()
    for (first, second), verdict in verdicts.items():
        if verdict is None:
            continue
        points = _POINTS[verdict]
        wins[first] += points
        wins[second] += 1 - points
        games[first, second] += 1
        games[second, first] += 1
    return wins, games


def bradley_terry(count: int, verdicts: Mapping[Pair, Verdict | None]) -> list[float]:
    """Each image's expected win rate against all others, by Bradley-Terry strengths.

    Fairer than win rates where opponents differ. The mean over the group is exactly 1/2.
    """
    strengths = bradley_terry_strengths(count, verdicts)
    return [
        sum(own / (own + other) for j, other in enumerate(strengths) if j != i) / (count - 1)
        for i, own in enumerate(strengths)
    ]


def bradley_terry_strengths(count: int, verdicts: Mapping[Pair, Verdict | None]) -> list[float]:
    """The p that maximise the likelihood of ``P(i beats j) = p_i / (p_i + p_j)`` and a weak prior.

    Found by Hunter's minorisation-maximisation (Annals of Statistics 2004).
    """
    wins, games = _counted(count, verdicts)
    wins = [PRIOR_GAMES / 2 + each for each in wins]
    strengths = [1.0] * count
    for _ in range(1000):
        updated = [
            wins[i]
            / (
                PRIOR_GAMES / (strengths[i] + 1)
                + sum(
                    games[i, j] / (strengths[i] + strengths[j]) for j in range(count) if games[i, j]
                )
            )
            for i in range(count)
        ]
        change = max(abs(new / old - 1) for new, old in zip(updated, strengths, strict=True))
        strengths = updated
        if change < 1e-12:
            break
    return strengths


@dataclass(slots=True)
class _Tally:
    """Of the pairs since the last look."""

    verdicts: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)


class PairwisePreference:
    """Win rates of the images of a group, which all have one prompt.

    Args:
        judge: Sees two images, then the question.
        question: Has the slot ``prompt``.
        pairs: All of a group, or only four of each image.
        both_orders: Whether each pair is shown in both orders.
        concurrency: Questions about one group at a time.
    """

    name = "preference"
    bounds = (0.0, 1.0)

    def __init__(
        self,
        judge: Judge,
        question: Template,
        *,
        pairs: Pairs = "all",
        both_orders: bool = False,
        concurrency: int = 1,
    ) -> None:
        self.judge = judge
        self.question = question
        self.pairs: Pairs = pairs
        self.both_orders = both_orders
        self.concurrency = concurrency
        self._tally = _Tally()

    @property
    def identity(self) -> Mapping[str, str]:
        """The requested judge, the hash of the question, and which pairs it sees."""
        judge = self.judge
        return {
            "judge": judge.config.model if isinstance(judge, HttpJudge) else judge.name,
            "question_sha256": self.question.sha256,
            "pairs": f"{self.pairs}, {'both orders' if self.both_orders else 'one order'}",
        }

    def score(self, inputs: Sequence[ScorerInput]) -> list[Answer[float]]:
        """One number per image of the group; too few verdicts leave all of them without.

        Raises:
            ScorerError: The judge cannot be asked any more.
            ValueError: The inputs are no group.
        """
        count, prompts = len(inputs), {each.prompt for each in inputs}
        if count < 2 or len(prompts) != 1:
            raise ValueError(
                f"a group is two or more images of one prompt, got {count} images of "
                f"{len(prompts)} prompts"
            )
        pairs = self._pairs(count, prompts.pop())
        encoded = [jpeg_image(each.image) for each in inputs]
        asked = bounded_map(
            lambda pair: self._ask(inputs[0].prompt, encoded[pair[0]], encoded[pair[1]]),
            pairs,
            workers=self.concurrency,
        )
        answers = dict(zip(pairs, asked, strict=True))
        verdicts = {pair: answer.value for pair, answer in answers.items()}
        reason = missing_reason(count, verdicts)
        if reason:
            failed = next(each for each in answers.values() if each.value is None)
            reason = f"{reason}; one of the others: {failed.reason}"
            return [Answer(status=failed.status, reason=reason) for _ in inputs]
        values = (win_rates if self.pairs == "all" else bradley_terry)(count, verdicts)
        return [
            Answer(status=AnswerStatus.SCORED, value=value, model=self.judge.name)
            for value in values
        ]

    def check(self) -> None:
        """See that the judge answers, sees images, and prefers what was asked for.

        Raises:
            ScorerError: It does not.
        """
        if isinstance(self.judge, HttpJudge):
            self.judge.check()
        red, blue = (jpeg_image(Image.new("RGB", (64, 64), color)) for color in ("red", "blue"))
        for images, expected in (((red, blue), "first"), ((blue, red), "second")):
            answer = self._ask("an image filled with plain red", *images)
            if answer.value != expected:
                said = answer.reply.strip()[:80] or answer.reason
                raise ScorerError(
                    f"the judge {self.judge.name} was shown plain red and plain blue for the "
                    f"caption of plain red, and its verdict was {answer.value or 'missing'} "
                    f"({said!r}), expected {expected}; choose another judge or question"
                )
        self.take_metrics()

    def take_metrics(self) -> dict[str, float]:
        """Fractions of the pairs since the last call: missing, ties, and of the decided ones those
        that the first image won (1/2 for a judge without a preference for a position)."""
        with self._tally.lock:
            counts, self._tally.verdicts = self._tally.verdicts, Counter()
        pairs, decided = counts.total(), counts["first"] + counts["second"]
        if not pairs:
            return {}
        found = {"missing": counts["missing"] / pairs, "ties": counts["tie"] / pairs}
        return found | ({"first_won": counts["first"] / decided} if decided else {})

    def _pairs(self, count: int, prompt: str) -> list[Pair]:
        if self.pairs == "all":
            return all_pairs(count, both_orders=self.both_orders)
        # The same pairs for the same prompt, so that a replayed rollout has the same reward.
        seed = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()
        return sparse_pairs(count, random.Random(seed), both_orders=self.both_orders)

    def _ask(self, prompt: str, first: EncodedImage, second: EncodedImage) -> Answer[Verdict]:
        text = self.question.fill({"prompt": prompt})
        parse: Parse[Verdict] = parse_verdict
        answer: Answer[Verdict] = self.judge.ask(Question(parts=(first, second, text)), parse)
        with self._tally.lock:
            self._tally.verdicts[answer.value or "missing"] += 1
        return answer


def create_scorer(
    *,
    url: str,
    model: str,
    question: str = "",
    pairs: Pairs = "all",
    both_orders: bool = False,
    concurrency: int = 16,
    timeout_seconds: float = 90.0,
    max_tokens: int = 2048,
) -> PairwisePreference:
    """Win rates by a judge behind chat completions.

    Args:
        url: Up to and without ``/chat/completions``.
        question: File with another question, such as the judge's own; it has the slot ``{prompt}``.
        concurrency: Requests in flight, of all groups together.

    Raises:
        ScorerError: The file cannot be used, or the settings cannot.
    """
    text = QUESTION
    if question:
        try:
            text = read_text(question)
        except (OSError, ValueError) as error:
            raise ScorerError(
                f"the question {question} cannot be read: {reason_of(error)}"
            ) from None
    template = parse_template(text)
    if template.slots != {"prompt"}:
        raise ScorerError(
            f"the question of the preference has the slots {sorted(template.slots)}, expected "
            "exactly {prompt}"
        )
    try:
        config = JudgeConfig(
            base_url=url,
            model=model,
            max_tokens=(max_tokens,),
            concurrency=concurrency,
            timeout_seconds=timeout_seconds,
            request_attempts=3,
            reply_attempts=2,
            retry_parameters={"temperature": 0.7, "seed": 1},
        )
    except ValueError as error:
        raise ScorerError(f"the judge cannot be asked: {error}") from None
    # No cache: a policy that learns never makes the same image twice.
    judge = HttpJudge(config, None)
    return PairwisePreference(
        judge, template, pairs=pairs, both_orders=both_orders, concurrency=concurrency
    )
