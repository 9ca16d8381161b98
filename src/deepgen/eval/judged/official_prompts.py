"""Where the questions of each judged benchmark stand in its own repository.

A reworded question makes another benchmark, so the words are read from the authors' files when a
run is scored (``deepgen.scoring.templates``), and only their places are kept here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from deepgen.scoring.templates import PinnedFile, TemplateSource


@dataclass(frozen=True, kw_only=True, slots=True)
class OfficialText:
    """One question in the authors' words."""

    sources: tuple[TemplateSource, ...]
    """Joined by line breaks where there are several."""
    gaps: Mapping[str, str] = field(default_factory=dict)
    """From the authors' names of what is filled in to ours, where they differ."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OfficialPrompts:
    """All questions of one benchmark, in one file of its repository."""

    file: PinnedFile
    texts: Mapping[str, OfficialText]
    """By the names that the benchmark's scorer asks for them."""
    terms: TemplateSource | None = None
    """A dictionary of definitions that the questions quote."""


def _file(repository: str, commit: str, path: str) -> PinnedFile:
    # Their hashes are recorded when they are first fetched, as those of other unverified files.
    return PinnedFile(repository=repository, commit=commit, path=path, sha256=None)


_WISE = _file("PKU-YuanGroup/WISE", "117c25efa3d1ef4477649f958a240c32e0d3fea6", "gpt_eval.py")
# The system and the user message are the 7th and the 14th string of the function, as the keys of
# the messages are strings too.
_WISE_LEGACY = OfficialPrompts(
    file=_WISE,
    texts={
        "system": OfficialText(
            sources=(TemplateSource(file=_WISE, symbol="build_evaluation_messages/@7"),)
        ),
        "question": OfficialText(
            sources=(TemplateSource(file=_WISE, symbol="build_evaluation_messages/@14"),),
            gaps={"prompt_data['Prompt']": "prompt", "prompt_data['Explanation']": "explanation"},
        ),
    },
)

_CORE = _file("KlingAIResearch/T2I-CoReBench", "ebf7b7a", "evaluate.py")
_COREBENCH = OfficialPrompts(
    file=_CORE,
    texts={"system": OfficialText(sources=(TemplateSource(file=_CORE, symbol="TEMPLATE"),))},
)

_UNIGEN = _file("CodeGoat24/UniGenBench", "49d0bce", "eval/src/eval_common.py")


def _unigenbench(language: str) -> OfficialPrompts:
    template = TemplateSource(
        file=_UNIGEN, symbol=f"SYSTEM_PROMPT_{language}_TEMPLATE", style="format"
    )

    def heading(name: str) -> OfficialText:
        symbol = f"LANG_CONFIGS/{language.lower()}/{name}"
        return OfficialText(sources=(TemplateSource(file=_UNIGEN, symbol=symbol),))

    return OfficialPrompts(
        file=_UNIGEN,
        texts={
            "question": OfficialText(
                sources=(template,),
                gaps={
                    "testpoint": "testpoints",
                    "explanation": "definitions",
                    "test_explanation": "descriptions",
                },
            ),
            "definitions": heading("checkpoint_header"),
            "descriptions": heading("checkpoint_desc_header"),
        },
        terms=TemplateSource(file=_UNIGEN, symbol=f"EXPLANATION_DICT_{language}"),
    )


_VIE = _file("stepfun-ai/Step1X-Edit", "570eba6", "GEdit-Bench/viescore/vie_prompts.py")


def _vie(*symbols: str) -> OfficialText:
    mark = "<instruction>"
    return OfficialText(
        sources=tuple(TemplateSource(file=_VIE, symbol=each, marks=(mark,)) for each in symbols),
        gaps={mark: "instruction"},
    )


_GEDIT = OfficialPrompts(
    file=_VIE,
    texts={
        "semantics": _vie(
            "_context_no_delimit",
            "_prompts_0shot_two_image_edit_rule",
            "_prompts_0shot_tie_rule_SC",
        ),
        "quality": _vie("_context_no_delimit", "_prompts_0shot_rule_PQ"),
    },
)

_IMGEDIT_FILE = _file("PKU-YuanGroup/ImgEdit", "547185d", "Benchmark/Basic/prompts.json")
_IMGEDIT_TYPES = (
    *("add", "adjust", "extract", "replace", "remove"),
    *("background", "style", "compose", "action"),
)
_IMGEDIT = OfficialPrompts(
    file=_IMGEDIT_FILE,
    texts={
        kind: OfficialText(
            sources=(TemplateSource(file=_IMGEDIT_FILE, symbol=kind, marks=("<edit_prompt>",)),),
            gaps={"<edit_prompt>": "instruction"},
        )
        for kind in _IMGEDIT_TYPES
    },
)


def _final_scores(
    file: PinnedFile, filled: Mapping[str, str], plain: Mapping[str, str]
) -> OfficialPrompts:
    """Variables of one file: those the scorer formats, and those it takes as they are."""
    texts = {
        name: OfficialText(
            sources=(TemplateSource(file=file, symbol=symbol, style="format"),),
            gaps={"instruct": "instruction"},
        )
        for name, symbol in filled.items()
    }
    texts |= {
        name: OfficialText(sources=(TemplateSource(file=file, symbol=symbol),))
        for name, symbol in plain.items()
    }
    return OfficialPrompts(file=file, texts=texts)


_RISE = _final_scores(
    _file("PhoenixZ810/RISEBench", "5f22651", "utils.py"),
    filled={
        "consistency": "prompt_consist",
        "reasoning": "prompt_reasoning",
        "reasoning with source": "prompt_reasoning_w_input",
        "spatial consistency": "prompt_spatial_cons",
        "spatial reasoning": "prompt_spatial_ref",
        "spatial reasoning with source": "prompt_spatial_ref_w_input",
        "spatial reasoning by image": "prompt_spatial_ref_img",
        "logical consistency": "prompt_logical_cons",
        "logical consistency with answer": "prompt_logical_cons_ans",
        "logical reasoning by text": "prompt_logical_txt",
        "logical reasoning by image": "prompt_logical_img",
    },
    plain={
        "plausibility": "prompt_generation",
        "spatial plausibility": "prompt_spatial_qual",
        "logical reasoning by image alone": "prompt_logical_img_wo_q",
    },
)

_UNIREDIT = _final_scores(
    _file("Maplebb/UniREditBench", "a7015c5", "eval/utils.py"),
    filled={"consistency": "prompt_consist", "reasoning": "prompt_reasoning_w_ref_image"},
    plain={"quality": "prompt_generation"},
)

OFFICIAL_PROMPTS: Mapping[str, OfficialPrompts] = {
    "wise/legacy": _WISE_LEGACY,
    "corebench": _COREBENCH,
    "corebench/reasoning": _COREBENCH,
    **{f"unigenbench/{name}": _unigenbench("EN") for name in ("en", "en-long")},
    **{f"unigenbench/{name}": _unigenbench("ZH") for name in ("zh", "zh-long")},
    "gedit/en": _GEDIT,
    "gedit/cn": _GEDIT,
    "imgedit": _IMGEDIT,
    "rise/2026-04": _RISE,
    "rise/2025-05": _RISE,
    "uniredit": _UNIREDIT,
}
"""By benchmark. ``wise/verified`` is not among them: its file was not at hand to read where in it
the question stands."""
