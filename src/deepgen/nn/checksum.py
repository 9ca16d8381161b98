"""Whether weights have changed, by their bits alone."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from deepgen.nn.quantizing import stored_tensors

# A prime, so that swapped rows and swapped layers almost never get the same factors.
FACTORS = 1021
BLOCK_BYTES = 8 * FACTORS

# Tensors below this are copied together, and cost one operation instead of one each.
SMALL_BYTES = 2**16

Bytes = UInt8[Tensor, " bytes"]


def checksum(tensors: Iterable[Tensor]) -> int:
    """A number that depends on every bit of the tensors and on their order.

    The bits are read as 64-bit integers, which are multiplied by odd factors and added modulo
    2^64. A change of one integer therefore always shows, several go unnoticed with a probability
    of about 2^-64, and equal weights give equal numbers on every device. It finds writes of any
    kind, also through ``Tensor.data``, which leave no other trace, not even in
    ``Tensor._version``.

    Args:
        tensors: Of sharded ones (DTensor), the part of this process counts; of quantized ones,
            the tensors that they hold. The number is the same wherever each of them is.
    """
    sums, rest = [], []
    for tensor in stored_tensors(tensors):
        content = _bytes(tensor)
        is_large = len(content) >= SMALL_BYTES
        whole = len(content) - len(content) % BLOCK_BYTES if is_large else 0
        if whole:
            sums.append(_sum_blocks(content[:whole]))
        rest.append(content[whole:])
    if len({each.device for each in rest}) > 1:
        # Group offload leaves blocks on the CPU.
        sums, rest = ([each.cpu() for each in some] for some in (sums, rest))
    if not rest:
        return 0
    missing = -sum(map(len, rest)) % BLOCK_BYTES
    sums.append(_sum_blocks(torch.cat([*rest, rest[0].new_zeros(missing)])))
    # The multiplier of 64-bit Fibonacci hashing (Knuth, TAOCP 3, section 6.4).
    factors = torch.arange(1, FACTORS + 1, device=sums[0].device) * -0x61C8864680B583EB | 1
    # One wait for the device.
    return hash(tuple((torch.stack(sums) * factors).sum(dim=1).tolist()))


def _sum_blocks(content: Bytes) -> Int[Tensor, " factors"]:
    """The sum of all blocks of ``FACTORS`` integers, modulo 2^64."""
    return content.view(torch.int64).view(-1, FACTORS).sum(dim=0)


def _bytes(tensor: Tensor) -> Bytes:
    local: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    content = local.detach().contiguous().view(-1).view(torch.uint8)
    # At an offset that is not a multiple of 8 it could not be read as 64-bit integers.
    return content.clone() if content.storage_offset() % 8 else content
