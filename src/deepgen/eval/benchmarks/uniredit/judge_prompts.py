"""Judge prompts of UniREditBench: where the official ones are, and ours."""

from __future__ import annotations

from deepgen.eval.judge.final_score import (
    CONSISTENCY,
    ONE_TO_FIVE,
    PLAUSIBILITY,
    REASONING,
    final_score_prompts,
)
from deepgen.eval.judge.official_prompts import PromptSources, unverified_file

_OFFICIAL = final_score_prompts(
    unverified_file("Maplebb/UniREditBench", "a7015c5", "eval/utils.py"),
    filled={"consistency": "prompt_consist", "reasoning": "prompt_reasoning_w_ref_image"},
    plain={"quality": "prompt_generation"},
)

JUDGE_PROMPTS = PromptSources(
    official=_OFFICIAL,
    paraphrased={
        "consistency": CONSISTENCY + ONE_TO_FIVE,
        "reasoning": (
            REASONING + "The first image is the one before the edit, the second a right result, "
            "the third the one to judge. How well does the third show what it should? "
            + ONE_TO_FIVE
        ),
        "quality": PLAUSIBILITY,
    },
)
