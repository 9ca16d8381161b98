"""Questions in our own words, with the same forms of reply as the authors'.

For benchmarks whose questions could not be read, and for trying a run without them. Their answers
stand beside no published ones.
"""

from __future__ import annotations

from collections.abc import Mapping

_FINAL = (
    "Explain briefly, then end with one line of this form, with one whole number and nothing "
    "after it:\nFinal Score: N"
)
_ONE_TO_FIVE = "Give a whole number from 1 (not at all) to 5 (entirely). " + _FINAL
_ZERO_OR_ONE = "Give 1 if so and 0 if not. " + _FINAL

_CONSISTENCY = (
    "The first image was edited into the second by this instruction: {instruction}\n"
    "How well did everything stay the same that the instruction does not ask to change? "
)
_PLAUSIBILITY = (
    "How sharp, natural and physically plausible is this image, free of distortions? "
    + _ONE_TO_FIVE
)
_REASONING = (
    "An image was edited by this instruction: {instruction}\nThe result should show: {reference}\n"
)
_SHOWN = "The image is the result. How well does it show that? " + _ONE_TO_FIVE
_SHOWN_WITH_SOURCE = (
    "The first image is the one before the edit, the second the result. How well does the "
    "result show it? " + _ONE_TO_FIVE
)
_TWO_SCORES = (
    "Answer with one JSON object and nothing else, both scores whole numbers from 0 to 10:\n"
    '{{"score": [first, second], "reasoning": "in one sentence"}}'
)
_THREE_LINES = (
    "The first image was to be edited by this instruction: {instruction}\n"
    "The second image is the result. Give whole numbers from 1 (worst) to 5 (best); the second "
    "and the third may not exceed the first. Answer with one short line of reasons, then exactly "
    "these three lines:\n"
)


def _criteria(first: str, second: str, third: str) -> str:
    return f"{_THREE_LINES}{first}: N\n{second}: N\n{third}: N"


OWN_WORDS: Mapping[str, Mapping[str, str]] = {
    "wise": {
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
    },
    "corebench": {
        "system": (
            "You answer one question about an image with one word, yes or no. Judge by what can "
            "be seen in the image alone, never by its prompt; where that leaves doubt, the "
            "answer is no."
        )
    },
    "unigenbench": {
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
    },
    "gedit": {
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
    "imgedit": {
        "add": _criteria("Instruction followed", "Natural blending", "Rest unchanged"),
        "adjust": _criteria("Attribute changed as told", "Natural look", "Rest unchanged"),
        "extract": _criteria("Right object", "Clean outline", "Whole and undistorted"),
        "replace": _criteria("Right replacement", "Natural blending", "Rest unchanged"),
        "remove": _criteria("Object gone", "Natural filling", "Rest unchanged"),
        "background": _criteria("Right background", "Natural blending", "Subject unchanged"),
        "style": _criteria("Right style", "Content kept", "Well rendered"),
        "compose": _criteria("All edits done", "Natural blending", "Rest unchanged"),
        "action": _criteria("Right action", "Same subject", "Natural look"),
    },
    "rise": {
        "consistency": _CONSISTENCY + _ONE_TO_FIVE,
        "reasoning": _REASONING + _SHOWN,
        "reasoning with source": _REASONING + _SHOWN_WITH_SOURCE,
        "plausibility": _PLAUSIBILITY,
        "spatial consistency": _CONSISTENCY + _ONE_TO_FIVE,
        "spatial reasoning": _REASONING + _SHOWN,
        "spatial reasoning with source": _REASONING + _SHOWN_WITH_SOURCE,
        "spatial reasoning by image": (
            "An image was edited by this instruction: {instruction}\nThe first image shows the "
            "right result, the second the one to judge. How well does it agree in what the "
            "instruction is about? " + _ONE_TO_FIVE
        ),
        "spatial plausibility": _PLAUSIBILITY,
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
    "uniredit": {
        "consistency": _CONSISTENCY + _ONE_TO_FIVE,
        "reasoning": (
            _REASONING + "The first image is the one before the edit, the second a right result, "
            "the third the one to judge. How well does the third show what it should? "
            + _ONE_TO_FIVE
        ),
        "quality": _PLAUSIBILITY,
    },
    "dpg": {
        "question": "{question} Answer with one word, yes or no.",
    },
}
"""By benchmark, whatever the variant."""
