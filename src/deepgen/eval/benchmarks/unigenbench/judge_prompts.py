"""Judge prompts of UniGenBench: where the official ones are, and ours."""

from __future__ import annotations

from deepgen.eval.judge.official_prompts import (
    OfficialPrompts,
    OfficialText,
    PromptSources,
    unverified_file,
)


def _official(language: str) -> OfficialPrompts:
    headers = f"LANG_CONFIGS/{language.lower()}"
    return OfficialPrompts(
        file=unverified_file("CodeGoat24/UniGenBench", "49d0bce", "eval/src/eval_common.py"),
        texts={
            "question": OfficialText(
                symbols=(f"SYSTEM_PROMPT_{language}_TEMPLATE",),
                style="format",
                placeholders={
                    "testpoint": "testpoints",
                    "explanation": "definitions",
                    "test_explanation": "descriptions",
                },
            ),
            "definitions": OfficialText(symbols=(f"{headers}/checkpoint_header",)),
            "descriptions": OfficialText(symbols=(f"{headers}/checkpoint_desc_header",)),
        },
        terms=f"EXPLANATION_DICT_{language}",
    )


_PARAPHRASED = {
    "question": (
        "An image was generated from this prompt: {prompt}\n"
        "Test points, in this order: {testpoints}\n{definitions}\n{descriptions}\n"
        "Judge each test point only by what can be seen: 1 if the image meets it, else 0. "
        "Answer in exactly this form, both lists as long as the list of test points:\n"
        "<analysis>['one sentence per test point', ...]</analysis>\n"
        "<score>[0 or 1, ...]</score>"
    ),
    "definitions": "What they mean in general",
    "descriptions": "What they mean here",
}

ENGLISH = PromptSources(official=_official("EN"), paraphrased=_PARAPHRASED)
CHINESE = PromptSources(official=_official("ZH"), paraphrased=_PARAPHRASED)
