from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from deepgen.checkpoint import unpickling
from deepgen.checkpoint.folder import save_folder
from tests.checkpoint.models import tiny_model


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder that no test changes."""
    path = tmp_path_factory.mktemp("saved") / "model"
    save_folder(tiny_model(), path)
    return path


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A model folder to damage."""
    path = tmp_path / "model"
    shutil.copytree(saved, path)
    return path


@pytest.fixture
def no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading pickles in this process, which saves the seconds of another one's imports."""

    def unpack(source: Path, folder: Path) -> None:
        assert unpickling.main([str(source), str(folder)]) == 0

    monkeypatch.setattr("deepgen.checkpoint.conversion.unpack", unpack)
