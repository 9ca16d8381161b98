"""Parsing of judges' replies: one function per benchmark, from text to a value or ``Unreadable``.

None of them raises, whatever the judge wrote, and none guesses: a reply that does not contain
exactly what its benchmark expects is unreadable, and is requested again. Where the official parser
is more lenient, the function says so.
"""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from itertools import islice
from typing import Any

from deepgen.scoring.answers import Unreadable

END_OF_THINKING = "</think>"

# Judges that think in Chinese write the wide one.
COLON = r"[:\uff1a]"

# One digit that is not part of a longer number, perhaps in bold.
DIGIT = r"[*\s]*([0-9])(?![0-9]|\.[0-9])"

# Parsing from every brace takes quadratic time; no reply needs as many as this.
MOST_BRACES = 100


def after_thinking(reply: str) -> str:
    """The reply after the thinking; empty if the thinking did not end.

    Some servers return only the closing tag, since the opening one is part of their prompt.
    """
    _, marked, rest = reply.rpartition(END_OF_THINKING)
    if marked:
        return rest
    return "" if reply.lstrip().startswith("<think>") else reply


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckPoints:
    """UniGenBench: the scores of one image, in the order of its prompt's test points."""

    analysis: tuple[str, ...]
    scores: tuple[int, ...]
    """1 where the test point is fulfilled, else 0."""


def parse_check_points(reply: str, count: int) -> CheckPoints | Unreadable:
    """UniGenBench: the lists inside ``analysis`` and ``score``, both ``count`` long.

    Stricter than the official parser in that scores must be 0 or 1.
    """
    lists = []
    for tag in ("analysis", "score"):
        inside = re.search(rf"<{tag}>(.*?)</{tag}>", after_thinking(reply), re.DOTALL)
        if inside is None:
            return Unreadable(f"no <{tag}> block")
        values = _literal(inside[1].strip())
        if not isinstance(values, list):
            return Unreadable(f"<{tag}> holds no list")
        if len(values) != count:
            return Unreadable(f"<{tag}> has {len(values)} entries, expected {count}")
        lists.append(values)
    analysis, scores = lists
    if not all(type(score) is int and score in (0, 1) for score in scores):
        return Unreadable("a score is neither 0 nor 1")
    return CheckPoints(analysis=tuple(str(each) for each in analysis), scores=tuple(scores))


def parse_viescore(reply: str) -> tuple[float, float] | Unreadable:
    """GEdit-Bench: the two numbers, 0 to 10, of ``score`` in the first JSON object that has it.

    The official scorer puts random numbers in place of what it cannot read.
    """
    found = _json_object_with("score", after_thinking(reply))
    if found is None:
        return Unreadable("no JSON object with a score")
    scores = found["score"]
    if not isinstance(scores, list) or len(scores) != 2:
        return Unreadable("score is not a list of two")
    # bool is a kind of int to Python; NaN fails both comparisons.
    if not all(type(score) in (int, float) and 0 <= score <= 10 for score in scores):
        return Unreadable("a score is not a number from 0 to 10")
    return float(scores[0]), float(scores[1])


def criterion_lines(reply: str) -> tuple[int, ...]:
    """ImgEdit-Bench: the numbers of all ``name: number`` lines, as the official scorer reads them.

    A line counts if it falls at colon-space into exactly two parts of which the second is digits
    only. Any number of lines and any size of number pass.
    """
    lines = [line.strip().split(": ") for line in after_thinking(reply).splitlines()]
    numbers = [parts[1] for parts in lines if len(parts) == 2]
    return tuple(int(digits) for digits in numbers if re.fullmatch("[0-9]{1,9}", digits))


def parse_criteria(reply: str) -> tuple[int, int, int] | Unreadable:
    """ImgEdit-Bench: its three criteria, 1 to 5 each, in order."""
    numbers = criterion_lines(reply)
    if len(numbers) != 3:
        return Unreadable(f"{len(numbers)} lines with a number, expected 3")
    if not all(1 <= number <= 5 for number in numbers):
        return Unreadable("a criterion is not within 1 to 5")
    return numbers[0], numbers[1], numbers[2]


@dataclass(frozen=True, kw_only=True, slots=True)
class WiseScores:
    """WISE, legacy edition: 0, 1 or 2 each."""

    consistency: int
    realism: int
    aesthetic_quality: int


