"""Published scores of GenEval."""

from __future__ import annotations

from deepgen.eval.published import UNSTATED, headings, published_table

_DETECTOR = ("mmdet2", "mmdet2 (*")
"""The official detector runs as a worker in mmdetection 2, and names itself so."""
_OFFICIAL = "Mask2Former Swin-S and CLIP ViT-L/14"

_PAPER = """
model                   | GenEval
Nano Banana             | 0.75
GPT-Image-1             | 0.84
Seedream 4.0            | 0.84
Janus-Pro 7B            | 0.80
Show-o2                 | 0.76
BLIP3-o                 | 0.84
MetaQuery-XL            | 0.80
OmniGen2                | 0.80
UniWorld-V1             | 0.80
BAGEL                   | 0.82
FLUX.1-dev              | 0.82
X-Omni                  | 0.83
Lumina-DiMOO            | 0.88
Mammoth2                | 0.87
LongCat-Image / -Edit   | 0.87
Hunyuan-Image-3.0       | 0.72
Z-Image-Turbo           | 0.84
Qwen-Image / -Edit 2509 | 0.87
DeepGen 1.0 SFT         | 0.86
DeepGen 1.0 RL          | 0.87
"""

_OWN = """
model | single_object | two_object | counting | colors | position | color_attr | GenEval
IF-XL | .97           | .74        | .66      | .81    | .13      | .35        | .61
"""

_SFT_ABLATIONS = """
model                        | GenEval
DeepGen 1.0 SFT              | .86
SFT without channel bridging | .86
SFT without think tokens     | .87
SFT with a frozen VLM        | .85
"""

_RL_ABLATIONS = """
model                               | GenEval
RL, 1,000 steps                     | .87
RL without auxiliary SFT loss       | .87
RL without KL                       | .87
RL without per-reward normalisation | .86
"""

_TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")

PUBLISHED = (
    published_table(
        _PAPER,
        {"GenEval": ("accuracy", None)},
        judge=UNSTATED + _OFFICIAL,
        accepted=_DETECTOR,
        remarks=(
            "DeepGen rewrites no prompts; .85 and above elsewhere often comes from rewritten ones",
            "DeepGen's training data name a collection of prompts in the style of GenEval",
        ),
    ),
    published_table(
        _OWN,
        headings("accuracy", {"GenEval": None, **{tag: tag for tag in _TAGS}}),
        judge=_OFFICIAL,
        accepted=_DETECTOR,
        source="GenEval paper, arXiv 2310.11513",
        remarks=("the overall follows from the categories",),
    ),
    *(
        published_table(
            text,
            {"GenEval": ("accuracy", None)},
            judge=UNSTATED + _OFFICIAL,
            accepted=_DETECTOR,
            remarks=(f"ablations of the {stage} stage",),
        )
        for stage, text in (("SFT", _SFT_ABLATIONS), ("RL", _RL_ABLATIONS))
    ),
)
