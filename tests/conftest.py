from __future__ import annotations

import os

import pytest
import torch


@pytest.fixture(autouse=True)
def repeatable() -> None:
    """One thread, which tiny tensors are fastest on, and the same numbers every time."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: many tests wait for servers and other processes."""
    return (os.cpu_count() or 1) + 1
