"""Quantization to q4_k, which the ``gguf`` package only reads.

The layout is ggml's ``block_q4_K``: 256 values in eight groups of 32. A group has a scale and an
offset of 6 bits each, a value 4 bits::

    value = d * scale[group] * q - d_min * offset[group]

    bytes 0-1   d, float16          bytes 2-3   d_min, float16
    bytes 4-15  scales and offsets  bytes 16-143  q: groups 2i and 2i + 1 as the low and high halves
                                                   of the bytes 32i to 32i + 31

Bytes 4 to 7 hold the low six bits of scales 0 to 3, bytes 8 to 11 those of offsets 0 to 3; of
groups 4 to 7 the low four bits are in bytes 12 to 15 (scale low, offset high), and the upper two
in the upper two bits of bytes 4 to 7 and 8 to 11.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BLOCK_VALUES = 256
BLOCK_BYTES = 144
GROUPS = 8

ROUNDS = 3
"""Of fitting scales to the rounded values; after three, the error falls by less than 1 %."""

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


def quantize(values: Floats) -> Bytes:
    """Blocks of rows of values.

    Args:
        values: [rows, columns] in float32, the columns a multiple of 256.

    Returns:
        Bytes, [rows, columns / 256 * 144].
    """
    groups = values.reshape(-1, GROUPS, BLOCK_VALUES // GROUPS)
    scale, offset = _fitted(groups)
    d, scales = _six_bits(scale)
    d_min, offsets = _six_bits(offset)
    # Rounded anew by what the stored numbers will give.
    step = d.astype(np.float32)[:, None] * scales
    shift = d_min.astype(np.float32)[:, None] * offsets
    q = _rounded(groups, step, shift).astype(np.uint8)
    blocks = np.empty((len(groups), BLOCK_BYTES), np.uint8)
    blocks[:, 0:2] = d[:, None].view(np.uint8)
    blocks[:, 2:4] = d_min[:, None].view(np.uint8)
    blocks[:, 4:8] = scales[:, :4] | scales[:, 4:] >> 4 << 6
    blocks[:, 8:12] = offsets[:, :4] | offsets[:, 4:] >> 4 << 6
    blocks[:, 12:16] = scales[:, 4:] & 15 | offsets[:, 4:] << 4
    blocks[:, 16:] = (q[:, 0::2] | q[:, 1::2] << 4).reshape(len(groups), -1)
    return blocks.reshape(len(values), -1)


def _fitted(groups: Floats) -> tuple[Floats, Floats]:
    """Scales and offsets, neither negative, with little squared error in each group.

    Starting from the range of the values, they are fitted to the rounded values by least squares,
    and the values rounded anew.
    """
    low = np.minimum(groups.min(axis=2), 0)
    scale, offset = (np.maximum(groups.max(axis=2), 0) - low) / 15, -low
    best = np.square(
        _rounded(groups, scale, offset) * scale[..., None] - offset[..., None] - groups
    )
    best = best.sum(axis=2)
    found = scale, offset
    for _ in range(ROUNDS):
        q = _rounded(groups, scale, offset)
        mean_q, mean = q.mean(axis=2), groups.mean(axis=2)
        spread = np.square(q).mean(axis=2) - mean_q**2
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = ((q * groups).mean(axis=2) - mean_q * mean) / spread
        scale = np.where((spread > 0) & (slope > 0), slope, scale).astype(np.float32)
        offset = np.maximum(scale * mean_q - mean, 0)
        fitted = _rounded(groups, scale, offset) * scale[..., None] - offset[..., None]
        error = np.square(fitted - groups).sum(axis=2)
        is_better = error < best
        best = np.where(is_better, error, best)
        found = np.where(is_better, scale, found[0]), np.where(is_better, offset, found[1])
    return found


def _six_bits(numbers: Floats) -> tuple[npt.NDArray[np.float16], Bytes]:
    """Numbers of a block's groups as whole numbers to 63 and their unit."""
    unit = (numbers.max(axis=1) / 63).astype(np.float16)
    whole = numbers * _inverse(unit.astype(np.float32))[:, None]
    return unit, np.clip(np.rint(whole), 0, 63).astype(np.uint8)


def _rounded(groups: Floats, scale: Floats, offset: Floats) -> Floats:
    """Values as whole numbers to 15."""
    whole = (groups + offset[..., None]) * _inverse(scale)[..., None]
    rounded: Floats = np.clip(np.rint(whole), 0, 15)
    return rounded


def _inverse(numbers: Floats) -> Floats:
    """Of each number; 0 of those that are, or are too small to have one."""
    with np.errstate(divide="ignore", over="ignore"):
        inverse = 1 / numbers
    return np.where(np.isfinite(inverse), inverse, 0).astype(np.float32)
