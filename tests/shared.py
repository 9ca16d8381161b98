"""Where the reference numbers are, and how closeness to them is counted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

HERE = Path(__file__).resolve().parent

WHOLE_FOLDERS = {"dit", "inputs", "model/connector", "model/tokenizer", "model/transformer"}
"""What of ``golden/`` lives here as a whole; of other folders only single files do."""


def shared_dir() -> Path:
    """The folder of reference numbers: ``DEEPGEN_SHARED``, else ``shared`` beside the checkout.

    Absent, the test is skipped; in CI it fails, because there the folder must be.
    """
    folder = _shared_path()
    if not folder.is_dir():
        reason = f"no reference numbers at {folder}; set DEEPGEN_SHARED to have them checked"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


def golden(name: str) -> Path:
    """A file or folder of reference numbers; a few of them also live beside the tests."""
    own = HERE / "golden" / name
    if (own.is_file() or name in WHOLE_FOLDERS) and not _shared_path().is_dir():
        return own
    path = shared_dir() / "golden" / name
    assert path.exists(), f"{path} is missing from the reference numbers"
    return path


def _shared_path() -> Path:
    return Path(os.environ.get("DEEPGEN_SHARED") or HERE.parent.parent / "shared")


def error(actual: Any, expected: Any) -> float:
    """``max|a - b| / max|b|`` over one array."""
    mine = torch.as_tensor(np.asarray(actual.detach() if hasattr(actual, "detach") else actual))
    true = torch.as_tensor(np.asarray(expected))
    assert mine.shape == true.shape, f"shape {tuple(mine.shape)}, expected {tuple(true.shape)}"
    return ((mine.double() - true.double()).abs().max() / true.double().abs().max()).item()
