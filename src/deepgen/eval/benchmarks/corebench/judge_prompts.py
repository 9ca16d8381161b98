"""Judge prompts of T2I-CoReBench: where the official ones are, and ours."""

from __future__ import annotations

from deepgen.eval.judge.official_prompts import (
    OfficialPrompts,
    OfficialText,
    PromptSources,
    unverified_file,
)

_OFFICIAL = OfficialPrompts(
    file=unverified_file("KlingAIResearch/T2I-CoReBench", "ebf7b7a", "evaluate.py"),
    texts={"system": OfficialText(symbols=("TEMPLATE",))},
)


JUDGE_PROMPTS = PromptSources(
    official=_OFFICIAL,
    paraphrased={
        "system": (
            "You answer one question about an image with one word, yes or no. Judge by what can "
            "be seen in the image alone, never by its prompt; where that leaves doubt, the "
            "answer is no."
        )
    },
)
