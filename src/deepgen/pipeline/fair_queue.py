"""The queue of the engine: clients take turns by what their images cost, each in its own order."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, runtime_checkable

MAX_PASSED = 32
"""How often smaller images may pass one that has no room yet; then room is kept for it."""


@runtime_checkable
class Priced(Protocol):
    """What can wait in the queue."""

    @property
    def id(self) -> str:
        """Unique."""

    @property
    def client(self) -> str:
        """Whose turn it takes."""

    @property
    def price(self) -> int:
        """What it costs, in any unit."""


Item = TypeVar("Item", bound=Priced)


@dataclass(slots=True)
class _Waiting(Generic[Item]):
    item: Item
    start: float
    """Virtual time of its client at which it is due."""
    passed: int = 0


class FairQueue(Generic[Item]):
    """Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996), with unit weights.

    Every client has a virtual time that grows by the price of what it queues, and the item whose
    client is furthest behind comes next. So a client with one image waits for about as much work of
    each other client as its own image is, however many these have queued.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, _Waiting[Item]] = OrderedDict()
        self._finish: dict[str, float] = {}
        self._now = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Item]:
        """In the order in which they would come now."""
        return (each.item for each in self._in_order())

    def push(self, item: Item) -> None:
        """Add one to the end of its client's."""
        # Clients are remembered for as long as they are ahead.
        self._finish = {name: time for name, time in self._finish.items() if time > self._now}
        start = self._finish.get(item.client, self._now)
        self._finish[item.client] = start + item.price
        self._waiting[item.id] = _Waiting(item, start)

    def push_first(self, item: Item) -> None:
        """Add one that comes before all but those for which room is kept already."""
        self._waiting[item.id] = _Waiting(item, self._now, MAX_PASSED)
        self._waiting.move_to_end(item.id, last=False)

    def pop(self, fits: Callable[[Item], bool]) -> Item | None:
        """The next one for which there is room; None if there is none."""
        passed: list[_Waiting[Item]] = []
        for each in self._in_order():
            if fits(each.item):
                for earlier in passed:
                    earlier.passed += 1
                self._now = max(self._now, each.start)
                return self._take(each.item.id)
            if each.passed >= MAX_PASSED:
                return None
            passed.append(each)
        return None

    def remove(self, identifier: str) -> Item | None:
        """Take one out, if it waits here; its client does not pay for it."""
        if identifier not in self._waiting:
            return None
        item = self._take(identifier)
        if item.client in self._finish:
            self._finish[item.client] -= item.price
        return item

    def _take(self, identifier: str) -> Item:
        item = self._waiting.pop(identifier).item
        if not self._waiting:
            self._finish.clear()
        return item

    def _in_order(self) -> list[_Waiting[Item]]:
        # Sorting is stable: with equal times the one that came first. What has waited longest for
        # room comes before that.
        return sorted(
            self._waiting.values(), key=lambda each: (each.passed < MAX_PASSED, each.start)
        )
