from __future__ import annotations

import errno
import os
import re
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path
from zipfile import ZipFile

import pytest
from gpu import bundle, unpack
from gpu.bundle import BASE, NOT_AS_WHEELS, PYTHON, fetch_wheels, needed_wheels, pack
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.shared import HERE

ROOT = HERE.parent

OWN_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

PROJECT = """
[project]
name = "example-kit"
version = "1.2"
dependencies = ["pillow", "pretend>=2"]
optional-dependencies = {mini = ["emoji"]}
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small checkout whose runner prints what it is given and where it imports from."""
    root = tmp_path / "checkout"
    (root / "src" / "deepgen" / "mini" / "assets" / "vae").mkdir(parents=True)
    (root / "src" / "deepgen" / "__init__.py").write_text("")
    (root / "src" / "deepgen" / "mini" / "assets" / "vae" / "model.safetensors").write_text("w")
    (root / "src" / "deepgen" / "mini" / "assets" / "vae" / "config.json").write_text("{}")
    (root / "perf" / "gpu").mkdir(parents=True)
    (root / "perf" / "gpu" / "__init__.py").write_text("")
    (root / "perf" / "gpu" / "run.py").write_text(
        "import sys, pathlib, deepgen, pretend\n"
        "out = pathlib.Path(sys.argv[sys.argv.index('--out') + 1])\n"
        "out.mkdir(exist_ok=True)\n"
        "(out / 'record.json').write_text(repr(\n"
        "    (sys.argv[1:], deepgen.__file__, pretend.__file__)))\n"
        "sys.exit(3)\n"
    )
    (root / "golden").mkdir()
    (root / "golden" / "a.npz").write_bytes(b"1")
    (root / "pyproject.toml").write_text(PROJECT)
    return root


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "pretend-2.0-py3-none-any.whl"
    with ZipFile(path, "w") as archive:
        archive.writestr("pretend.py", "")
        archive.writestr("pretend-2.0.dist-info/METADATA", "Name: pretend\nVersion: 2.0\n")
    return path


@pytest.fixture
def packed(checkout: Path, wheel: Path, tmp_path: Path) -> Path:
    target = tmp_path / "kit.zip"
    pack(target, [wheel], {"golden": checkout / "golden"}, checkout, OWN_PYTHON)
    return target


def run(archive: Path, *arguments: str) -> int:
    return unpack.main(["run", "check", "--out", str(archive.parent / "out"), *arguments], archive)


def refusal(archive: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line with which a bundle refuses to run."""
    assert run(archive) == 2
    assert not (archive.parent / "out").exists()
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_the_same_files_make_the_same_bytes(
    checkout: Path, wheel: Path, packed: Path, tmp_path: Path
) -> None:
    for path in checkout.rglob("*"):
        os.utime(path, (1, 1))
    again = tmp_path / "again.zip"
    size = pack(again, [wheel], {"golden": checkout / "golden"}, checkout, OWN_PYTHON)
    assert again.read_bytes() == packed.read_bytes()
    assert size == len(packed.read_bytes())


def test_embedded_weights_stay_out_and_their_settings_do_not(packed: Path) -> None:
    with ZipFile(packed) as archive:
        names = archive.namelist()
    assets = [name for name in names if "assets" in name]
    assert assets == ["src/deepgen/mini/assets/vae/config.json"]


def test_a_bundle_that_is_too_large_is_not_written(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "MAX_BYTES", 100)
    with pytest.raises(ValueError, match="its largest files: "):
        pack(tmp_path / "kit.zip", [], {}, checkout)
    assert not list(tmp_path.glob("kit.zip*"))


def test_a_bundle_runs_a_plan_from_its_own_files_and_returns_its_exit_code(packed: Path) -> None:
    assert run(packed, "--toy") == 3
    arguments, package, wheel = eval((packed.parent / "out" / "record.json").read_text())
    home = packed.with_suffix(".unpacked")
    assert package == str(home / "src" / "deepgen" / "__init__.py")
    assert wheel == str(home / "site" / "pretend.py")
    assert arguments[:4] == ["check", "--toy", "--golden", str(home / "golden")]
    assert arguments[4:6] == ["--out", str(packed.parent / "out")]
    assert 500 < float(arguments[7]) <= 540
    # Again, from what is unpacked.
    assert run(packed, "--parts", str(packed.parent / "parts")) == 3
    assert (
        unpack.main(["join", *(str(packed.parent / name) for name in ("parts", "back"))], packed)
        == 0
    )
    assert (packed.parent / "back" / "record.json").is_file()


def test_another_bundle_is_not_run_from_this_ones_folder(
    checkout: Path, packed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = packed.with_name("other.zip")
    pack(other, [], {}, checkout, OWN_PYTHON)
    unpack.unpack(other, packed.with_suffix(".unpacked"))
    assert "does not hold this bundle (1.2" in refusal(packed, capsys)


def test_a_changed_file_is_found(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unpack.unpack(packed, packed.with_suffix(".unpacked"))
    (packed.with_suffix(".unpacked") / "golden" / "a.npz").write_bytes(b"2")
    assert re.search(r"a\.npz is missing or changed", refusal(packed, capsys))


def test_a_bundle_for_another_python_is_refused(
    checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack(tmp_path / "kit.zip", [], {}, checkout, "3.9")
    assert f"--python-version {OWN_PYTHON}" in refusal(tmp_path / "kit.zip", capsys)


def test_a_missing_wheel_is_named(
    checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack(tmp_path / "kit.zip", [], {}, checkout, OWN_PYTHON)
    assert "missing packages: pretend>=2 (not installed)" in refusal(tmp_path / "kit.zip", capsys)


def test_a_full_disk_leaves_nothing_half_unpacked(
    packed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fill(archive: ZipFile, folder: Path) -> None:
        folder.mkdir()
        raise OSError(errno.ENOSPC, "No space left on device")

    before = sorted(packed.parent.iterdir())
    monkeypatch.setattr(ZipFile, "extractall", fill)
    assert "no space left for" in refusal(packed, capsys)
    assert sorted(packed.parent.iterdir()) == before


@pytest.fixture
def pinned_wheels() -> list[str]:
    """What a bundle of this checkout holds, which is asked of the pinned packages."""
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    if f"diffusers=={distribution('diffusers').version}" not in pins:
        pytest.skip("bundles are packed with the pinned versions")
    return needed_wheels(ROOT, PYTHON)


def test_every_dependency_is_taken_for_granted_or_comes_as_a_wheel(
    pinned_wheels: list[str],
) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {canonicalize_name(Requirement(text).name) for text in project["dependencies"]}
    wheels = {each.split("==")[0] for each in pinned_wheels}
    assert names <= wheels | set(BASE)
    assert not wheels & {*BASE, *NOT_AS_WHEELS}
    assert {"diffusers", "pydantic-core", "resvg-py"} <= wheels


def test_the_pinned_wheels_satisfy_each_other(pinned_wheels: list[str]) -> None:
    pins = dict(each.split("==") for each in pinned_wheels)
    for name, version in pins.items():
        installed = distribution(name)
        if installed.version != version:
            continue
        for need in (Requirement(text) for text in installed.requires or []):
            if need.marker and not need.marker.evaluate({"extra": "", "python_version": PYTHON}):
                continue
            pin = pins.get(canonicalize_name(need.name))
            assert pin is None or need.specifier.contains(pin), f"{name} needs {need}"


def test_wheels_that_are_there_are_not_fetched(wheel: Path) -> None:
    assert fetch_wheels(["pretend==2.0"], wheel.parent, PYTHON) == [wheel]
