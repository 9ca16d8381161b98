from __future__ import annotations

import pickle

import pytest

from deepgen.data import parallel


def test_blocks_for_ray_end_by_rows_or_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "BLOCK_ROWS", 3)
    monkeypatch.setattr(parallel, "BLOCK_BYTES", 1500)
    items = [b"a", b"b", b"c", b"d", bytes(1000), bytes(1001), bytes(2000), b"e"]
    found = list(parallel.blocks(items))
    assert [len(block) for block, _ in found] == [3, 3, 1, 1]
    assert [each for block, _ in found for each in block] == items
    assert [pickle.loads(each) for _, pickled in found for each in pickled] == items
    assert list(parallel.blocks([])) == []
