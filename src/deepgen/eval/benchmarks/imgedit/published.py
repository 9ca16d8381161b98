"""Published scores of ImgEdit-Bench."""

from __future__ import annotations

from deepgen.eval.published import UNSTATED, dated, headings, published_table

_PAPER = """
model                   | ImgEdit
Nano Banana             | 4.35 (a)
GPT-Image-1             | 4.20
Seedream 4.0            | 4.18
FLUX.1 Kontext Pro      | 4.00
OmniGen2                | 3.43
UniWorld-V1             | 3.26
BAGEL                   | 3.20 (c)
Mammoth2                | 4.06
LongCat-Image / -Edit   | 4.50
Qwen-Image / -Edit 2509 | 4.35
DeepGen 1.0 SFT         | 4.09
DeepGen 1.0 RL          | 4.14
"""

_BOARD = """
model|Add|Adjust|Extract|Replace|Remove|Background|Style|Hybrid|Action|overall
UniWorld-V1|3.82|3.64|2.27|3.47|3.24|2.99|4.21|2.96|2.74|3.26
MagicBrush|2.84|1.58|1.51|1.97|1.58|1.75|2.38|1.62|1.22|1.83
"""

_TYPES = {
    "overall": None,
    **{
        name: name.lower()
        for name in ("Add", "Adjust", "Extract", "Replace", "Remove", "Background", "Style")
    },
    "Hybrid": "compose",
    "Action": "action",
}

PUBLISHED = (
    published_table(
        _PAPER,
        {"ImgEdit": ("overall", None)},
        judge=f"{UNSTATED}GPT-4.1",
        accepted=dated("gpt-4.1"),
        marks={
            "a": "the same two values are printed in the row of Qwen-Image-Edit: not verified",
            "c": "an early value of the board, which now shows 3.42 by another judge",
        },
    ),
    published_table(
        _BOARD,
        headings("overall", _TYPES),
        judge="GPT-4.1, by the authors' word",
        accepted=dated("gpt-4.1"),
        source="ImgEdit leaderboard (PKU-YuanGroup/ImgEdit)",
        remarks=("the overalls follow from the types",),
    ),
)
