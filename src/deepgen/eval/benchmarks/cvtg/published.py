"""Published scores of CVTG-2K."""

from __future__ import annotations

from deepgen.eval.published import UNSTATED, published_table

_PAPER = """
model                | word accuracy | NED   | CLIPScore
Nano Banana Pro      | .7788         | .8754 | .7372
GPT-Image-1          | .8569         | .9478 | .7982
Seedream 4.0         | .8451         | .9224 | .7975
FLUX.1-dev           | .4965         | .6879 | .7401
Z-Image-Turbo        | .8585         | .9281 | .8048
Hunyuan-Image-3.0    | .7650         | .8765 | .8121
Qwen-Image           | .8288         | .9116 | .8017
LongCat-Image        | .8658         | .9361 | .7859
GLM-Image            | .9116         | .9557 | .7877
DeepGen 1.0 SFT      | .6605         | .8426 | .8227
DeepGen 1.0 RL       | .7533         | .8936 | .8278
"""

PUBLISHED = (
    published_table(
        _PAPER,
        {
            "word accuracy": ("word accuracy", None),
            "NED": ("ned", None),
            "CLIPScore": ("clip score", None),
        },
        judge=f"{UNSTATED}PaddleOCR 2.10 and CLIP ViT-L/14",
        accepted=("paddleocr*",),
        remarks=("other OCR engines differ by several points",),
    ),
)
