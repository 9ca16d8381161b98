"""The words in which a judge is asked: the authors' own, or ours where those cannot be had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from deepgen.errors import ScorerError
from deepgen.eval.benchmark import Benchmark
from deepgen.eval.fetch import OFFICIAL, RECORDED, cache_folder
from deepgen.eval.judged.official_prompts import OFFICIAL_PROMPTS, OfficialPrompts
from deepgen.eval.judged.own_words import OWN_WORDS
from deepgen.eval.prompt_files import read_json
from deepgen.eval.report.comparability import OWN_WORDS as OUR_WORDS
from deepgen.eval.scorer import ScoringOptions
from deepgen.scoring.questions import sha256_of_json
from deepgen.scoring.templates import (
    Template,
    join_templates,
    load_template,
    load_texts,
    parse_template,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wording:
    """The questions of one benchmark."""

    origin: str
    """Repository, commit and file, or ``own words``."""
    texts: Mapping[str, Template]
    terms: Mapping[str, str] = field(default_factory=dict)
    """Definitions that the questions quote."""

    @property
    def sha256(self) -> str:
        """Of all words; another wording is another benchmark."""
        texts = {name: template.sha256 for name, template in self.texts.items()}
        return sha256_of_json([texts, dict(self.terms)])

    def fill(self, name: str, **values: str) -> str:
        """One question, with what it has gaps for.

        Raises:
            ScorerError: It has a gap for something else.
        """
        template = self.texts[name]
        if unknown := template.slots - values.keys():
            raise ScorerError(
                f"the question {name!r} of {self.origin} has a gap {min(unknown)!r}, expected only "
                f"{', '.join(sorted(values)) or 'none'}; it is another version of the file"
            )
        return template.fill({gap: values[gap] for gap in template.slots})


def open_wording(benchmark: Benchmark, options: ScoringOptions) -> Wording:
    """The questions of a benchmark, as its authors ask them or, if so chosen, in our own words.

    Raises:
        ScorerError: The authors' file is not on this machine, or is not the one that was fetched.
    """
    official = OFFICIAL_PROMPTS.get(benchmark.name)
    if official is None or options.own_words:
        return own_wording(benchmark)
    if options.official is not None:
        return _official_wording(official, options.official)
    folder = cache_folder() / benchmark.folder / OFFICIAL
    if not (folder / official.file.path).is_file():
        raise ScorerError(
            f"the judge's questions of {benchmark.name} are not on this machine; fetch them with "
            f"deepgen eval fetch {benchmark.name}, name a checkout of "
            f"{official.file.repository} with --official, or ask in our words with --own-words"
        )
    return _official_wording(official, folder)


def own_wording(benchmark: Benchmark) -> Wording:
    """The same questions in our words: their answers are not comparable with published ones."""
    texts = OWN_WORDS[benchmark.name.partition("/")[0]]
    return Wording(
        origin=OUR_WORDS, texts={name: parse_template(text) for name, text in texts.items()}
    )


def _official_wording(official: OfficialPrompts, folder: Path) -> Wording:
    recorded = folder / RECORDED
    known = read_json(recorded).get(official.file.path) if recorded.is_file() else None
    file = replace(official.file, sha256=known)
    texts = {
        name: join_templates(
            [load_template(folder, replace(source, file=file)) for source in text.sources], "\n"
        ).renamed(text.gaps)
        for name, text in official.texts.items()
    }
    terms = load_texts(folder, replace(official.terms, file=file)) if official.terms else {}
    return Wording(origin=f"{file.repository}@{file.commit} {file.path}", texts=texts, terms=terms)
