"""Published scores, as they were printed: one row a model, a dash for what was not reported.

A letter in brackets points to a remark of ``published.py``. Digits are kept as printed, because
they say how far a number can be trusted.
"""

from __future__ import annotations

DEEPGEN_OVERALLS = """
model                        | GenEval | DPG   | UniGenBench | ImgEdit  | GEdit-EN
Nano Banana                  | 0.75    | 85.23 | 87.45       | 4.35 (a) | 7.54 (a)
GPT-Image-1                  | 0.84    | 85.20 | 92.77       | 4.20     | 7.53
Seedream 4.0                 | 0.84    | 88.25 | 87.30       | 4.18     | 7.68
FLUX.1 Kontext Pro           | -       | -     | 75.84       | 4.00     | 6.56
Janus-Pro 7B                 | 0.80    | 84.20 | 61.61       | -        | -
Show-o2                      | 0.76    | 86.14 | 62.73       | -        | -
BLIP3-o                      | 0.84    | 81.60 | 59.87       | -        | -
MetaQuery-XL                 | 0.80    | 82.05 | -           | -        | -
OmniGen2                     | 0.80    | 83.57 | 63.09       | 3.43     | 6.41
UniWorld-V1                  | 0.80    | 81.38 | 63.11       | 3.26     | 4.85
BAGEL                        | 0.82    | 85.10 | 61.53 (b)   | 3.20 (c) | 6.52
FLUX.1-dev                   | 0.82    | 83.84 | 69.88 (b)   | -        | -
X-Omni                       | 0.83    | 87.65 | 53.77       | -        | -
Lumina-DiMOO                 | 0.88    | 86.04 | 71.12       | -        | -
Mammoth2                     | 0.87    | 87.20 | -           | 4.06     | 6.60
LongCat-Image / -Edit        | 0.87    | 86.80 | -           | 4.50     | 7.60
Hunyuan-Image-3.0            | 0.72    | 86.10 | -           | -        | -
Z-Image-Turbo                | 0.84    | 85.15 | 71.40       | -        | -
Qwen-Image / -Edit 2509      | 0.87    | 88.32 | 78.81 (b)   | 4.35     | 7.54
GLM-Image                    | -       | 84.78 | -           | -        | -
DeepGen 1.0 SFT              | 0.86    | 87.05 | 74.18       | 4.09     | 7.12
DeepGen 1.0 RL               | 0.87    | 87.90 | 75.74       | 4.14     | 7.17
"""

DEEPGEN_WISE = """
model             | Cultural | Time    | Space   | Biology | Physics | Chemistry | WISE
GPT-Image-1       | .81      | .71     | .89     | .83     | .79     | .74       | .80
Seedream 4.0      | .78      | .73     | .85     | .79     | .84     | .67       | .78
Janus-Pro         | .30      | .37     | .49     | .36     | .42     | .26       | .35
BLIP3-o           | -        | -       | -       | -       | -       | -         | .62
FLUX.1-dev        | .48      | .58     | .62     | .42     | .51     | .35       | .50
MetaQuery-XL      | .56      | .55     | .62     | .49     | .63     | .41       | .55
UniWorld-V1       | .53      | .55     | .73     | .45     | .59     | .41       | .55
OmniGen2          | .42      | .52     | .64     | .43     | .50     | .34       | .47
BAGEL (thinking)  | .76      | .69     | .75     | .65     | .75     | .58       | .70 (g)
NextFlow-RL       | .63      | .63     | .77     | .58     | .67     | .39       | .62
STAR              | .61      | .67     | .61     | .74     | .69     | .66       | .66 (h)
Hunyuan-Image-3.0 | .58      | .57     | .70     | .56     | .63     | .31       | .57
Qwen-Image        | .62      | .63     | .77     | .57     | .75     | .40       | .62
LongCat-Image     | .66      | .61     | .72     | .66     | .72     | .49       | .65
DeepGen 1.0 SFT   | .70      | .71     | .82     | .62     | .79     | .65       | .72 (e)
DeepGen 1.0 RL    | .72      | .81 (d) | .70 (d) | .67     | .82     | .66       | .73
"""

WISE_VERIFIED = """
model             | Cultural | Time    | Space   | Biology | Physics | Chemistry | WISE
DeepGen 1.0       | .65      | .41     | .72     | .39     | .59     | .45       | .5700 (f)
"""

