from __future__ import annotations

import pytest

from deepgen.errors import DataError
from deepgen.eval.benchmark import Item
from deepgen.eval.contamination import PromptIndex
from deepgen.mini.world.held_out import shows_held_out
from deepgen.mini.world.request import SceneRequest
from deepgen.mini.world.version0 import held_out_pairs
from deepgen.prompts.building import check_overlap, generate, mini_prompt, with_quoted_targets
from deepgen.prompts.text_rendering import text_prompt
from deepgen.rl.prompts import Prompt


def index_of(*texts: str) -> PromptIndex:
    items = [
        Item(id=f"row-{number}", number=number, prompt=text, category="all")
        for number, text in enumerate(texts)
    ]
    return PromptIndex({"haiku": items})


NOTHING = index_of()
BENCH = "A photo of seven small red boats on a quiet lake, seen from the old stone bridge"


def listed(*texts: str) -> list[Prompt]:
    return [
        Prompt(id=f"p{number}", prompt=text, category="general")
        for number, text in enumerate(texts)
    ]


@pytest.mark.parametrize(
    ("planted", "kind"),
    [
        (BENCH, "exact"),
        (BENCH.upper(), "exact"),
        (f"  {BENCH.replace(' ', '   ')}\t", "exact"),
        (BENCH.replace("photo", "ｐｈｏｔｏ"), "exact"),
        (f"{BENCH} today", "near"),
    ],
    ids=["as it is", "case", "white space", "wide letters", "one more word"],
)
def test_a_planted_benchmark_prompt_fails_the_build_and_is_named(planted: str, kind: str) -> None:
    with pytest.raises(DataError) as caught:
        check_overlap(listed("a cat", planted, "a dog"), index_of("a horse", BENCH))
    assert str(caught.value).startswith("1 of 3 prompts are prompts of benchmarks, the first p1")
    assert f"which is row-1 of haiku ({kind})" in str(caught.value)


def test_other_prompts_pass() -> None:
    check_overlap(listed("a cat", "seven red boats on a lake"), index_of("a horse", BENCH))


def test_generated_prompts_leave_out_benchmark_prompts_and_repetitions() -> None:
    planted = text_prompt(2).prompt
    found = generate(text_prompt, 5, index_of(planted))
    assert [each.id for each in found] == ["text/0", "text/1", "text/3", "text/4", "text/5"]
    with pytest.raises(DataError, match="only 3 different prompts of few"):
        generate(
            lambda index: Prompt(
                id=f"{index}", prompt=f"p{index % 3}", category="general", source="few"
            ),
            4,
            NOTHING,
        )


def test_text_prompts_quote_their_targets_in_both_languages() -> None:
    made = [text_prompt(index) for index in range(400)]
    assert made[:9] == [text_prompt(index) for index in range(9)]
    for each in made:
        assert each.target_texts
        assert all(text in each.prompt for text in each.target_texts), each
        bare = Prompt(id="", prompt=each.prompt, category="text")
        assert with_quoted_targets(bare).target_texts == each.target_texts
    chinese = [
        each for each in made if any("\u4e00" <= letter <= "\u9fff" for letter in each.prompt)
    ]
    assert 0.3 < len(chinese) / len(made) < 0.5
    assert {len(each.target_texts) for each in made} == {1, 2, 3}
    assert len({each.prompt for each in made}) > 390


@pytest.mark.parametrize("world", ["mini", "mini-version0"])
def test_prompts_of_the_mini_come_with_scenes_that_hold_nothing_back(world: str) -> None:
    made = [mini_prompt(index, world) for index in range(60)]  # type: ignore[arg-type]
    assert made[7] == mini_prompt(7, world)  # type: ignore[arg-type]
    for each in made:
        request = SceneRequest.from_json(each.details["scene"])
        scene = request.target
        pairs = {(thing.name, scene.background) for thing in scene.things}
        assert not pairs & set(held_out_pairs())
        assert world == "mini-version0" or not shows_held_out(scene)
        assert each.target_texts == tuple(word.text for word in request.target.words)
        assert (each.category == "text") == bool(each.target_texts)
    assert any(each.prompt.isascii() for each in made)
    assert not all(each.prompt.isascii() for each in made)


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ('a sign "TEA" and "CAKE"', ("TEA", "CAKE")),
        ("a sign “Open late”", ("Open late",)),
        ("墙上写着「欢迎」和《红楼梦》", ("欢迎", "红楼梦")),
        ("un panneau « Boulangerie »", ("Boulangerie",)),
        ("the cat's bowl isn't here", ()),
    ],
)
def test_a_build_may_take_targets_from_quotes(prompt: str, texts: tuple[str, ...]) -> None:
    assert with_quoted_targets(listed(prompt)[0]).target_texts == texts
    explicit = Prompt(id="a", prompt=prompt, category="text", target_texts=("MINE",))
    assert with_quoted_targets(explicit) == explicit
