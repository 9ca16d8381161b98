"""Published scores of UniREditBench."""

from __future__ import annotations

from deepgen.eval.published import UNSTATED, dated, published_table

_PAPER = """
model                | Real world | Game | UniREdit
Nano Banana          | 75.2       | 60.4 | 68.3
GPT-Image-1          | 81.0       | 62.1 | 73.4
Seedream 4.0         | 66.2       | 45.4 | 55.8
FLUX.1 Kontext Pro   | 45.0       | 46.5 | 45.8
OmniGen2             | 53.7       | 33.1 | 43.4
Lumina-DiMOO         | 51.4       | 45.6 | 48.5
BAGEL (thinking)     | 56.8       | 45.1 | 51.0
Qwen-Image-Edit 2509 | 71.0       | 41.9 | 56.5
DeepGen 1.0 SFT      | 74.3       | 80.7 | 77.5
DeepGen 1.0 RL       | 73.2       | 78.2 | 75.7
"""

_OWN = """
model                     | UniREdit
the benchmark's own model | 78.15
"""

_JUDGE = "gpt-4.1-2025-04-14"

PUBLISHED = (
    published_table(
        _PAPER,
        {
            "UniREdit": ("percent", None),
            "Real world": ("halves", "real world"),
            "Game": ("halves", "games"),
        },
        judge=UNSTATED + _JUDGE,
        accepted=dated("gpt-4.1"),
        remarks=(
            "DeepGen was trained on the benchmark's own training set, of the same games and scenes",
            "closed models refused some edits, which their rows leave out",
        ),
    ),
    published_table(
        _OWN,
        {"UniREdit": ("percent", None)},
        judge=_JUDGE,
        accepted=dated("gpt-4.1"),
        source="UniREditBench's own table (Maplebb/UniREditBench)",
    ),
)