DEEPGEN_COREBENCH = """
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

COREBENCH_OWN = """
model            |MI  |MA  |MR  |TR  |LR  |BR  |HR  |PR  |GR  |AR  |CR  |RR  |C   |R   |all
FLUX.2-dev       |89.5|83.4|72.7|93.3|48.4|33.5|53.4|83.1|62.3|64.3|62.1|26.9|84.7|54.2|64.4
LongCat-Image    |-   |-   |-   |-   |-   |-   |-   |-   |-   |-   |-   |-   |-   |54.1|-
Hunyuan-Image-3.0|-   |-   |-   |-   |-   |-   |-   |-   |-   |-   |-   |-   |-   |48.6|-
OmniGen2         |-   |-   |-   |-   |-   |-   |-   |-   |-   |-   |-   |-   |-   |39.4|-
"""

DEEPGEN_REASONED_EDITS = """
model                | Temporal | Causal | Spatial | Logical | RISE | Real world | Game | UniREdit
Nano Banana          | 25.9     | 47.8   | 37.0    | 18.8    | 32.8 | 75.2       | 60.4 | 68.3
GPT-Image-1          | 34.1     | 32.2   | 37.0    | 10.6    | 28.9 | 81.0       | 62.1 | 73.4
Seedream 4.0         | 12.9     | 12.2   | 11.0    | 7.1     | 10.8 | 66.2       | 45.4 | 55.8
FLUX.1 Kontext Pro   | -        | -      | -       | -       | -    | 45.0       | 46.5 | 45.8
FLUX.1 Kontext dev   | 2.3      | 5.5    | 13.0    | 1.2     | 5.8  | -          | -    | -
OmniGen2             | -        | -      | -       | -       | -    | 53.7       | 33.1 | 43.4
Lumina-DiMOO         | -        | -      | -       | -       | -    | 51.4       | 45.6 | 48.5
BAGEL (thinking)     | 5.9      | 17.8   | 21.0    | 1.2     | 11.9 | 56.8       | 45.1 | 51.0
Qwen-Image-Edit 2509 | 4.7      | 10.0   | 17.0    | 2.4     | 8.9  | 71.0       | 41.9 | 56.5
DeepGen 1.0 SFT      | 15.3     | 18.9   | 14.0    | 4.7     | 13.3 | 74.3       | 80.7 | 77.5
DeepGen 1.0 RL       | 12.9     | 14.4   | 13.0    | 2.4     | 10.8 | 73.2       | 78.2 | 75.7
"""

RISE_2026_BOARD = """
model            | RISE
BAGEL (thinking) | 15.8
"""

UNIREDIT_OWN = """
model                     | UniREdit
the benchmark's own model | 78.15
"""

DEEPGEN_CVTG = """
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

SFT_ABLATIONS = """
model                               | GenEval | DPG   | GEdit | WISE | RISE
DeepGen 1.0 SFT                     | .86     | 87.05 | 7.12  | .72  | 13.3
SFT without channel bridging        | .86     | 85.55 | 6.75  | .70  | 12.6
SFT without think tokens            | .87     | 86.35 | 7.02  | .68  | 11.7
SFT with a frozen VLM               | .85     | 86.74 | 6.93  | .71  | 12.9
"""

RL_ABLATIONS = """
model                               | GenEval | DPG   | GEdit | UniGen text | UniGen overall
RL, 1,000 steps                     | .87     | 87.75 | 7.05  | 35.06       | 75.69
RL without auxiliary SFT loss       | .87     | 87.40 | 6.99  | 33.33       | 74.33
RL without KL                       | .87     | 87.32 | 7.02  | 32.47       | 75.07
RL without per-reward normalisation | .86     | 87.73 | 7.02  | 32.18       | 75.27
"""

GENEVAL_OWN = """
model | single_object | two_object | counting | colors | position | color_attr | GenEval
IF-XL | .97           | .74        | .66      | .81    | .13      | .35        | .61
"""

UNIGENBENCH_BOARD = """
model      | Style | World | Attribute | Action | Relation | Logic | Grammar | Compound | Layout \
| Text  | overall
FLUX.1-dev | 85.00 | 87.50 | 67.20     | 62.26  | 66.88    | 29.77 | 62.30   | 45.75    | 70.90  \
| 32.18 | 60.97
Qwen-Image | -     | -     | -         | -      | -        | -     | -       | -        | -      \
| -     | 78.36
BAGEL      | -     | -     | -         | -      | -        | -     | -       | -        | -      \
| -     | 59.91
"""

IMGEDIT_BOARD = """
model       | Add  | Adjust | Extract | Replace | Remove | Background | Style | Hybrid | Action \
| overall
UniWorld-V1 | 3.82 | 3.64   | 2.27    | 3.47    | 3.24   | 2.99       | 4.21  | 2.96   | 2.74   \
| 3.26
MagicBrush  | 2.84 | 1.58   | 1.51    | 1.97    | 1.58   | 1.75       | 2.38  | 1.62   | 1.22   \
| 1.83
"""

PARAMETERS = {
    "DeepGen 1.0 SFT": "3B + 2B",
    "DeepGen 1.0 RL": "3B + 2B",
    "DeepGen 1.0": "3B + 2B",
    "Janus-Pro 7B": "7B",
    "Janus-Pro": "7B",
    "BAGEL": "14B",
    "BAGEL (thinking)": "14B",
    "Lumina-DiMOO": "8B",
    "Hunyuan-Image-3.0": "80B",
    "FLUX.1-dev": "12B",
    "FLUX.1 Kontext dev": "12B",
    "Z-Image-Turbo": "6B",
    "Qwen-Image": "20B",
    "Qwen-Image / -Edit 2509": "20B",
    "Qwen-Image-Edit 2509": "20B",
    "GLM-Image": "9B + 7B",
}
"""As the makers of each model state them, understanding + drawing where they tell the parts apart.
FLUX.1, Qwen-Image and Z-Image state their transformer alone, so their text encoders come on top.
Nothing was counted here, and of other models nobody looked it up."""
