from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from gpu.plan import Context

# Scripts in perf/ import each other by their plain names.
sys.path.append(str(Path(__file__).resolve().parents[2] / "perf"))


@pytest.fixture
def context(tmp_path: Path) -> Context:
    """A rehearsal on this machine."""
    from gpu.plan import Context

    return Context(
        device=torch.device("cpu"),
        toy=True,
        folder=tmp_path,
        golden=None,
        renders=None,
        deadline=time.monotonic() + 600,
    )