def parse_wise_legacy(reply: str) -> WiseScores | Unreadable:
    """WISE, legacy: three labelled digits, or else three lines that are a bare digit.

    Stricter than the official parser in that labelled digits too must be 0, 1 or 2.
    """
    text = after_thinking(reply)
    labels = ("consistency", "realism", "aesthetic quality")
    labelled = [
        re.findall(rf"{label}[*\s]*{COLON}?{DIGIT}", text, re.IGNORECASE) for label in labels
    ]
    # Of repeated scores the last one counts, as in the official parser.
    found = [digits[-1] for digits in labelled if digits]
    if len(found) != 3:
        found = re.findall(r"^[ \t]*([0-2])[ \t]*$", text, re.MULTILINE)
    if len(found) != 3:
        return Unreadable(f"{len(found)} scores, expected 3")
    consistency, realism, aesthetic_quality = (int(digit) for digit in found)
    if max(consistency, realism, aesthetic_quality) > 2:
        return Unreadable("a score is not within 0 to 2")
    return WiseScores(consistency=consistency, realism=realism, aesthetic_quality=aesthetic_quality)


def parse_wise_verified(reply: str) -> int | Unreadable:
    """WISE, verified: ``Score: 0`` or ``Score: 1``; contradicting itself is unreadable."""
    scores = set(re.findall(rf"score[*\s]*{COLON}{DIGIT}", after_thinking(reply), re.IGNORECASE))
    if len(scores) != 1:
        return Unreadable("two different scores" if scores else "no score")
    digit = scores.pop()
    return int(digit) if digit in "01" else Unreadable("the score is neither 0 nor 1")


def parse_yes_no(reply: str, *, ignore_case: bool = True) -> int | Unreadable:
    """T2I-CoReBench: 1 where the word yes occurs, else 0 where the word no does.

    Args:
        ignore_case: False reads like the official scorer's branch for open judges, which takes
            lower case only.
    """
    flags = re.IGNORECASE if ignore_case else re.NOFLAG
    text = after_thinking(reply)
    if re.search(r"\byes\b", text, flags):
        return 1
    if re.search(r"\bno\b", text, flags):
        return 0
    return Unreadable("neither yes nor no")


def parse_rise(reply: str, scale: range) -> int | Unreadable:
    """RISEBench: the one number after the first "Final Score" that any follows.

    The official run stops at two numbers there, and takes 4.5 for 4; here both are unreadable.

    Args:
        scale: 1 to 5, but 0 to 1 for the logical category.
    """
    numbers = _final_scores(reply)
    if len(numbers) > 1:
        return Unreadable(f"{len(numbers)} numbers after Final Score, expected one")
    return _on_scale(numbers, scale)


def parse_uniredit(reply: str) -> int | Unreadable:
    """UniREditBench: the first number, 1 to 5, after the first "Final Score" that any follows."""
    return _on_scale(_final_scores(reply)[:1], range(1, 6))


def _final_scores(reply: str) -> list[str]:
    """The numbers right after the first label that has any, with nothing but commas between."""
    label = rf"final\s+scores?[*\s]*{COLON}?"
    numbers = r"[*\s]*([0-9.]+(?:[*\s,]+[0-9.]+)*)"
    found = re.search(label + numbers, after_thinking(reply), re.IGNORECASE)
    # A full stop belongs to a number only where digits follow.
    return re.findall(r"[0-9]+(?:\.[0-9]+)?", found[1]) if found else []


def _on_scale(numbers: list[str], scale: range) -> int | Unreadable:
    if not numbers:
        return Unreadable("no Final Score")
    allowed = {str(each): each for each in scale}
    if numbers[0] not in allowed:
        return Unreadable(f"the score is not a whole number from {scale[0]} to {scale[-1]}")
    return allowed[numbers[0]]


def _literal(text: str) -> Any:
    """A Python literal, or None; nothing in it is run."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _json_object_with(key: str, text: str) -> dict[str, Any] | None:
    # Line breaks inside strings are invalid JSON, but judges write reasons with them.
    decoder = json.JSONDecoder(strict=False)
    for start in islice(re.finditer(r"\{", text), MOST_BRACES):
        try:
            value, _ = decoder.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and key in value:
            return value
    return None
