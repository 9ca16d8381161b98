"""Published scores of RISEBench."""

from __future__ import annotations

from deepgen.eval.published import UNSTATED, dated, headings, published_table

_PAPER = """
model                | Temporal | Causal | Spatial | Logical | RISE
Nano Banana          | 25.9     | 47.8   | 37.0    | 18.8    | 32.8
GPT-Image-1          | 34.1     | 32.2   | 37.0    | 10.6    | 28.9
Seedream 4.0         | 12.9     | 12.2   | 11.0    | 7.1     | 10.8
FLUX.1 Kontext dev   | 2.3      | 5.5    | 13.0    | 1.2     | 5.8
BAGEL (thinking)     | 5.9      | 17.8   | 21.0    | 1.2     | 11.9
Qwen-Image-Edit 2509 | 4.7      | 10.0   | 17.0    | 2.4     | 8.9
DeepGen 1.0 SFT      | 15.3     | 18.9   | 14.0    | 4.7     | 13.3
DeepGen 1.0 RL       | 12.9     | 14.4   | 13.0    | 2.4     | 10.8
"""

_BOARD_2026 = """
model            | RISE
BAGEL (thinking) | 15.8
"""

_SFT_ABLATIONS = """
model                        | RISE
DeepGen 1.0 SFT              | 13.3
SFT without channel bridging | 12.6
SFT without think tokens     | 11.7
SFT with a frozen VLM        | 12.9
"""

_JUDGE = "gpt-4.1-2025-04-14"
_CATEGORIES = {
    "RISE": None,
    **{name: f"{name.lower()}_reasoning" for name in ("Temporal", "Causal", "Spatial", "Logical")},
}

PUBLISHED_2025 = (
    published_table(
        _PAPER,
        headings("accuracy", _CATEGORIES),
        judge=UNSTATED + _JUDGE,
        accepted=dated("gpt-4.1"),
        remarks=(
            "the overalls follow from the categories, counted over 360 edits",
            "the standard error of such a rate is 1.8 points",
        ),
    ),
    published_table(
        _SFT_ABLATIONS,
        {"RISE": ("accuracy", None)},
        judge=UNSTATED + _JUDGE,
        accepted=dated("gpt-4.1"),
        remarks=("ablations of the SFT stage",),
    ),
)
PUBLISHED_2026 = (
    published_table(
        _BOARD_2026,
        {"RISE": ("accuracy", None)},
        judge=_JUDGE,
        accepted=dated("gpt-4.1"),
        source="RISEBench leaderboard after April 2026 (PhoenixZ810/RISEBench)",
    ),
)
