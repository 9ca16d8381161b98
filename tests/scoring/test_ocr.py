from __future__ import annotations

import json
import sys
import threading
from types import SimpleNamespace

import pytest
from PIL import Image, ImageDraw, ImageFont

from deepgen.errors import ScorerError
from deepgen.scoring.answers import Answer, AnswerStatus
from deepgen.scoring.ocr import (
    RapidOcrReader,
    TextReader,
    TextSimilarity,
    score_words,
    target_words,
    text_similarity,
)
from deepgen.scoring.scorer import ScorerInput
from tests.shared import shared_dir

COUNTS = {
    "CVTG/2": 953,
    "CVTG/3": 2099,
    "CVTG/4": 2695,
    "CVTG/5": 2361,
    "CVTG-Style/2": 1016,
    "CVTG-Style/3": 2150,
    "CVTG-Style/4": 2722,
    "CVTG-Style/5": 2210,
}


def test_words_are_compared_one_by_one() -> None:
    score = score_words(["new", "york", "new"], ["New Yorl"])
    assert (score.words, score.found, score.extra) == (3, 2, 1)
    assert score.ned == pytest.approx(1 + 0.75 + 1, abs=1e-5)


def test_targets_stand_between_the_nearest_straight_quotes() -> None:
    assert target_words("A sign 'Open  Late' by a cup 'TEA'") == ["open", "late", "tea"]
    assert target_words("the cat's bowl says 'don't' twice") == ["s", "bowl", "says", "t"]
    assert target_words('curly ‘no’ and double "no"') == []


@pytest.mark.parametrize(("name", "words"), COUNTS.items())
def test_the_benchmark_has_as_many_words_as_it_says(name: str, words: int) -> None:
    path = shared_dir() / "data" / "benchmarks" / "cvtg_2k" / f"{name}.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["data_list"]
    assert sum(len(target_words(row["prompt"])) for row in rows) == words


@pytest.mark.parametrize("lines", [[], ["  "]])
def test_no_text_at_all_is_one_empty_word_and_scores_nothing(lines: list[str]) -> None:
    score = score_words(["tea"], lines)
    assert (score.found, score.extra) == (0, 0)
    assert score.ned == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("target", "line", "official", "closest"),
    [
        # difflib takes "open", three edits away; "nope" is only two away.
        ("pone", "open nope", 1 - 3 / 4, 1 - 2 / 4),
        ("abcd", "bcdxxa axcz", 1 - 4 / 6, 1 - 2 / 4),
        ("abcd", "zz axxxxxxx", 1 - 7 / 8, 1 - 7 / 8),
        ("kitten", "sitting", 1 - 3 / 7, 1 - 3 / 7),
    ],
)
def test_the_closest_word_is_chosen_by_difflib_and_not_by_edits(
    target: str, line: str, official: float, closest: float
) -> None:
    score = score_words([target], [line])
    assert score.ned == pytest.approx(official, abs=1e-5)
    assert score.ned_closest == pytest.approx(closest, abs=1e-5)


def test_without_rapidocr_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(ScorerError, match=r"pip install .*\[ocr\]"):
        RapidOcrReader()


def test_rapidocr_reads_a_sign() -> None:
    pytest.importorskip("rapidocr", reason="the optional extra [ocr] is not installed")
    reader = RapidOcrReader()
    assert isinstance(reader, TextReader)
    sign = Image.new("RGB", (512, 256), "white")
    font = ImageFont.load_default(60)
    ImageDraw.Draw(sign).text((20, 80), "New York", fill="black", font=font)
    lines = reader.read(sign).value
    assert lines is not None
    assert score_words(["new", "york"], lines).found == 2
    assert reader.read(Image.new("RGB", (256, 256), "white")).value == []


def test_an_image_on_which_rapidocr_fails_is_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Engine:
        def __init__(self, **_: object) -> None: ...

        def __call__(self, pixels: object) -> object:
            raise RuntimeError("out of\nmemory")

    monkeypatch.setitem(sys.modules, "rapidocr", SimpleNamespace(RapidOCR=Engine))
    monkeypatch.setattr("importlib.metadata.version", lambda package: "0")
    answer = RapidOcrReader().read(Image.new("RGB", (8, 8)))
    assert (answer.status, answer.value) == (AnswerStatus.ERROR, None)
    assert answer.reason == "RuntimeError: out of memory"


