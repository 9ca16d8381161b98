"""Any WebDataset: tars whose members with one key are a sample; --map says what they are called."""

from __future__ import annotations

from pathlib import Path

from deepgen.data.importers.fields import Fields, fields_of
from deepgen.data.importers.published import Layout, Part, PublishedSource
from deepgen.data.importers.source import PROMPT_KEYS, SourceOptions
from deepgen.data.importers.tar_samples import IMAGE, REFERENCES

USUAL = Fields(
    target=(IMAGE,),
    references=(REFERENCES,),
    # Shards of this package state all prompts in their JSON.
    texts={"prompts": None, **dict.fromkeys(PROMPT_KEYS)},
    rivals=PROMPT_KEYS,
    reasoning=("reasoning",),
    has_edits_only=False,
)


def open_source(path: Path, options: SourceOptions) -> PublishedSource:
    """The tars of a folder, or a single one.

    Raises:
        DataError: There is none.
        ValueError: A mapping is malformed, or an option does not apply.
    """
    part = Part(fields=fields_of(options.mapping, USUAL), tars=("**/*",))
    layout = Layout(title="a WebDataset", home="its publisher", parts={"tars": part})
    return layout.open_source(path, options)
