from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest
from PIL import Image, ImageDraw, ImageFont

from deepgen.errors import ScorerError
from deepgen.scoring.answers import Status
from deepgen.scoring.ocr import (
    RapidOcrReader,
    TextReader,
    edit_distance,
    edit_similarity,
    mean_similarity,
    recognized_words,
    score_words,
    target_words,
    word_accuracy,
)
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


def test_the_worked_example_comes_out() -> None:
    score = score_words(["new", "york", "new"], recognized_words(["New Yorl"]))
    assert word_accuracy([score]) == pytest.approx(2 / 3)
    assert mean_similarity([score]) == pytest.approx((1 + 0.75 + 1) / 3, abs=1e-5)
    assert score.extra == 1


def test_targets_stand_between_the_nearest_straight_quotes() -> None:
    assert target_words("A sign 'Open  Late' by a cup 'TEA'") == ["open", "late", "tea"]
    assert target_words("the cat's bowl says 'don't' twice") == ["s", "bowl", "says", "t"]
    assert target_words('curly ‘no’ and double "no"') == []


@pytest.mark.parametrize(("name", "words"), COUNTS.items())
def test_the_benchmark_has_as_many_words_as_it_says(name: str, words: int) -> None:
    path = shared_dir() / "data" / "benchmarks" / "cvtg_2k" / f"{name}.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["data_list"]
    assert sum(len(target_words(row["prompt"])) for row in rows) == words


def test_no_text_at_all_is_one_empty_word_and_scores_nothing() -> None:
    assert recognized_words([]) == recognized_words(["  "]) == [""]
    score = score_words(["tea"], [""])
    assert word_accuracy([score]) == 0
    assert mean_similarity([score]) == pytest.approx(0, abs=1e-5)
    assert score.extra == 0


def test_the_closest_word_is_chosen_by_difflib_and_not_by_edits() -> None:
    score = score_words(["abcd"], ["bcdxxa", "axcz"])
    assert edit_distance("abcd", "bcdxxa") > edit_distance("abcd", "axcz")
    assert mean_similarity([score]) == pytest.approx(edit_similarity("abcd", "bcdxxa"))
    assert mean_similarity([score], best=True) == pytest.approx(edit_similarity("abcd", "axcz"))


def test_images_count_by_their_words() -> None:
    right = score_words(["a", "b", "c"], ["a", "b", "c"])
    wrong = score_words(["d"], ["e"])
    assert word_accuracy([right, wrong]) == 0.75
    assert mean_similarity([right, wrong]) == pytest.approx(0.75, abs=1e-5)
    with pytest.raises(ValueError, match="no target words"):
        word_accuracy([])


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("ab", "ba", 2)],
)
def test_edits_are_counted_the_same_from_both_sides(first: str, second: str, distance: int) -> None:
    assert edit_distance(first, second) == edit_distance(second, first) == distance


def test_without_rapidocr_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(ScorerError, match=r'pip install "deepgen-image\[ocr\]"'):
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
    assert score_words(["new", "york"], recognized_words(lines)).found == 2
    assert reader.read(Image.new("RGB", (256, 256), "white")).value == []


def test_an_image_on_which_rapidocr_fails_is_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Engine:
        def __init__(self, **_: object) -> None: ...

        def __call__(self, pixels: object) -> object:
            raise RuntimeError("out of\nmemory")

    monkeypatch.setitem(sys.modules, "rapidocr", SimpleNamespace(RapidOCR=Engine))
    monkeypatch.setattr("importlib.metadata.version", lambda package: "0")
    answer = RapidOcrReader().read(Image.new("RGB", (8, 8)))
    assert (answer.status, answer.value) == (Status.ERROR, None)
    assert answer.reason == "RuntimeError: out of memory"
