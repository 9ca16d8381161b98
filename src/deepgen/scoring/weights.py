"""Where the weights of a local scorer are, and which they are: two weights are two scorers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

from deepgen.errors import ScorerError


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """A model folder on this machine."""

    folder: Path
    name: str
    """As the user gave it."""
    version: str
    """Commit of a hub id, else SHA-256 of the folder's safetensors."""

    @property
    def identity(self) -> str:
        """What results are recorded under."""
        return f"{self.name}@{self.version}"


def find_weights(source: str, patterns: Sequence[str], *, wanted: str) -> Weights:
    """The folder of a model, from this machine, the hub's cache or the hub.

    Args:
        source: A folder or a hub id, with ``@revision`` behind it if not the newest.
        patterns: Files that are needed of a hub id; safetensors only, never a pickle.
        wanted: What the model is to be, for the complaint.

    Raises:
        ScorerError: There is none.
    """
    # Only who loads a model pays for it.
    from huggingface_hub import snapshot_download

    folder = Path(source)
    if folder.is_dir():
        return Weights(folder=folder, name=folder.name, version=_hash_weights(folder))
    name, _, revision = source.partition("@")
    try:
        folder = Path(
            snapshot_download(name, revision=revision or None, allow_patterns=list(patterns))
        )
    except (OSError, ValueError) as error:
        cause = shorten(str(error), 200, placeholder=" ...")
        raise ScorerError(
            f"{wanted} could not be loaded from {source} ({cause}); "
            "give a folder with its files, or a hub id that can be reached"
        ) from None
    return Weights(folder=folder, name=name, version=folder.name)


def _hash_weights(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
