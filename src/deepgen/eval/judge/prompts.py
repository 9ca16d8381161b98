"""The prompts that a judge is given: the official ones, or our paraphrases."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from deepgen.errors import ScorerError
from deepgen.eval.benchmark import Benchmark
from deepgen.eval.fetch import OFFICIAL, cache_folder, record_hash, recorded_hash
from deepgen.eval.judge.official_prompts import OfficialPrompts, PromptSources
from deepgen.eval.scorer import PARAPHRASED, ScoringOptions
from deepgen.scoring.questions import sha256_of_json
from deepgen.scoring.templates import (
    Template,
    TemplateSource,
    join_templates,
    load_template,
    load_texts,
    parse_template,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgePrompts:
    """The prompts of one benchmark, loaded."""

    origin: str
    """Repository, commit and file, or ``paraphrased``."""
    texts: Mapping[str, Template]
    terms: Mapping[str, str] = field(default_factory=dict)
    """Definitions that the prompts quote."""
    note: str = ""
    """For readers of a report: that the file is trusted on first use."""

    @property
    def sha256(self) -> str:
        """Hash of all texts; other prompts are another benchmark."""
        texts = {name: template.sha256 for name, template in self.texts.items()}
        return sha256_of_json([texts, dict(self.terms)])

    def fill(self, name: str, **values: str) -> str:
        """One prompt with its placeholders filled; others are ignored.

        Raises:
            ScorerError: It has a placeholder for something else.
        """
        template = self.texts[name]
        if unknown := template.slots - values.keys():
            raise ScorerError(
                f"the judge prompt {name!r} of {self.origin} has a placeholder {min(unknown)!r}, "
                f"expected only {', '.join(sorted(values)) or 'none'}; it is another version of "
                "the file"
            )
        return template.fill({slot: values[slot] for slot in template.slots})


def load_judge_prompts(benchmark: Benchmark, options: ScoringOptions) -> JudgePrompts:
    """The official prompts of a benchmark or, if so chosen, our paraphrases.

    Raises:
        ScorerError: The official file is not on this machine, or is not the one that was fetched.
    """
    official = sources_of(benchmark).official
    if official is None or options.paraphrased_prompts:
        return paraphrased_prompts(benchmark)
    if options.official is not None:
        return _official_prompts(official, options.official, record=False)
    folder = cache_folder() / benchmark.folder / OFFICIAL
    if not (folder / official.file.path).is_file():
        raise ScorerError(
            f"the judge prompts of {benchmark.name} are not on this machine; fetch them with "
            f"deepgen eval fetch {benchmark.name}, name a checkout of {official.file.repository} "
            "with --official, or use ours with --paraphrased-prompts"
        )
    return _official_prompts(official, folder, record=True)


def paraphrased_prompts(benchmark: Benchmark) -> JudgePrompts:
    """Our prompts with the same forms of reply; not comparable with published scores."""
    texts = sources_of(benchmark).paraphrased
    return JudgePrompts(
        origin=PARAPHRASED, texts={name: parse_template(text) for name, text in texts.items()}
    )


def sources_of(benchmark: Benchmark) -> PromptSources:
    """The judge prompts that a benchmark declares; a judged one without any is our bug."""
    assert benchmark.judge_prompts is not None, f"{benchmark.name} has no judge prompts"
    return benchmark.judge_prompts


def _official_prompts(official: OfficialPrompts, folder: Path, *, record: bool) -> JudgePrompts:
    """Read the file; where no hash of it is known, the one found now is recorded if asked for."""
    file = official.file
    known = recorded_hash(folder, file.path)
    found = hashlib.sha256(file.read(folder)).hexdigest()
    file = replace(file, sha256=file.sha256 or known)
    texts = {
        name: join_templates(
            [load_template(folder, source) for source in text.sources(file)], "\n"
        ).renamed(text.placeholders)
        for name, text in official.texts.items()
    }
    terms = (
        load_texts(folder, TemplateSource(file=file, symbol=official.terms))
        if official.terms
        else {}
    )
    if file.sha256 is None and record:
        record_hash(folder, file.path, found)
    origin = f"{file.repository}@{file.commit} {file.path}"
    note = ""
    if official.file.sha256 is None:
        seen = "was recorded when first seen" if known else "was first seen by this run"
        note = (
            f"The judge prompts ({origin}) are pinned by commit only and trusted on first use: "
            f"their SHA-256 {found} {seen}, and nobody has verified it."
        )
    return JudgePrompts(origin=origin, texts=texts, terms=terms, note=note)
