"""How fast a run is, and where its time goes; no result depends on any of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from deepgen.train.parallel.distributed import SINGLE_PROCESS, Processes

WAIT = "data"
"""The phase of waiting for samples."""

REST = "other"

# Marks are read at the latest when there are so many.
PENDING_MARKS = 4096

Mark = float | torch.cuda.Event


class Clock:
    """Times the phases of a run; at every moment exactly one is being timed.

    On CUDA, calls return before their work is done, so a phase lasts from the moment the device
    reaches its beginning until it reaches its end, by CUDA events.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self._on_cuda = device is not None and device.type == "cuda"
        self._phase = REST
        self._marks: list[tuple[str, Mark]] = []
        self._seconds: dict[str, float] = {}
        self._last = self._mark()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time the body under this name, and not under that of a phase around it."""
        outer = self._phase
        self._switch(name)
        try:
            yield
        finally:
            self._switch(outer)

    def take(self) -> dict[str, float]:
        """Seconds of each phase since the last call."""
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


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceRates:
    """Floating-point operations per second of a device in matrix products."""

    peak: float | None = None
    """By its datasheet, in the type that is trained in; None where that is not known."""
    measured: float | None = None
    """See :func:`measure_matrix_rate`."""


class Speed:
    """The work of all processes since the last line of the log.

    Args:
        clock: Of this process.
        processes: Those that train together.
        rates: Of this process's device.
    """

    def __init__(
        self, clock: Clock, processes: Processes = SINGLE_PROCESS, rates: DeviceRates | None = None
    ) -> None:
        self.clock = clock
        self.processes = processes
        self.rates = rates or DeviceRates()
        self._steps = 0
        self._work: dict[str, float] = {}

    def add(self, work: Mapping[str, float]) -> None:
        """Count a step and what this process did for it."""
        self._steps += 1
        for name, amount in work.items():
            self._work[name] = self._work.get(name, 0.0) + amount

    def line(self) -> dict[str, Any]:
        """Rates of all processes together since the last line; all of them must ask.

        Returns:
            Steps and every kind of work per second; ``mfu`` (model FLOPs utilisation; Chowdhery et
            al., arXiv 2204.02311, appendix B), ``flops`` per second as a fraction of the devices'
            peak rates; ``matmul_utilization``, the same of their measured rates; ``data_wait``, the
            largest fraction of time that a process waits for samples; ``time``, the fractions of
            the first process's phases; ``peak_memory_gib`` of the process that needs most, so far.
        """
        seconds = self.clock.take()
        elapsed = sum(seconds.values())
        wait = seconds.get(WAIT, 0.0) / elapsed
        every = self.processes.gather((self._work, wait, self.rates, peak_memory_gib()))
        steps, self._steps, self._work = self._steps, 0, {}
        line: dict[str, Any] = {"steps_per_second": steps / elapsed}
        for name in dict.fromkeys(name for work, _, _, _ in every for name in work):
            amount = sum(work.get(name, 0.0) for work, _, _, _ in every)
            line[f"{name}_per_second"] = amount / elapsed
        of_rates = {
            "mfu": [rates.peak for _, _, rates, _ in every],
            "matmul_utilization": [rates.measured for _, _, rates, _ in every],
        }
        for name, rates in of_rates.items():
            known = [rate for rate in rates if rate is not None]
            if len(known) == len(every) and "flops_per_second" in line:
                line[name] = line["flops_per_second"] / sum(known)
        line["data_wait"] = max(wait for _, wait, _, _ in every)
        line["time"] = {phase: each / elapsed for phase, each in seconds.items()}
        memory = [peak for _, _, _, peak in every if peak is not None]
        if memory:
            line["peak_memory_gib"] = max(memory)
        return line


class SlowDataAlarm:
    """Warns, once, of a run that waits for its samples too long."""

    LIMIT = 0.05
    """Fraction of the time; above it, faster data would be worth more than a faster device."""

    STEPS = 50
    """Fewer say little. The first line is not counted, since the first samples are always late."""

    def __init__(self) -> None:
        self._is_warm = False
        self._has_warned = False
        self._steps = 0
        self._waited = 0.0

    def add(self, steps: int, wait: float) -> float | None:
        """Add the wait of some steps; returns its fraction over the last steps if it is too large.

        Args:
            steps: How many they are.
            wait: Fraction of their time.
        """
        if not self._is_warm:
            self._is_warm = True
            return None
        self._steps += steps
        self._waited += steps * wait
        if self._has_warned or self._steps < self.STEPS:
            return None
        fraction = self._waited / self._steps
        # The next fraction is that of later steps, so that a run that becomes slow is noticed too.
        self._steps, self._waited = 0, 0.0
        self._has_warned = fraction > self.LIMIT
        return fraction if self._has_warned else None


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
    """Floating-point operations per second of square matrix products, the best of several.

    The products grow until one takes 20 ms, or has 8,192 rows.
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
