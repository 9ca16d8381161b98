"""Rows of different length in one tensor."""

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from deepgen.nn.rows import pad_sequences


@pytest.mark.parametrize("lengths", [[3, 3], [2, 5, 1], [0, 4]])
@pytest.mark.parametrize("rest", [(), (4,), (2, 3)])
def test_rows_are_filled_up_as_torch_does(lengths: list[int], rest: tuple[int, ...]) -> None:
    rows = [torch.randn(length, *rest, requires_grad=True) for length in lengths]
    filled, expected = pad_sequences(rows), pad_sequence(rows, batch_first=True)
    assert torch.equal(filled, expected)
    upstream = torch.randn(expected.shape)
    found = torch.autograd.grad(filled, rows, upstream)
    for one, other in zip(found, torch.autograd.grad(expected, rows, upstream), strict=True):
        assert torch.equal(one, other)
