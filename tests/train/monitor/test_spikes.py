from deepgen.train.monitor.spikes import MEMORY, MIN_HISTORY, Spikes


def usual(count: int = MIN_HISTORY) -> Spikes:
    spikes = Spikes()
    for place in range(count):
        spikes.add(1.0 + 0.1 * (place % 5 - 2))
    return spikes


def test_fifty_times_the_median_is_too_much_and_six_deviations_are_worth_a_line() -> None:
    spikes = usual()
    assert spikes.median() == 1.0
    assert not spikes.is_excessive(49.9) and spikes.is_excessive(50.1)
    # The median deviation is 0.1, so six deviations are 0.89.
    assert not spikes.is_notable(1.8) and spikes.is_notable(2.0)


def test_nothing_is_called_large_before_enough_is_known() -> None:
    spikes = usual(MIN_HISTORY - 1)
    assert not spikes.is_excessive(1e9) and not spikes.is_notable(1e9)


def test_a_median_of_zero_is_no_measure() -> None:
    spikes = Spikes()
    for _ in range(MIN_HISTORY):
        spikes.add(0.0)
    assert not spikes.is_excessive(1e-9) and not spikes.is_notable(1.0)


def test_what_is_long_ago_is_forgotten_and_the_rest_can_be_stored() -> None:
    spikes = usual()
    for _ in range(MEMORY):
        spikes.add(100.0)
    assert not spikes.is_excessive(4000.0)
    copy = Spikes()
    copy.load(spikes.state())
    assert len(copy.state()) == MEMORY
    assert copy.median() == 100.0
