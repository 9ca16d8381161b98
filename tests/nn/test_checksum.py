from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deepgen.nn.checksum import checksum

SHAPES = [(300, 512), (300, 512), (7,), (), (130, 257), (0, 3)]


def weights(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in SHAPES]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_equal_weights_have_equal_checksums_wherever_they_are_in_memory(dtype: torch.dtype) -> None:
    ours = weights(dtype)
    shifted = [torch.cat([each.new_zeros(1), each.flatten()])[1:].view_as(each) for each in ours]
    transposed = [each.t().contiguous().t() if each.ndim == 2 else each for each in ours]
    assert checksum(ours) == checksum(shifted) == checksum(transposed)


@pytest.mark.parametrize(("tensor", "place"), [(0, 0), (1, 153_599), (2, 6), (3, 0), (4, 33_409)])
def test_any_changed_bit_shows(tensor: int, place: int) -> None:
    before = checksum(weights())
    for bit in range(31):
        changed = weights()
        changed[tensor].view(-1).view(torch.int32)[place : place + 1] ^= 1 << bit
        assert checksum(changed) != before


def test_swapped_rows_columns_and_tensors_show() -> None:
    ours = weights()
    first, second, *others = ours
    swapped = [
        [first.flip(0), second, *others],
        [first.flip(1), second, *others],
        [second, first, *others],
    ]
    assert len({checksum(each) for each in (ours, *swapped)}) == 4


def test_no_tensors_have_a_checksum_too() -> None:
    assert checksum([]) == checksum([])
