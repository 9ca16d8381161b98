"""Published scores of UniGenBench."""

from __future__ import annotations

from collections.abc import Mapping

from deepgen.eval.published import Column, PublishedTable, headings, published_table

_PAPER = """
model                   | UniGenBench
Nano Banana             | 87.45
GPT-Image-1             | 92.77
Seedream 4.0            | 87.30
FLUX.1 Kontext Pro      | 75.84
Janus-Pro 7B            | 61.61
Show-o2                 | 62.73
BLIP3-o                 | 59.87
OmniGen2                | 63.09
UniWorld-V1             | 63.11
BAGEL                   | 61.53 (b)
FLUX.1-dev              | 69.88 (b)
X-Omni                  | 53.77
Lumina-DiMOO            | 71.12
Z-Image-Turbo           | 71.40
Qwen-Image / -Edit 2509 | 78.81 (b)
DeepGen 1.0 SFT         | 74.18
DeepGen 1.0 RL          | 75.74
"""

_BOARD = """
model|Style|World|Attribute|Action|Relation|Logic|Grammar|Compound|Layout|Text|overall
FLUX.1-dev|85.00|87.50|67.20|62.26|66.88|29.77|62.30|45.75|70.90|32.18|60.97
Qwen-Image|-|-|-|-|-|-|-|-|-|-|78.36
BAGEL|-|-|-|-|-|-|-|-|-|-|59.91
"""

_RL_ABLATIONS = """
model                               | overall | Text
RL, 1,000 steps                     | 75.69   | 35.06
RL without auxiliary SFT loss       | 74.33   | 33.33
RL without KL                       | 75.07   | 32.47
RL without per-reward normalisation | 75.27   | 32.18
"""

_DIMENSIONS = {
    "overall": None,
    "Style": "Style",
    "World": "World Knowledge",
    "Attribute": "Attribute",
    "Action": "Action",
    "Relation": "Relationship",
    "Logic": "Logical Reasoning",
    "Grammar": "Grammar",
    "Compound": "Compound",
    "Layout": "Entity Layout",
    "Text": "Text Generation",
}


def _of_paper(text: str, columns: Mapping[str, Column], *remarks: str) -> PublishedTable:
    return published_table(
        text,
        columns,
        judge="not stated in the paper: Gemini 2.5 Pro or an evaluator of the authors",
        accepted=("gemini-2.5-pro", "unigenbench-evalmodel-*"),
        remarks=remarks,
        marks={"b": "the benchmark's own board prints another value"},
    )


PUBLISHED_ENGLISH = (
    _of_paper(_PAPER, {"UniGenBench": ("macro", None)}),
    published_table(
        _BOARD,
        headings("macro", _DIMENSIONS),
        judge="Gemini 2.5 Pro",
        accepted=("gemini-2.5-pro",),
        source="UniGenBench leaderboard (CodeGoat24/UniGenBench)",
        remarks=("the overall of FLUX.1-dev follows from its dimensions",),
    ),
    _of_paper(
        _RL_ABLATIONS,
        headings("macro", {"overall": None, "Text": "Text Generation"}),
        "ablations of the RL stage",
    ),
)
