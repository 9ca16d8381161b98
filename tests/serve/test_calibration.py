from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from deepgen.pipeline.engine import Event
from deepgen.serve.calibration import calibrated_tokens, token_limit

SIDE = 64


class OneImage:
    """An engine in which a step takes 10 bytes a token, and that has memory for some tokens."""

    device = "cuda"

    def __init__(self, most: int) -> None:
        self.most = most
        self.allocated = self.peak = 1000
        self.job: Any = None

    @property
    def is_idle(self) -> bool:
        return self.job is None

    def submit(self, job: Any) -> None:
        self.job, self.steps = job, 3

    def tick(self) -> Sequence[Event]:
        if self.job.tokens > self.most:
            self.job = None
            return [Event(id="a", kind="failed", code="out_of_memory", message="no memory")]
        self.peak = self.allocated + 10 * self.job.tokens
        self.steps -= 1
        self.job = self.job if self.steps else None
        return []


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> OneImage:
    own = OneImage(most=10_000)
    for name, value in {
        "reset_peak_memory_stats": lambda device: None,
        "memory_allocated": lambda device: own.allocated,
        "max_memory_allocated": lambda device: own.peak,
        "memory_reserved": lambda device: own.allocated,
        "mem_get_info": lambda device: (1_000_000, 2_000_000),
    }.items():
        monkeypatch.setattr(f"torch.cuda.{name}", value)
    return own


def job(height: int, width: int) -> Any:
    return SimpleNamespace(tokens=height * width // 16)


def test_the_limit_of_tokens_is_a_line_through_two_steps_with_memory_left() -> None:
    # 100 bytes and 10 a token, of which 90 % of 10,100 suffice for 899.
    assert token_limit((100, 1100), (400, 4100), 10_100) == 899
    # What has been there fits.
    assert token_limit((100, 1100), (400, 4100), 500) == 400
    # Peaks that do not grow, as where memory comes in blocks, give no infinite limit.
    assert token_limit((100, 2000), (400, 2000), 10_000) <= 10_000


def test_where_the_larger_image_runs_out_of_memory_the_smaller_one_decides(
    engine: OneImage,
) -> None:
    # 256 and 1,024 tokens; the last step, that decodes, took 10 bytes a token as well.
    both = calibrated_tokens(engine, job, SIDE)  # type: ignore[arg-type]
    assert both == int(0.9 * (1_000_000 - 10 * 1024)) // 10
    engine.most = 1000
    alone = calibrated_tokens(engine, job, SIDE)  # type: ignore[arg-type]
    assert alone == int(0.9 * (1_000_000 - 10 * 256)) // 10


def test_a_server_does_not_start_where_the_default_size_runs_out_of_memory(
    engine: OneImage,
) -> None:
    engine.most = 100
    with pytest.raises(RuntimeError, match="cannot generate: no memory"):
        calibrated_tokens(engine, job, SIDE)  # type: ignore[arg-type]