@pytest.mark.parametrize(
    ("targets", "lines", "expected"),
    [
        (["OPEN"], ["open"], 1.0),
        (["OPEN"], [], 0.0),
        (["OPEN"], ["xyz 777"], 0.0),
        (["OPEN"], ["OPEM"], 3 / 4),
        (["OPEN"], ["a sign", "that says OPEN today"], 1.0),
        (["OPEN LATE"], ["OPEN", "LATE"], 1.0),  # Split into lines.
        (["grandmother"], ["grand mot", "her"], 1.0),  # Split into pieces.
        (["one two three four five six"], ["one two three", "four five six"], 1.0),
        (["OPEN", "WAITUS"], ["OPEN"], 4 / 10),  # Weighted by their letters.
        (["Café 24h!"], ["cafe\u0301 24H"], 1.0),  # NFKC, and no punctuation.
        (["今日特价"], ["今日 特价"], 1.0),
        (["今日特价", "打折"], ["今日待价"], 3 / 6),
        (["“欢迎光临”"], ["欢迎光临！"], 1.0),
        (["AB"], ["b"], 1 / 2),
    ],
)
def test_text_similarity_by_edit_distances(
    targets: list[str], lines: list[str], expected: float
) -> None:
    assert text_similarity(targets, lines) == pytest.approx(expected)


def test_case_counts_only_on_request() -> None:
    assert text_similarity(["Open"], ["OPEN"], ignore_case=False) == pytest.approx(1 / 4)


def test_text_beyond_the_targets_costs_what_the_penalty_says() -> None:
    assert text_similarity(["OPEN"], ["OPEN", "spam"]) == 1.0
    assert text_similarity(["OPEN"], ["OPEN", "spam"], spam_penalty=1.0) == pytest.approx(1 / 2)
    assert text_similarity(["OPEN"], ["OPEN"], spam_penalty=1.0) == 1.0


class FixedReader:
    name = "fixed"

    def __init__(self, *lines: str) -> None:
        self.lines = list(lines)

    def read(self, image: Image.Image) -> Answer[list[str]]:
        return Answer(status=AnswerStatus.SCORED, value=self.lines)


def test_without_target_texts_there_is_a_reason_and_no_number() -> None:
    image = Image.new("RGB", (8, 8))
    inputs = [
        ScorerInput(image=image, prompt='a sign that says "TEA"'),  # Quotes are never parsed.
        ScorerInput(image=image, prompt="", target_texts=("!?",)),
        ScorerInput(image=image, prompt="", target_texts=("TEA",)),
    ]
    answers = TextSimilarity(FixedReader("TEA")).score(inputs)
    assert [each.value for each in answers] == [None, None, 1.0]
    assert "no target texts" in answers[0].reason


def test_an_engine_that_misreads_plain_text_is_found() -> None:
    TextSimilarity(FixedReader("OPEN 24")).check()
    with pytest.raises(ScorerError, match="fixed cannot read a plain 'OPEN 24'"):
        TextSimilarity(FixedReader("0PFN")).check()


def test_as_many_images_are_read_at_a_time_as_there_are_engines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both = threading.Barrier(2, timeout=5)

    class Engine:
        def __init__(self, **_: object) -> None: ...

        def __call__(self, pixels: object) -> object:
            both.wait()
            return SimpleNamespace(txts=("TEA",))

    monkeypatch.setitem(sys.modules, "rapidocr", SimpleNamespace(RapidOCR=Engine))
    monkeypatch.setattr("importlib.metadata.version", lambda package: "0")
    scorer = TextSimilarity(RapidOcrReader(2), concurrency=2)
    inputs = [ScorerInput(image=Image.new("RGB", (8, 8)), prompt="", target_texts=("TEA",))] * 4
    assert [each.value for each in scorer.score(inputs)] == [1.0] * 4
