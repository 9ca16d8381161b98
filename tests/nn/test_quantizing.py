from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing._internal.two_tensor import TwoTensor

from deepgen.nn.checksum import checksum
from deepgen.nn.quantizing import is_quantized, multiplies_fp8, stored_tensors


class Sharded(TwoTensor):  # type: ignore[misc]
    """A wrapper that has a part of this process, as DTensor."""

    def to_local(self) -> Tensor:
        return self.a  # type: ignore[no-any-return]


def test_sharded_weights_are_not_quantized() -> None:
    values = torch.ones(2), torch.zeros(2)
    assert is_quantized(TwoTensor(*values))
    assert not is_quantized(Sharded(*values))
    assert not is_quantized(values[0])


def four_bit() -> Any:
    """As bitsandbytes keeps nf4: codes, their scales in 8 bits, and scales of those."""
    weight: Any = torch.zeros(8, dtype=torch.uint8)
    outer = SimpleNamespace(absmax=torch.ones(1), state2=None)
    weight.quant_state = SimpleNamespace(absmax=torch.zeros(2, dtype=torch.uint8), state2=outer)
    return weight


def test_a_changed_scale_of_quantized_weights_shows() -> None:
    before = checksum([four_bit()])
    inner, outer = four_bit(), four_bit()
    inner.quant_state.absmax[1] = 1
    outer.quant_state.state2.absmax[0] = 2
    assert len({before, checksum([inner]), checksum([outer])}) == 3
    assert checksum([four_bit()]) == before
    assert len(list(stored_tensors([TwoTensor(torch.ones(2), torch.zeros(2))]))) == 2


def test_fp8_products_are_those_of_the_gpu_that_will_compute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    capabilities = {None: (8, 0), torch.device("cuda:0"): (8, 0), torch.device("cuda:1"): (9, 0)}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capabilities[device])
    assert multiplies_fp8(torch.device("cuda:1"))
    assert not multiplies_fp8(torch.device("cuda:0"))
    assert not multiplies_fp8()
    assert not multiplies_fp8(torch.device("cpu"))
