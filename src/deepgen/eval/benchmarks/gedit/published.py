"""Published scores of GEdit-Bench."""

from __future__ import annotations

from deepgen.eval.published import UNSTATED, dated, published_table

_PAPER = """
model                   | GEdit
Nano Banana             | 7.54 (a)
GPT-Image-1             | 7.53
Seedream 4.0            | 7.68
FLUX.1 Kontext Pro      | 6.56
OmniGen2                | 6.41
UniWorld-V1             | 4.85
BAGEL                   | 6.52
Mammoth2                | 6.60
LongCat-Image / -Edit   | 7.60
Qwen-Image / -Edit 2509 | 7.54
DeepGen 1.0 SFT         | 7.12
DeepGen 1.0 RL          | 7.17
"""

_SFT_ABLATIONS = """
model                        | GEdit
DeepGen 1.0 SFT              | 7.12
SFT without channel bridging | 6.75
SFT without think tokens     | 7.02
SFT with a frozen VLM        | 6.93
"""

_RL_ABLATIONS = """
model                               | GEdit
RL, 1,000 steps                     | 7.05
RL without auxiliary SFT loss       | 6.99
RL without KL                       | 7.02
RL without per-reward normalisation | 7.02
"""

PUBLISHED_ENGLISH = tuple(
    published_table(
        text,
        {"GEdit": ("overall", None)},
        judge=f"{UNSTATED}gpt-4.1",
        accepted=dated("gpt-4.1"),
        remarks=(remark,),
        marks={"a": "the same two values are printed in the row of Qwen-Image-Edit: not verified"},
    )
    for text, remark in (
        (_PAPER, "the same judge moved by about .1 within months"),
        (_SFT_ABLATIONS, "ablations of the SFT stage"),
        (_RL_ABLATIONS, "ablations of the RL stage"),
    )
)
