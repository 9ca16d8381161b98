from __future__ import annotations

import random
import time

import pytest

from deepgen.eval.benchmarks.corebench.benchmark import COREBENCH
from deepgen.eval.benchmarks.unigenbench.benchmark import UNIGENBENCH
from deepgen.eval.contamination import Match, PromptIndex, count_items, normalize, windows_of
from deepgen.eval.registry import BENCHMARKS
from tests.eval.records import make_item, prompt_folder


def index_of(*prompts: str) -> PromptIndex:
    from dataclasses import replace

    items = [replace(make_item(str(n), "any"), prompt=each) for n, each in enumerate(prompts)]
    return PromptIndex({"bench": items})


SENTENCE = "a red fox jumps over the lazy brown dog near a quiet river at dawn"


@pytest.mark.parametrize(
    "variant",
    [
        SENTENCE,
        SENTENCE.upper(),
        "A red fox, jumps over the lazy (brown) dog;  near a quiet\nriver at dawn.",
        SENTENCE.replace("a", "ａ"),
        SENTENCE.replace(" ", "\u00a0"),
    ],
)
def test_case_punctuation_width_and_space_do_not_hide_a_prompt(variant: str) -> None:
    (match,) = index_of("something else", SENTENCE).find(["unrelated words here", variant])
    assert match == Match(benchmark="bench", item="1", number=1, kind="exact", similarity=1.0)


def test_near_prompts_are_those_above_the_threshold() -> None:
    words = [f"word{n}" for n in range(24)]
    whole = " ".join(words)
    index = index_of(whole)
    # 24 words have 20 windows. Without the last 3 words 17 are shared of 20: .85.
    (match,) = index.find([" ".join(words[:-3])])
    assert match.kind == "near"
    assert match.similarity == pytest.approx(17 / 20)
    # Without the last 4, 16 of 20 are exactly the threshold, which is not above it.
    assert index.find([" ".join(words[:-4])]) == []
    # A changed word in the middle breaks 5 windows of each: 15 of 25.
    assert index.find([whole.replace("word12", "other")]) == []


def test_reordered_windows_are_near_however_they_stand() -> None:
    words = [f"word{n}" for n in range(100)]
    turned = words[50:] + words[:50]
    # 96 windows each, of which the seam breaks 4: 92 of 100.
    (match,) = index_of(" ".join(words)).find([" ".join(turned)])
    assert match.similarity == pytest.approx(92 / 100)


def test_short_prompts_match_whole_only() -> None:
    index = index_of("a photo of a cow", "a cow")
    assert [match.item for match in index.find(["A cow!", "a photo of a", "cow", ""])] == ["1"]


def test_chinese_is_compared_letter_by_letter() -> None:
    assert normalize("两只，猫") == "两 只 猫"
    prompt = "古典水墨画风格的埃及金字塔背景下两只穿着宇航服的熊猫正在悠闲地品尝竹子"
    assert len(windows_of(normalize(prompt))) == len(prompt) - 4
    (match,) = index_of(prompt).find([prompt + "呢"])
    assert match.kind == "near"


def test_items_are_counted_once_and_by_their_best_match() -> None:
    index = index_of(SENTENCE, "other")
    matches = index.find([SENTENCE + " then", SENTENCE, SENTENCE])
    assert [match.kind for match in matches] == ["near", "exact", "exact"]
    assert count_items(matches, ["bench"]) == {"bench": {"exact": 1, "near": 0}}


def test_every_prompt_of_a_benchmark_is_found_in_a_list_that_contains_it() -> None:
    items = COREBENCH.load(prompt_folder("t2i_corebench")).items
    listed = [" ".join(item.prompt.upper().split()) for item in items]
    counts = count_items(PromptIndex({"corebench": items}).find(listed), ["corebench"])
    assert counts == {"corebench": {"exact": 450, "near": 0}}


def test_a_hundred_thousand_prompts_take_seconds() -> None:
    loaded = {
        name: BENCHMARKS[name].load(prompt_folder(BENCHMARKS[name].folder)).items
        for name in ("geneval", "dpg", "unigenbench/en", "wise/verified", "cvtg", "imgedit")
    }
    index = PromptIndex(loaded)
    assert len(index) == 553 + 1065 + 600 + 1000 + 2000 + 737
    rng = random.Random(0)
    vocabulary = sorted({w for items in loaded.values() for i in items for w in i.prompt.split()})
    # A tenth of the size, so that the suite stays short; time grows in proportion.
    prompts = [" ".join(rng.choices(vocabulary, k=40)) for _ in range(10_000)]
    prompts[777] = UNIGENBENCH["en"].load(prompt_folder("unigenbench")).items[5].prompt
    start = time.process_time()
    matches = index.find(prompts)
    seconds = time.process_time() - start
    assert {(match.benchmark, match.item, match.number) for match in matches} == {
        ("unigenbench/en", "5", 777)
    }
    # Measured: well under a second. Comparing all pairs would take minutes.
    assert seconds < 10
