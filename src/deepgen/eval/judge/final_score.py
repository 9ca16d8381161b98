"""Judge prompts that end with a final score, as RISEBench and UniREditBench have them."""

from __future__ import annotations

from collections.abc import Mapping

from deepgen.eval.judge.official_prompts import OfficialPrompts, OfficialText
from deepgen.scoring.templates import PinnedFile

FINAL = (
    "Explain briefly, then end with one line of this form, with one whole number and nothing "
    "after it:\nFinal Score: N"
)
ONE_TO_FIVE = "Give a whole number from 1 (not at all) to 5 (entirely). " + FINAL

CONSISTENCY = (
    "The first image was edited into the second by this instruction: {instruction}\n"
    "How well did everything stay the same that the instruction does not ask to change? "
)
PLAUSIBILITY = (
    "How sharp, natural and physically plausible is this image, free of distortions? " + ONE_TO_FIVE
)
REASONING = (
    "An image was edited by this instruction: {instruction}\nThe result should show: {reference}\n"
)


def final_score_prompts(
    file: PinnedFile, filled: Mapping[str, str], plain: Mapping[str, str]
) -> OfficialPrompts:
    """Variables of one file: those that the scorer formats, and those it takes unchanged."""
    texts = {
        name: OfficialText(
            symbols=(symbol,), style="format", placeholders={"instruct": "instruction"}
        )
        for name, symbol in filled.items()
    }
    texts |= {name: OfficialText(symbols=(symbol,)) for name, symbol in plain.items()}
    return OfficialPrompts(file=file, texts=texts)
