"""Locating and identifying the weights of local scorers: other weights are another scorer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

from deepgen.errors import ScorerError


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """A model folder on this machine."""

    folder: Path
    identity: str
    """Recorded with results: the name, and the commit of a hub id or the SHA-256 of a folder's
    safetensors."""


def find_weights(source: str, patterns: Sequence[str], *, wanted: str) -> Weights:
    """The folder of a model: local, from the hub's cache or from the hub.

    Args:
        source: A folder or a hub id, with ``@revision`` appended if not the newest.
        patterns: Files needed from the hub; safetensors only, never a pickle.
        wanted: Description of the model, for the error message.

    Raises:
        ScorerError: There is none.
    """
    # Imported here because it is slow.
    from huggingface_hub import snapshot_download

    folder = Path(source)
    if folder.is_dir():
        return Weights(folder=folder, identity=f"{folder.name}@{_hash_weights(folder)}")
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
    return Weights(folder=folder, identity=f"{name}@{folder.name}")


@contextmanager
def loading(what: str, source: str | Path, *, instead: str) -> Iterator[None]:
    """Turn what transformers raises for files of another model into one line.

    Raises:
        ScorerError: The block failed.
    """
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError) as error:
        cause = " ".join(str(error).split())[:200]
        raise ScorerError(
            f"no {what} could be loaded from {source} ({cause}); give {instead}"
        ) from None


def _hash_weights(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
