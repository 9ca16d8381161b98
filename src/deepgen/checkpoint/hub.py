"""From the name of a model to its folder: the embedded model, a folder, or a hub model."""

from __future__ import annotations

import importlib.resources
import os
import re
from collections.abc import Sequence
from pathlib import Path

from deepgen.checkpoint.files import INDEX_NAME
from deepgen.errors import CheckpointError

EMBEDDED = "mini"

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")

PATTERNS = ("*.json", "*.safetensors", "tokenizer/*.txt")
"""Files that are downloaded of a hub model: none that could be executed."""

ADAPTER_PATTERNS = ("*.safetensors", "adapter_config.json")

# An error should come within 15 seconds, and the lookup of a name has no time limit by default.
TIMEOUT_SECONDS = 8.0


def resolve(
    model: str,
    *,
    revision: str | None = None,
    local_files_only: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
) -> Path:
    """The folder of a model; a hub model is downloaded into the hub's cache if needed.

    Args:
        model: ``mini``, a folder, or a hub id with an optional ``@revision``.
        revision: Branch, tag or commit of a hub model.
        local_files_only: Never use the network.
        cache_dir: Where hub models are kept; None is the hub's own cache.
        token: For private and gated models; None is that of ``hf auth login``.

    Raises:
        CheckpointError: There is no such model, or it needs a download that fails.
        ValueError: Two different revisions are given, or one for a local model.
    """
    try:
        path = Path(model).expanduser()
        is_local = path.exists()
    except (OSError, RuntimeError) as cause:
        raise CheckpointError(f"{model} cannot be a folder: {cause}") from None
    if model == EMBEDDED or is_local:
        if revision is not None:
            raise ValueError(f"only hub models have revisions, {model} does not")
        if model == EMBEDDED:
            return _embedded()
        if not path.is_dir():
            raise CheckpointError(f"{path} is a file, but a model is a folder")
        return path
    name, _, own_revision = model.partition("@")
    if not HUB_ID.fullmatch(name):
        raise CheckpointError(
            f"there is no folder {model}, and it is not a hub id such as organisation/name"
        )
    if own_revision and revision not in (None, own_revision):
        raise ValueError(f"{model} already names a revision, and {revision} is another one")
    return _from_hub(
        name, own_revision or revision, local_files_only, PATTERNS, cache_dir=cache_dir, token=token
    )


def resolve_adapter(
    adapter: str,
    *,
    revision: str | None = None,
    local_files_only: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
) -> Path:
    """The file or folder of an adapter; one of a hub id is downloaded into the hub's cache.

    Raises:
        CheckpointError: There is none, or it needs a download that fails.
        ValueError: Two different revisions are given, or one for a file.
    """
    path = Path(adapter).expanduser()
    name, _, own_revision = adapter.partition("@")
    if path.exists() or not HUB_ID.fullmatch(name):
        if revision is not None:
            raise ValueError(f"only hub adapters have revisions, {adapter} does not")
        return path
    if own_revision and revision not in (None, own_revision):
        raise ValueError(f"{adapter} already names a revision, and {revision} is another one")
    return _from_hub(
        name,
        own_revision or revision,
        local_files_only,
        ADAPTER_PATTERNS,
        cache_dir=cache_dir,
        token=token,
    )


def _embedded() -> Path:
    # As data of the package, not by import: this layer may not import deepgen.mini.
    path = Path(str(importlib.resources.files("deepgen"))) / EMBEDDED / "assets"
    if not (path / INDEX_NAME).is_file():
        raise CheckpointError(
            "this installation has no embedded model; install the released package or use "
            "a model folder"
        )
    return path


def _from_hub(
    name: str,
    revision: str | None,
    local_files_only: bool,
    patterns: Sequence[str],
    *,
    cache_dir: str | os.PathLike[str] | None,
    token: str | bool | None,
) -> Path:
    # Imported late: it takes half a second, and local models do not need it.
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
            commit = (
                HfApi(token=token).model_info(name, revision=revision, timeout=TIMEOUT_SECONDS).sha
            )
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
        # The errors for "no network" differ between versions of the hub's client.
        unreachable = f" (the hub cannot be reached: {type(cause).__name__})"
    offline = local_files_only or bool(unreachable)
    try:
        found = snapshot_download(
            name,
            revision=commit,
            allow_patterns=list(patterns),
            local_files_only=offline,
            cache_dir=None if cache_dir is None else os.fspath(cache_dir),
            token=token,
        )
    except LocalEntryNotFoundError as cause:
        raise CheckpointError(
            f"{shown} is neither a folder nor a hub model on this machine{unreachable}; check the "
            "path, or try again with a network"
        ) from cause
    except Exception as cause:
        kind = f"{type(cause).__name__}: {cause}".splitlines()[0]
        raise CheckpointError(f"{shown} could not be downloaded ({kind}); try again") from cause
    return Path(found)
