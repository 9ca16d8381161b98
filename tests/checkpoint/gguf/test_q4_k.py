from __future__ import annotations

import numpy as np
import pytest

from deepgen.checkpoint.gguf import q4_k

gguf = pytest.importorskip("gguf")


def restored(values: q4_k.Floats) -> q4_k.Floats:
    """Values as another implementation reads their blocks."""
    found: q4_k.Floats = gguf.quants.dequantize(
        q4_k.quantize(values), gguf.GGMLQuantizationType.Q4_K
    )
    return found


def test_blocks_are_read_by_another_implementation_with_a_small_error() -> None:
    values = np.random.default_rng(0).normal(size=(16, 512)).astype(np.float32)
    error = np.sqrt(np.square(restored(values) - values).mean())
    # Of q4_1, which has five bits a value with its scales, it is 0.078.
    assert error < 0.075


def test_a_block_of_zeros_stays_zero_and_constants_stay_close() -> None:
    assert not restored(np.zeros((2, 256), np.float32)).any()
    for constant in (-3.0, 2.0):
        values = np.full((1, 256), constant, np.float32)
        assert np.abs(restored(values) - values).max() < 2e-3


def test_every_value_is_close_though_groups_differ_in_scale_and_offset() -> None:
    generator = np.random.default_rng(2)
    scale = np.array([40, 1, 17, 32, 25, 2, 15, 16], np.float32)[:, None]
    shift = np.array([-2, 0, -1, -3, -5, 0, -9, -4], np.float32)[:, None]
    groups = (generator.uniform(0, 1, (4, 8, 32)) + shift).astype(np.float32) * scale
    step = (np.maximum(groups.max(axis=2), 0) - groups.min(axis=2)) / 15
    error = np.abs(restored(groups.reshape(4, 256)).reshape(groups.shape) - groups).max(axis=2)
    # Half a step of rounding. Scales and offsets have six bits: half of their unit is up to 1/126
    # of the largest, a scale counts up to 15 times.
    allowed = step / 2 + 15 * step.max() / 126 + -groups.min() / 126
    assert (error < allowed).all()
