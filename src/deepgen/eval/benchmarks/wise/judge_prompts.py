"""Judge prompts of WISE: where the official ones are, and ours."""

from __future__ import annotations

from deepgen.eval.judge.official_prompts import (
    OfficialPrompts,
    OfficialText,
    PromptSources,
    unverified_file,
)

# The system and the user message are the 7th and the 14th string of the function, as the keys of
# the messages are strings too.
_OFFICIAL = OfficialPrompts(
    file=unverified_file(
        "PKU-YuanGroup/WISE", "117c25efa3d1ef4477649f958a240c32e0d3fea6", "gpt_eval.py"
    ),
    texts={
        "system": OfficialText(symbols=("build_evaluation_messages/@7",)),
        "question": OfficialText(
            symbols=("build_evaluation_messages/@14",),
            placeholders={
                "prompt_data['Prompt']": "prompt",
                "prompt_data['Explanation']": "explanation",
            },
        ),
    },
)

_PARAPHRASED = {
    "system": "You judge images that were generated from prompts, strictly.",
    "question": (
        "The prompt of this image: {prompt}\n"
        "What a right image has to show: {explanation}\n"
        "Give 0, 1 or 2 for each of: how completely the image shows that; how realistic it "
        "is; how beautiful it is. Answer with exactly these three lines:\n"
        "Consistency: N\nRealism: N\nAesthetic Quality: N"
    ),
    "verdict": (
        "The prompt of this image: {prompt}\n"
        "What a right image has to show: {explanation}\n"
        "Does the image show that, so that it answers what the prompt asks for, and is it "
        "free of faults that would make it unusable? Answer with one line, 1 for yes and 0 for "
        "no or for doubt:\nScore: N"
    ),
}

LEGACY = PromptSources(official=_OFFICIAL, paraphrased=_PARAPHRASED)
VERIFIED = PromptSources(paraphrased=_PARAPHRASED)
"""The official file was not at hand to read where in it the prompt stands."""
