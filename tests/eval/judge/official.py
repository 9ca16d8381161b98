"""Files that stand where the authors keep their questions, with words of ours in their forms."""

from __future__ import annotations

import json
from pathlib import Path

from deepgen.eval.benchmarks.imgedit.benchmark import TYPES
from deepgen.eval.judge.official_prompts import OfficialPrompts
from deepgen.eval.registry import find_benchmark

WISE = '''
import openai

def build_evaluation_messages(prompt_data: Dict, image_base64: str) -> list:
    return [
        {"role": "system", "content": [{"type": "text", "text": "Be a strict judge of it all."}]},
        {
            "role": "user",
            "content": [
                {
                    "type": "text",
                    "text": f"""Judge "{prompt_data['Prompt']}", which means
{prompt_data['Explanation']}. A line each.""",
                },
                {"type": "image_url", "image_url": {"url": f"data:{image_base64}"}},
            ],
        },
    ]
'''

COREBENCH = 'TEMPLATE = """\nAnswer yes or no.\n"""\n'

UNIGENBENCH = """
EXPLANATION_DICT_EN = {"Style": "how it is drawn", "Attribute - Color": "which colours it has"}
EXPLANATION_DICT_ZH = {"\u98ce\u683c": "\u753b"}
SYSTEM_PROMPT_EN_TEMPLATE = '''Prompt {prompt}, points {testpoint}. {explanation} {test_explanation}
<prompt>{prompt}</prompt>'''
SYSTEM_PROMPT_ZH_TEMPLATE = '''{prompt} {testpoint} {explanation} {test_explanation}'''
LANG_CONFIGS = {
    "en": {"checkpoint_header": "In general", "checkpoint_desc_header": "Here"},
    "zh": {"checkpoint_header": "A", "checkpoint_desc_header": "B"},
}
"""

GEDIT = '''
_context_no_delimit = """Answer in JSON: {"score": [...]}"""
_prompts_0shot_two_image_edit_rule = "Two images."
_prompts_0shot_tie_rule_SC = "Was it done: <instruction>"
_prompts_0shot_rule_PQ = "How does it look?"
'''

_RISE_FILLED = (
    *("consist", "reasoning", "reasoning_w_input", "spatial_cons", "spatial_ref"),
    *("spatial_ref_w_input", "spatial_ref_img", "logical_cons", "logical_cons_ans"),
    *("logical_txt", "logical_img", "reasoning_w_ref_image"),
)
_RISE_PLAIN = ("generation", "spatial_qual", "logical_img_wo_q")
FINAL_SCORES = "".join(
    f'prompt_{name} = """{name}: {{instruct}} {{reference}}, braces {{{{}}}}"""\n'
    for name in _RISE_FILLED
) + "".join(f'prompt_{name} = """{name}, braces {{}}"""\n' for name in _RISE_PLAIN)

IMGEDIT = json.dumps({kind: f"{kind}: was <edit_prompt> done?" for kind in TYPES})

FILES = {
    "wise/legacy": WISE,
    "corebench": COREBENCH,
    "unigenbench/en": UNIGENBENCH,
    "unigenbench/zh": UNIGENBENCH,
    "gedit/en": GEDIT,
    "imgedit": IMGEDIT,
    "rise/2026-04": FINAL_SCORES,
    "uniredit": FINAL_SCORES,
}


def official_of(name: str) -> OfficialPrompts:
    prompts = find_benchmark(name).judge_prompts
    assert prompts is not None
    assert prompts.official is not None
    return prompts.official


def write_official(folder: Path, name: str) -> Path:
    """The file of one benchmark, as in a checkout of its repository."""
    path = folder / official_of(name).file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(FILES[name], encoding="utf-8")
    return path
