"""Who comes next."""

from dataclasses import dataclass

from deepgen.pipeline.fair_queue import MAX_PASSED, FairQueue


@dataclass(frozen=True)
class Item:
    id: str
    client: str
    price: int = 1


def any_fits(_: Item) -> bool:
    return True


def order(queue: FairQueue[Item]) -> list[str]:
    found = []
    while (item := queue.pop(any_fits)) is not None:
        found.append(item.id)
    return found


def test_a_client_with_many_does_not_starve_those_with_one() -> None:
    queue: FairQueue[Item] = FairQueue()
    for number in range(50):
        queue.push(Item(f"many{number}", "a"))
    for client in "bcdefghij":
        queue.push(Item(client, client))
    found = order(queue)
    assert set(found[:10]) == {"many0", *"bcdefghij"}
    assert found[10:] == [f"many{number}" for number in range(1, 50)]


def test_expensive_images_count_for_more() -> None:
    queue: FairQueue[Item] = FairQueue()
    for number in range(3):
        queue.push(Item(f"large{number}", "a", price=10))
    for number in range(20):
        queue.push(Item(f"small{number}", "b"))
    found = order(queue)
    assert found[0] == "large0"
    assert found.index("large1") == 11
    assert found.index("large2") == 22


def test_who_comes_later_owes_nothing_and_gains_nothing() -> None:
    queue: FairQueue[Item] = FairQueue()
    for number in range(6):
        queue.push(Item(f"a{number}", "a"))
    assert [queue.pop(any_fits) for _ in range(3)] == [Item(f"a{n}", "a") for n in range(3)]
    for number in range(3):
        queue.push(Item(f"b{number}", "b"))
    assert order(queue) == ["b0", "a3", "b1", "a4", "b2", "a5"]


def test_what_does_not_fit_is_passed_a_while_and_then_waited_for() -> None:
    queue: FairQueue[Item] = FairQueue()
    queue.push(Item("large", "a"))
    for number in range(MAX_PASSED + 5):
        queue.push(Item(f"b{number}", "b"))

    def fits(item: Item) -> bool:
        return item.id != "large"

    found = []
    while (item := queue.pop(fits)) is not None:
        found.append(item.id)
    assert len(found) == MAX_PASSED
    assert queue.pop(any_fits) == Item("large", "a")
    assert len(queue) == 5


def test_items_can_be_taken_out_and_put_first() -> None:
    queue: FairQueue[Item] = FairQueue()
    for name in "abc":
        queue.push(Item(name, "client"))
    assert queue.remove("b") == Item("b", "client")
    assert queue.remove("b") is None
    queue.push_first(Item("again", "other"))
    assert [each.id for each in queue] == ["again", "a", "c"]
