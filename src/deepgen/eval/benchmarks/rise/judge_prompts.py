"""Judge prompts of RISEBench: where the official ones are, and ours."""

from __future__ import annotations

from deepgen.eval.judge.final_score import (
    CONSISTENCY,
    FINAL,
    ONE_TO_FIVE,
    PLAUSIBILITY,
    REASONING,
    final_score_prompts,
)
from deepgen.eval.judge.official_prompts import PromptSources, unverified_file

_OFFICIAL = final_score_prompts(
    unverified_file("PhoenixZ810/RISEBench", "5f22651", "utils.py"),
    filled={
        "consistency": "prompt_consist",
        "reasoning": "prompt_reasoning",
        "reasoning with source": "prompt_reasoning_w_input",
        "spatial consistency": "prompt_spatial_cons",
        "spatial reasoning": "prompt_spatial_ref",
        "spatial reasoning with source": "prompt_spatial_ref_w_input",
        "spatial reasoning by image": "prompt_spatial_ref_img",
        "logical consistency": "prompt_logical_cons",
        "logical consistency with answer": "prompt_logical_cons_ans",
        "logical reasoning by text": "prompt_logical_txt",
        "logical reasoning by image": "prompt_logical_img",
    },
    plain={
        "plausibility": "prompt_generation",
        "spatial plausibility": "prompt_spatial_qual",
        "logical reasoning by image alone": "prompt_logical_img_wo_q",
    },
)

_ZERO_OR_ONE = "Give 1 if so and 0 if not. " + FINAL
_SHOWN = "The image is the result. How well does it show that? " + ONE_TO_FIVE
_SHOWN_WITH_SOURCE = (
    "The first image is the one before the edit, the second the result. How well does the "
    "result show it? " + ONE_TO_FIVE
)

JUDGE_PROMPTS = PromptSources(
    official=_OFFICIAL,
    paraphrased={
        "consistency": CONSISTENCY + ONE_TO_FIVE,
        "reasoning": REASONING + _SHOWN,
        "reasoning with source": REASONING + _SHOWN_WITH_SOURCE,
        "plausibility": PLAUSIBILITY,
        "spatial consistency": CONSISTENCY + ONE_TO_FIVE,
        "spatial reasoning": REASONING + _SHOWN,
        "spatial reasoning with source": REASONING + _SHOWN_WITH_SOURCE,
        "spatial reasoning by image": (
            "An image was edited by this instruction: {instruction}\nThe first image shows the "
            "right result, the second the one to judge. How well does it agree in what the "
            "instruction is about? " + ONE_TO_FIVE
        ),
        "spatial plausibility": PLAUSIBILITY,
        "logical consistency": (
            "The second image was to be made by this instruction: {instruction}\nDid everything "
            "stay as in the first image that the instruction does not ask to change? "
            + _ZERO_OR_ONE
        ),
        "logical consistency with answer": (
            "The first image was edited into the second by this instruction: {instruction}\n"
            "The right answer is: {reference}\nDid everything stay the same that is no part of "
            "giving that answer? " + _ZERO_OR_ONE
        ),
        "logical reasoning by text": (
            "This image answers: {instruction}\nThe right answer is: {reference}\nDoes the "
            "image give it? " + _ZERO_OR_ONE
        ),
        "logical reasoning by image": (
            "The task was: {instruction}\nThe first image shows the right answer, the second the "
            "one to judge. Is its answer the same? " + _ZERO_OR_ONE
        ),
        "logical reasoning by image alone": (
            "The first image shows the right answer to a task, the second the one to judge. Is "
            "its answer the same? " + _ZERO_OR_ONE
        ),
    },
)
