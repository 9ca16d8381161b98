from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def repeatable() -> None:
    """Two threads, as on the smallest machine that runs this, and the same numbers every time."""
    torch.set_num_threads(2)
    torch.manual_seed(0)
