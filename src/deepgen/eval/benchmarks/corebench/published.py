"""Published scores of T2I-CoReBench."""

from __future__ import annotations

from deepgen.eval.published import headings, published_table

_PAPER = """
model                        | LR   | BR   | HR   | PR   | GR   | AR   | CR   | RR   | mean
Nano Banana                  | 65.4 | 59.7 | 57.2 | 88.3 | 83.5 | 84.1 | 67.5 | 58.7 | 70.5
GPT-Image-1                  | 61.6 | 52.0 | 58.1 | 89.9 | 76.7 | 82.4 | 67.7 | 47.5 | 67.0
Seedream 4.0                 | 79.2 | 51.4 | 52.9 | 89.1 | 88.6 | 80.1 | 70.8 | 42.8 | 69.4
Janus-Pro                    | 27.2 | 15.9 | 28.0 | 25.4 | 7.3  | 30.8 | 8.8  | 4.6  | 18.5
Show-o2                      | -    | -    | -    | -    | -    | -    | -    | -    | 35.2
BLIP3-o                      | -    | -    | -    | -    | -    | -    | -    | -    | 30.4
FLUX.1-dev                   | 26.3 | 18.0 | 25.9 | 66.8 | 38.0 | 59.7 | 35.7 | 18.1 | 36.1
OmniGen2                     | 26.8 | 19.2 | 32.9 | 64.1 | 37.5 | 56.5 | 37.9 | 13.6 | 36.1
BAGEL (thinking)             | 28.6 | 22.2 | 24.8 | 66.2 | 55.8 | 59.5 | 42.6 | 29.3 | 41.1
Hunyuan-Image-3.0            | 41.6 | 27.4 | 42.3 | 76.3 | 52.7 | 52.2 | 55.1 | 20.6 | 46.0
Z-Image-Turbo                | -    | -    | -    | -    | -    | -    | -    | -    | 43.7
Qwen-Image                   | 42.2 | 29.5 | 40.0 | 78.6 | 47.9 | 55.2 | 59.0 | 18.4 | 46.3
LongCat-Image                | 41.7 | 32.2 | 38.4 | 78.3 | 72.6 | 66.3 | 55.8 | 32.6 | 52.2
DeepGen 1.0 SFT              | 38.8 | 28.7 | 40.2 | 79.1 | 51.5 | 65.7 | 42.0 | 19.8 | 45.7
DeepGen 1.0 RL               | 38.5 | 29.0 | 41.2 | 79.5 | 51.9 | 66.9 | 45.6 | 19.6 | 46.5
"""

_OWN = """
model            |MI  |MA  |MR  |TR  |LR  |BR  |HR  |PR  |GR  |AR  |CR  |RR  |C   |R   |all
FLUX.2-dev       |89.5|83.4|72.7|93.3|48.4|33.5|53.4|83.1|62.3|64.3|62.1|26.9|84.7|54.2|64.4
LongCat-Image    |-   |-   |-   |-   |-   |-   |-   |-   |-   |-   |-   |-   |-   |54.1|-
Hunyuan-Image-3.0|-   |-   |-   |-   |-   |-   |-   |-   |-   |-   |-   |-   |-   |48.6|-
OmniGen2         |-   |-   |-   |-   |-   |-   |-   |-   |-   |-   |-   |-   |-   |39.4|-
"""

_REASONING = {name: f"R-{name}" for name in ("LR", "BR", "HR", "PR", "GR", "AR", "CR", "RR")}
_COMPOSITION = {name: f"C-{name}" for name in ("MI", "MA", "MR", "TR")}

PUBLISHED_REASONING = (
    published_table(
        _PAPER,
        headings("reasoning", {"mean": None, **_REASONING}),
        judge="Qwen3-VL-32B-Thinking",
        accepted=("qwen3-vl-32b-thinking",),
        remarks=(
            "the means follow from the dimensions",
            "the published list of RL prompts holds all prompts of this benchmark, so the RL row "
            "was trained on it",
        ),
    ),
)
PUBLISHED = (
    *PUBLISHED_REASONING,
    published_table(
        _OWN,
        {
            "all": ("overall", None),
            "C": ("composition", None),
            "R": ("reasoning", None),
            **headings("overall", _COMPOSITION | _REASONING),
        },
        judge="Gemini 2.5 Flash",
        accepted=("gemini-2.5-flash",),
        source="T2I-CoReBench's own table (KlingAIResearch/T2I-CoReBench)",
        remarks=("this judge gives the same images two to three points more than the other",),
    ),
)
