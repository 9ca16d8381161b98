"""Judge prompts of ImgEdit-Bench: where the official ones are, and ours."""

from __future__ import annotations

from deepgen.eval.judge.official_prompts import (
    OfficialPrompts,
    OfficialText,
    PromptSources,
    unverified_file,
)

_THREE_LINES = (
    "The first image was to be edited by this instruction: {instruction}\n"
    "The second image is the result. Give whole numbers from 1 (worst) to 5 (best); the second "
    "and the third may not exceed the first. Answer with one short line of reasons, then exactly "
    "these three lines:\n"
)


def _criteria(first: str, second: str, third: str) -> str:
    return f"{_THREE_LINES}{first}: N\n{second}: N\n{third}: N"


_PARAPHRASED = {
    "add": _criteria("Instruction followed", "Natural blending", "Rest unchanged"),
    "adjust": _criteria("Attribute changed as told", "Natural look", "Rest unchanged"),
    "extract": _criteria("Right object", "Clean outline", "Whole and undistorted"),
    "replace": _criteria("Right replacement", "Natural blending", "Rest unchanged"),
    "remove": _criteria("Object gone", "Natural filling", "Rest unchanged"),
    "background": _criteria("Right background", "Natural blending", "Subject unchanged"),
    "style": _criteria("Right style", "Content kept", "Well rendered"),
    "compose": _criteria("All edits done", "Natural blending", "Rest unchanged"),
    "action": _criteria("Right action", "Same subject", "Natural look"),
}

JUDGE_PROMPTS = PromptSources(
    official=OfficialPrompts(
        file=unverified_file("PKU-YuanGroup/ImgEdit", "547185d", "Benchmark/Basic/prompts.json"),
        texts={
            kind: OfficialText(
                symbols=(kind,), style="marks", placeholders={"<edit_prompt>": "instruction"}
            )
            for kind in _PARAPHRASED
        },
    ),
    paraphrased=_PARAPHRASED,
)
