"""Judge prompts of GEdit-Bench: where the official ones are, and ours."""

from __future__ import annotations

from deepgen.eval.judge.official_prompts import (
    OfficialPrompts,
    OfficialText,
    PromptSources,
    unverified_file,
)


def _rule(*symbols: str) -> OfficialText:
    return OfficialText(
        symbols=("_context_no_delimit", *symbols),
        style="marks",
        placeholders={"<instruction>": "instruction"},
    )


_OFFICIAL = OfficialPrompts(
    file=unverified_file(
        "stepfun-ai/Step1X-Edit", "570eba6", "GEdit-Bench/viescore/vie_prompts.py"
    ),
    texts={
        "semantics": _rule("_prompts_0shot_two_image_edit_rule", "_prompts_0shot_tie_rule_SC"),
        "quality": _rule("_prompts_0shot_rule_PQ"),
    },
)

_TWO_SCORES = (
    "Answer with one JSON object and nothing else, both scores whole numbers from 0 to 10:\n"
    '{{"score": [first, second], "reasoning": "in one sentence"}}'
)

JUDGE_PROMPTS = PromptSources(
    official=_OFFICIAL,
    paraphrased={
        "semantics": (
            "The first image was to be edited by this instruction: {instruction}\n"
            "The second image is the result. The first score says how well the instruction was "
            "carried out, the second how well everything else was left as it was. " + _TWO_SCORES
        ),
        "quality": (
            "The first score says how natural this image looks, the second how free it is of "
            "artifacts. " + _TWO_SCORES
        ),
    },
)
