"""How fast a run is, and where its time goes; nothing that is computed depends on any of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from deepgen.train.parallel.distributed import ALONE, Processes

WAIT = "data"
"""The phase in which nothing happens but waiting for samples."""

REST = "other"

# Timed in one go before they are read, so that a run that never reads them keeps few.
PENDING_MARKS = 4096

Mark = float | torch.cuda.Event


class Clock:
    """Times the phases of a run; at every moment exactly one is being timed.

    On CUDA the device's own clock counts, since a call there returns before its work is done: a
    phase lasts from the moment the device reaches its beginning until it reaches its end.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self._on_cuda = device is not None and device.type == "cuda"
        self._phase = REST
        self._marks: list[tuple[str, Mark]] = []
        self._seconds: dict[str, float] = {}
        self._last = self._mark()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what is inside under this name, and under no other that is around it."""
        outer = self._phase
        self._switch(name)
        try:
            yield
        finally:
            self._switch(outer)

    def take(self) -> dict[str, float]:
        """Seconds of each phase since this was last asked."""
        self._switch(self._phase)
        self._read()
        seconds, self._seconds = self._seconds, {}
        return seconds

    def _switch(self, phase: str) -> None:
        self._marks.append((self._phase, self._mark()))
        self._phase = phase
        if len(self._marks) >= PENDING_MARKS:
            self._read()

    def _mark(self) -> Mark:
        if not self._on_cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _read(self) -> None:
        """Turn marks into seconds."""
        if self._on_cuda:
            torch.cuda.synchronize()
        for phase, mark in self._marks:
            self._seconds[phase] = self._seconds.get(phase, 0.0) + _between(self._last, mark)
            self._last = mark
        self._marks.clear()


class Speed:
    """What a run got done since the last line of its log, on all processes.

    Args:
        clock: Of this process.
        processes: Those that train together.
        matrix_rate: Floating-point operations that this process's device does in a second of
            nothing but matrix products; None where nobody knows.
    """

    def __init__(
        self, clock: Clock, processes: Processes = ALONE, matrix_rate: float | None = None
    ) -> None:
        self.clock = clock
        self.processes = processes
        self.matrix_rate = matrix_rate
        self._updates = 0
        self._work: dict[str, float] = {}

    def add(self, work: Mapping[str, float]) -> None:
        """Count an update and what this process did for it."""
        self._updates += 1
        for name, amount in work.items():
            self._work[name] = self._work.get(name, 0.0) + amount

    def line(self) -> dict[str, Any]:
        """Rates of all processes together since the last line; all of them must ask.

        Returns:
            Updates and every kind of work per second; ``mfu``, the share of the devices' matrix
            rate that the operations needed (``flops``) come to; ``data_wait``, the share of time
            that the process that waits most waits for samples; ``time``, the shares of the first
            process's phases; ``peak_memory_gib`` of the process that needs most, so far.
        """
        seconds = self.clock.take()
        elapsed = sum(seconds.values())
        wait = seconds.get(WAIT, 0.0) / elapsed
        said = self.processes.gather((self._work, wait, self.matrix_rate, peak_memory_gib()))
        updates, self._updates, self._work = self._updates, 0, {}
        line: dict[str, Any] = {"updates_per_second": updates / elapsed}
        for name in dict.fromkeys(name for work, _, _, _ in said for name in work):
            amount = sum(work.get(name, 0.0) for work, _, _, _ in said)
            line[f"{name}_per_second"] = amount / elapsed
        rates = [rate for _, _, rate, _ in said if rate is not None]
        if len(rates) == len(said) and "flops_per_second" in line:
            line["mfu"] = line["flops_per_second"] / sum(rates)
        line["data_wait"] = max(wait for _, wait, _, _ in said)
        line["time"] = {phase: each / elapsed for phase, each in seconds.items()}
        peaks = [peak for _, _, _, peak in said if peak is not None]
        if peaks:
            line["peak_memory_gib"] = max(peaks)
        return line


class Patience:
    """Tells, once, when a run waits for its data too long."""

    LIMIT = 0.05
    """Share of the time; above it, faster data would be worth more than a faster device."""

    UPDATES = 50
    """Fewer say little. The first line is not counted, since the first samples are always late."""

    def __init__(self) -> None:
        self._is_warm = False
        self._has_spoken = False
        self._updates = 0
        self._waited = 0.0

    def judge(self, updates: int, wait: float) -> float | None:
        """Take the share of waiting in some updates; the whole one comes back if it is too large.

        Args:
            updates: How many they are.
            wait: Share of their time.
        """
        if not self._is_warm:
            self._is_warm = True
            return None
        self._updates += updates
        self._waited += updates * wait
        if self._has_spoken or self._updates < self.UPDATES:
            return None
        share = self._waited / self._updates
        # The next verdict is on what follows, so that a run that becomes slow late is told too.
        self._updates, self._waited = 0, 0.0
        self._has_spoken = share > self.LIMIT
        return share if self._has_spoken else None


def peak_memory_gib() -> float | None:
    """Most memory this process has held so far, of its GPU if it has one; None if unknown."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**30
    try:
        import resource
    except ImportError:
        # Not on Windows.
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Bytes on macOS, kibibytes elsewhere.
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def _between(one: Mark, other: Mark) -> float:
    """Seconds from one mark to another."""
    if isinstance(one, float):
        assert isinstance(other, float)
        return other - one
    assert not isinstance(other, float)
    milliseconds: float = one.elapsed_time(other)
    return milliseconds / 1000


def measure_matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of square matrix products, the best of some.

    The products grow until one takes long enough to be timed, or fills the largest GPUs.
    """
    rate = 0.0
    side = 128
    generator = torch.Generator().manual_seed(0)
    seconds = 0.0
    while seconds < 0.02 and side < 8192:
        side *= 2
        # Random, since GPUs are faster at zeros.
        factor = torch.randn(side, side, generator=generator).to(device, dtype)
        clock = Clock(device)
        for _ in range(3):
            clock.take()
            factor @ factor
            seconds = sum(clock.take().values())
            rate = max(rate, 2 * side**3 / seconds)
    return rate
