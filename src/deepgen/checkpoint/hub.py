"""Where a model is: the embedded one, a folder, or a model of the Hugging Face hub."""

from __future__ import annotations

import importlib.resources
import re
from pathlib import Path

from deepgen.checkpoint.files import INDEX_NAME
from deepgen.errors import CheckpointError

EMBEDDED = "mini"

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")

PATTERNS = ("*.json", "*.safetensors", "tokenizer/*.txt")
"""What is downloaded of a hub model: nothing that could be run."""

# Refusals are to come within 15 seconds, and looking the name up has no limit of its own.
TIMEOUT_SECONDS = 8.0


def resolve(model: str, *, revision: str | None = None, local_files_only: bool = False) -> Path:
    """The folder of a model; a hub model is downloaded into the hub's cache if it is not there.

    Args:
        model: ``mini``, a folder, or a hub id with an optional ``@revision``.
        revision: Branch, tag or commit of a hub model.
        local_files_only: Never ask the network.

    Raises:
        CheckpointError: There is no such model, or the network is needed and not there.
        ValueError: Two different revisions are asked for, or one of something that has none.
    """
    try:
        path = Path(model).expanduser()
        there = path.exists()
    except (OSError, RuntimeError) as cause:
        raise CheckpointError(f"{model} cannot be a folder: {cause}") from None
    if model == EMBEDDED or there:
        if revision is not None:
            raise ValueError(f"only hub models have revisions, {model} does not")
        return _embedded() if model == EMBEDDED else _folder(path)
    name, _, own_revision = model.partition("@")
    if not HUB_ID.fullmatch(name):
        raise CheckpointError(
            f"there is no folder {model}, and a hub id would look like organisation/name"
        )
    if own_revision and revision not in (None, own_revision):
        raise ValueError(f"{model} already names a revision, and {revision} is another one")
    return _from_hub(name, own_revision or revision, local_files_only)


def _embedded() -> Path:
    # As data of the installed package, not by importing it: the loader does not know the mini.
    path = Path(str(importlib.resources.files("deepgen"))) / EMBEDDED / "assets"
    if not (path / INDEX_NAME).is_file():
        raise CheckpointError(
            "this installation has no embedded model; install the released package or give "
            "a model folder"
        )
    return path


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise CheckpointError(f"{path} is a file, but a model is a folder")
    return path


def _from_hub(name: str, revision: str | None, local_files_only: bool) -> Path:
    # Half a second of imports that local models can do without.
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    shown = f"{name}@{revision}" if revision else name
    commit, unreachable = revision, ""
    try:
        if not local_files_only:
            commit = HfApi().model_info(name, revision=revision, timeout=TIMEOUT_SECONDS).sha
    except GatedRepoError as cause:
        raise CheckpointError(
            f"{shown} is gated: accept its terms on the hub and log in with hf auth login"
        ) from cause
    except RevisionNotFoundError as cause:
        raise CheckpointError(f"the hub model {name} has no revision {revision}") from cause
    except RepositoryNotFoundError as cause:
        raise CheckpointError(
            f"there is no folder and no public hub model {name}; check the name, or log in with "
            "hf auth login if it is private"
        ) from cause
    except Exception as cause:
        # Which errors mean "no network" differs between versions of the hub's client.
        unreachable = f" (the hub cannot be reached: {type(cause).__name__})"
    offline = local_files_only or bool(unreachable)
    try:
        found = snapshot_download(
            name, revision=commit, allow_patterns=list(PATTERNS), local_files_only=offline
        )
    except LocalEntryNotFoundError as cause:
        raise CheckpointError(
            f"{shown} is no folder, and no hub model on this machine{unreachable}; check the "
            "path, or try again with a network"
        ) from cause
    except Exception as cause:
        kind = f"{type(cause).__name__}: {cause}".splitlines()[0]
        raise CheckpointError(f"{shown} could not be downloaded ({kind}); try again") from cause
    return Path(found)
