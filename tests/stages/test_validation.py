"""The loss on held-out samples."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from deepgen.data.dataset import DataSet
from deepgen.model import DeepGen
from deepgen.stages.validation import Validation
from deepgen.train.objective import FlowBatch, Loss
from tests.data.sets import captioned_folder, edits, imported, table
from tests.train.test_cheaper import ready

SIDE = 64


@pytest.fixture
def held_out(tmp_path: Path) -> DataSet:
    """Drawings and edits, half of either held out."""
    source = captioned_folder(tmp_path / "source", 6)
    drawings = [
        {"output_image": f"{number:03d}.png", "text": f"drawing {number}"} for number in range(6)
    ]
    lines = edits(source, 6).read_text().splitlines()
    rows = table(source / "rows.jsonl", [*drawings, *map(json.loads, lines)])
    found = imported(rows, tmp_path / "data", val_fraction=0.5)
    assert all(len(found.rows(task=task, split="val")) for task in found.tasks)
    return found


def one(model: DeepGen, batch: FlowBatch, generator: torch.Generator) -> Loss:
    return Loss(total=torch.ones(()), parts={})


def test_held_out_edits_that_leave_no_room_for_words_cost_their_line_and_no_run(
    held_out: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepgen.data.loader.MAX_REFERENCE_TOKENS", 3)
    log = tmp_path / "metrics.jsonl"
    with pytest.warns(UserWarning, match=r"no val/loss/edit: the references of every edit sample"):
        validation = Validation(
            held_out,
            log,
            one,
            tasks=("t2i", "edit"),
            side=SIDE,
            max_bad_fraction=0.0,
            latent_cache=None,
        )
    validation(ready("sft"), 3)
    (line,) = map(json.loads, log.read_text().splitlines())
    assert line == {"step": 3, "val/loss": 1.0, "val/loss/t2i": 1.0}
