"""The question to a general VLM judge, which DPG-Bench does not officially have."""

from __future__ import annotations

from deepgen.eval.judge.official_prompts import PromptSources

JUDGE_PROMPTS = PromptSources(
    paraphrased={
        "question": "{question} Answer with one word, yes or no.",
    },
)
