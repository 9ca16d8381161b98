from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def repeatable() -> None:
    """One thread, which tiny tensors are fastest on, and the same numbers every time."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
