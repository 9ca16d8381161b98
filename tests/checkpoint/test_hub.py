"""Names of models become folders, or a reason why not."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

from deepgen.checkpoint import hub
from deepgen.checkpoint.hub import resolve
from deepgen.errors import CheckpointError


class Hub:
    """A hub with one model, in place of the real one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.error: Exception | None = None
        self.cached = False
        self.calls: list[dict[str, Any]] = []

    def model_info(self, _: Any, name: str, **options: Any) -> SimpleNamespace:
        assert options["timeout"] < 15
        if self.error:
            raise self.error
        return SimpleNamespace(sha="c0ffee")

    def snapshot_download(self, name: str, **options: Any) -> str:
        self.calls.append({"name": name, **options})
        if options["local_files_only"] and not self.cached:
            raise LocalEntryNotFoundError("not here\nreally")
        return str(self.folder)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    fake = Hub(tmp_path)
    monkeypatch.setattr(
        huggingface_hub.HfApi, "model_info", lambda self, *a, **k: fake.model_info(self, *a, **k)
    )
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake.snapshot_download)
    return fake


def test_a_folder_is_itself(tmp_path: Path) -> None:
    assert resolve(str(tmp_path)) == tmp_path
    (tmp_path / "a@b").mkdir()
    assert resolve(str(tmp_path / "a@b")) == tmp_path / "a@b"


def test_mini_is_the_model_in_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub.importlib.resources, "files", lambda package: tmp_path / package)
    assets = tmp_path / "deepgen" / "mini" / "assets"
    with pytest.raises(CheckpointError, match="no embedded model"):
        resolve("mini")
    assets.mkdir(parents=True)
    (assets / "model_index.json").touch()
    assert resolve("mini") == assets


@pytest.mark.parametrize("name", ["minii", "/no/such", "./nope", "../up/x", "a/b/c", "a/ b"])
def test_what_is_neither_is_refused_without_asking_the_hub(
    name: str, tmp_path: Path, fake: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="there is no folder"):
        resolve(name)
    assert not fake.calls


def test_a_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(CheckpointError, match="is a file"):
        resolve(str(tmp_path / "model.safetensors"))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("org/model", {}),
        ("org/model@v1", {}),
        ("org/model", {"revision": "v1"}),
        ("org/model@v1", {"revision": "v1"}),
    ],
)
def test_a_hub_model_is_downloaded_at_one_commit(
    name: str, options: dict[str, Any], fake: Hub
) -> None:
    assert resolve(name, **options) == fake.folder
    (call,) = fake.calls
    assert (call["name"], call["revision"]) == ("org/model", "c0ffee")
    assert not call["local_files_only"]


def test_nothing_that_could_run_is_downloaded(fake: Hub) -> None:
    resolve("org/model")
    wanted = huggingface_hub.utils.filter_repo_objects(
        [
            "model_index.json",
            "vlm/model-00001-of-00002.safetensors",
            "tokenizer/merges.txt",
            "deepgen_pipeline.py",
            "vlm/pytorch_model.bin",
            "README.md",
        ],
        allow_patterns=fake.calls[0]["allow_patterns"],
    )
    assert list(wanted) == [
        "model_index.json",
        "vlm/model-00001-of-00002.safetensors",
        "tokenizer/merges.txt",
    ]


def test_two_revisions_are_one_too_many(fake: Hub, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="another one"):
        resolve("org/model@v1", revision="v2")
    with pytest.raises(ValueError, match="only hub models"):
        resolve(str(tmp_path), revision="v2")


def test_without_a_network_the_cache_is_enough(fake: Hub) -> None:
    fake.error = ConnectionError("down")
    with pytest.raises(CheckpointError, match="cannot be reached: ConnectionError") as caught:
        resolve("org/model@v1")
    assert "\n" not in str(caught.value)
    fake.cached = True
    assert resolve("org/model@v1") == fake.folder
    assert fake.calls[-1]["revision"] == "v1"


def test_local_files_only_never_asks(fake: Hub) -> None:
    fake.error = AssertionError("asked the network")
    fake.cached = True
    assert resolve("org/model", local_files_only=True) == fake.folder


def test_an_unknown_model_is_named(fake: Hub) -> None:
    # What its constructor wants differs between versions of the client.
    fake.error = RepositoryNotFoundError.__new__(RepositoryNotFoundError)
    with pytest.raises(CheckpointError, match="no public hub model org/modle") as caught:
        resolve("org/modle")
    assert "\n" not in str(caught.value)


def test_the_real_client_gives_up_quickly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # A port that nothing listens on, so that this test needs no network either.
    monkeypatch.setattr(huggingface_hub.HfApi, "endpoint", "http://127.0.0.1:9", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    start = time.monotonic()
    with pytest.raises(CheckpointError, match="cannot be reached"):
        resolve("org/model-that-is-not-cached")
    assert time.monotonic() - start < 15
