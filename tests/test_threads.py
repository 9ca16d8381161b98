from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import pytest

from deepgen.threads import AHEAD, bounded_map


def test_results_come_in_the_order_of_the_items_whatever_takes_longest() -> None:
    def work(number: int) -> int:
        time.sleep(0.01 * (number % 3))
        return number

    assert list(bounded_map(work, range(30), workers=4)) == list(range(30))


def test_out_of_order_a_slow_item_holds_nobody_up() -> None:
    release = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert release.wait(10)
        return number

    results = bounded_map(work, range(50), workers=2, in_order=False)
    early = [next(results) for _ in range(49)]
    release.set()
    assert sorted(early) == list(range(1, 50))
    assert list(results) == [0]


@pytest.mark.parametrize("workers", [1, 3])
def test_items_are_taken_only_as_needed(workers: int) -> None:
    taken = itertools.count()
    results = bounded_map(lambda item: item, iter(taken.__next__, None), workers=workers)
    assert next(results) == 0
    assert next(taken) <= AHEAD * workers


def test_one_worker_needs_no_threads() -> None:
    threads = set(bounded_map(lambda _: threading.current_thread(), range(3), workers=1))
    assert threads == {threading.current_thread()}


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("in_order", [True, False])
def test_items_that_break_off_give_all_results_before(workers: int, in_order: bool) -> None:
    def items() -> Iterator[int]:
        yield from range(20)
        raise OSError("the disk is gone")

    found = []
    with pytest.raises(OSError, match="the disk is gone"):
        for result in bounded_map(lambda item: item, items(), workers=workers, in_order=in_order):
            found.append(result)
    assert sorted(found) == list(range(20))


def test_a_failed_call_surfaces_at_once_and_what_waits_is_cancelled() -> None:
    begun = []
    release = threading.Event()

    def work(number: int) -> None:
        begun.append(number)
        if number == 0:
            raise ValueError("number 0")
        assert release.wait(10)

    with pytest.raises(ValueError, match="number 0"):
        list(bounded_map(work, range(100), workers=2))
    release.set()
    time.sleep(0.05)
    assert len(begun) <= 4
