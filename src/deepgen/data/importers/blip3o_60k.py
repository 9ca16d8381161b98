"""BLIP3o-60k: WebDataset tars of image and text; prompts like GenEval's are tagged."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from deepgen.data.importers.fields import Fields, Locate, read_fields
from deepgen.data.importers.published import Layout, Part
from deepgen.data.importers.source import BadRow, RawSample

FIELDS = Fields(target=("jpg", "jpeg", "png"), texts={"txt": None})

COLOUR = "(?:red|orange|yellow|green|blue|purple|pink|brown|black|white)"

THING = rf"(?:an?|one|two|three|four) (?:{COLOUR} )?[a-z]+(?: [a-z]+)?"
"""A thing of at most two words, as all of GenEval's are; more words are another prompt."""

GENEVAL = re.compile(
    rf"a photo of {THING}(?: and {THING}| (?:left of|right of|above|below) {THING})?\.?",
    re.IGNORECASE,
)
"""Prompts with the templates of the benchmark GenEval: one or two things, counts, positions."""

GENEVAL_LIKE = "geneval_like"
"""Skill of their samples, which a mixture can exclude."""


def read(row: Mapping[str, Any], native_id: str, locate: Locate) -> Iterator[RawSample | BadRow]:
    """The sample of a row, tagged if its prompt contaminates a benchmark."""
    found = read_fields(row, FIELDS, native_id, locate)
    if isinstance(found, RawSample) and GENEVAL.fullmatch(found.prompts[0].text):
        found = replace(found, skills=(*found.skills, GENEVAL_LIKE))
    yield found


LAYOUT = Layout(
    title="BLIP3o-60k",
    home="BLIP3o/BLIP3o-60k",
    parts={"images": Part(fields=FIELDS, tars=("**/*",), read=read)},
    unverified="the names of the members",
    advice=(
        f"prompts with the templates of GenEval have the skill {GENEVAL_LIKE}; a mixture leaves "
        f"them out with exclude: [{GENEVAL_LIKE}]",
    ),
)

open_source = LAYOUT.open_source
