from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deepgen.errors import ScorerError
from deepgen.scoring.weights import find_weights


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Stands for the hub, where every model is at commit abc123."""
    asked: list[dict[str, Any]] = []

    def download(name: str, **how: Any) -> str:
        asked.append({"name": name, **how})
        if name == "no/body":
            raise OSError("404\nnot found")
        return str(tmp_path / "snapshots" / "abc123")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    return asked


def test_a_hub_id_is_known_by_its_commit(hub: list[dict[str, Any]]) -> None:
    weights = find_weights("some/clip", ("*.json", "*.safetensors"), wanted="a CLIP")
    assert weights.identity == "some/clip@abc123"
    find_weights("some/clip@v1", ("*.json",), wanted="a CLIP")
    assert [each["revision"] for each in hub] == [None, "v1"]
    assert hub[0]["name"] == hub[1]["name"] == "some/clip"
    assert hub[0]["allow_patterns"] == ["*.json", "*.safetensors"]


def test_a_folder_is_known_by_its_weights_wherever_it_lies(
    tmp_path: Path, hub: list[dict[str, Any]]
) -> None:
    versions = []
    for place, content in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        folder = tmp_path / place / "clip"
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(content)
        weights = find_weights(str(folder), ("*",), wanted="a CLIP")
        assert weights.folder == folder
        versions.append(weights.identity)
    assert versions[0] == versions[1] != versions[2]
    assert all(each.startswith("clip@") for each in versions)
    assert hub == []


def test_what_is_nowhere_is_one_line(hub: list[dict[str, Any]]) -> None:
    with pytest.raises(ScorerError, match="a detector could not be loaded from no/body") as info:
        find_weights("no/body", ("*",), wanted="a detector")
    assert "\n" not in str(info.value)
