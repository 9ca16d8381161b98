from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from deepgen.nn.offloading import BlockStream, on_device

# It keeps no values, so what is there afterwards was not copied back.
DEVICE = torch.device("meta")


def module() -> nn.Sequential:
    made = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    made.append(made[0])
    return made


def test_weights_are_on_the_device_and_then_the_same_tensors_again() -> None:
    offloaded = module()
    before = {name: value.data_ptr() for name, value in offloaded.state_dict().items()}
    parameters = list(offloaded.parameters())
    with torch.inference_mode(), on_device(offloaded, DEVICE):
        assert all(value.is_meta for value in offloaded.state_dict().values())
    assert {name: value.data_ptr() for name, value in offloaded.state_dict().items()} == before
    assert all(one is other for one, other in zip(offloaded.parameters(), parameters, strict=True))


def test_an_error_in_between_changes_nothing() -> None:
    offloaded = module()
    try:
        with on_device(offloaded, DEVICE):
            raise ValueError
    except ValueError:
        assert not any(value.is_meta for value in offloaded.state_dict().values())


def test_memory_that_runs_out_half_way_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    offloaded, moved = nn.Sequential(module(), nn.Linear(2, 2)), nn.Linear.to

    def to(layer: nn.Linear, device: torch.device) -> nn.Linear:
        if layer is offloaded[1] and device == DEVICE:
            raise torch.OutOfMemoryError
        return moved(layer, device)

    monkeypatch.setattr(nn.Linear, "to", to)
    before = {name: value.data_ptr() for name, value in offloaded.state_dict().items()}
    # Part by part, as where blocks stay.
    left_out = nn.Identity()
    with (
        pytest.raises(torch.OutOfMemoryError),
        on_device(offloaded, DEVICE, without=[left_out]),
    ):
        raise AssertionError
    assert {name: value.data_ptr() for name, value in offloaded.state_dict().items()} == before


def test_what_was_changed_or_added_in_between_is_kept() -> None:
    offloaded = module()
    weight = offloaded[0].weight.detach().clone()
    # The body computes on the CPU, where changes can be seen.
    with on_device(offloaded, torch.device("cpu")), torch.no_grad():
        offloaded[0].weight.add_(1)
        offloaded[1].running_mean.add_(2)
        offloaded.append(nn.Linear(3, 1))
    assert torch.equal(offloaded[0].weight, weight + 1)
    assert torch.equal(offloaded[1].running_mean, torch.full((3,), 2.0))
    assert len(offloaded) == 4


class Chain(nn.Module):
    """Blocks of unequal sizes, one after another."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(4, 3 + index), nn.GELU(), nn.Linear(3 + index, 4))
            for index in range(count)
        )

    def forward(self, values: Tensor) -> Tensor:
        for block in self.blocks:
            values = block(values)
        return values


def on_slots(stream: BlockStream, block: nn.Module) -> bool:
    """Whether a block's weights lie in the memory that moves."""
    slots = {each.memory.untyped_storage().data_ptr() for each in stream._slots}
    return {each.untyped_storage().data_ptr() for each in block.parameters()} <= slots


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("prefetches", [True, False])
def test_blocks_that_are_there_one_at_a_time_give_the_same_bits(
    count: int, prefetches: bool
) -> None:
    chain, values = Chain(count), torch.randn(5, 4)
    expected = chain(values)
    # On the CPU, where values can be seen; copies go the same way.
    stream = BlockStream(list(chain.blocks), torch.device("cpu"), prefetches=prefetches)
    seen = []
    for block in chain.blocks:
        block[1].register_forward_hook(lambda *_: seen.append([*map(there, chain.blocks)]))
    there = partial(on_slots, stream)
    with stream.opened():
        for _ in range(3):
            assert torch.equal(chain(values), expected)
    assert all(sum(each) == 1 for each in seen)
    assert len(seen) == 3 * count
    assert torch.equal(chain(values), expected)
    assert not stream._slots


def test_parts_of_blocks_may_be_called_by_themselves() -> None:
    chain, values = Chain(3), torch.randn(5, 4)
    expected = [block[0](values) for block in chain.blocks]
    stream = BlockStream(list(chain.blocks), torch.device("cpu"))
    with stream.opened():
        found = [block[0](values) for block in chain.blocks]
        whole = chain(values)
    assert all(torch.equal(mine, true) for mine, true in zip(found, expected, strict=True))
    assert torch.equal(whole, chain(values))


def test_a_block_that_fails_is_on_the_cpu_again() -> None:
    chain = Chain(2)
    stream = BlockStream(list(chain.blocks), torch.device("cpu"))
    with pytest.raises(RuntimeError), stream.opened():
        chain(torch.randn(5, 7))
    assert torch.isfinite(chain(torch.randn(5, 4))).all()
    stream.close()
    assert not any(part._forward_pre_hooks for part in chain.modules())


def test_writes_between_stages_count_in_the_next() -> None:
    chain, values = Chain(2), torch.randn(5, 4)
    stream = BlockStream(list(chain.blocks), torch.device("cpu"))
    with stream.opened():
        chain(values)
    with torch.no_grad():
        chain.blocks[0][0].weight.add_(1)
    expected = chain(values)
    with stream.opened():
        assert torch.equal(chain(values), expected)


def test_a_part_may_stay_where_it_is() -> None:
    chain = Chain(2)
    with on_device(chain, DEVICE, without=[chain.blocks[1]]):
        assert all(each.is_meta for each in chain.blocks[0].parameters())
        assert not any(each.is_meta for each in chain.blocks[1].parameters())
    assert torch.isfinite(chain(torch.randn(5, 4))).all()
