"""What a bundle does where it is run: unpack itself, check the machine, run a plan, fetch nothing.

``python3 bundle.zip run PLAN --out FOLDER --parts PARTS``. Needs only the standard library, and
``packaging``, which transformers needs as well.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from gpu.parts import main_join, main_split, sha256, split_results

MANIFEST = "manifest.json"

FORMAT = 1

RUN_SECONDS = 540.0
"""As in ``gpu.plan``, which needs torch."""

SOURCES = ("site", "drawings", "src", "perf")
"""Folders of an unpacked bundle that Python imports from; ``site`` holds the unpacked wheels."""


def main(arguments: Sequence[str], archive: Path) -> int:
    """Run a command of the bundle; its exit code."""
    commands = {"run": lambda rest: _run(rest, archive), "split": main_split, "join": main_join}
    if not arguments or arguments[0] not in commands:
        print(f"usage: {archive.name} {{{','.join(commands)}}} ...", file=sys.stderr)
        return 2
    return commands[arguments[0]](arguments[1:])


def _run(arguments: Sequence[str], archive: Path) -> int:
    started = time.monotonic()
    parser = argparse.ArgumentParser(prog="run", allow_abbrev=False, add_help=False)
    parser.add_argument("--unpack-to", type=Path, default=archive.with_suffix(".unpacked"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parts", type=Path)
    parser.add_argument("--seconds", type=float, default=RUN_SECONDS)
    options, others = parser.parse_known_args(arguments)
    folder: Path = options.unpack_to
    try:
        unpack(archive, folder)
        check_requirements(folder)
    except (ValueError, BadZipFile) as error:
        return _refuse(str(error))
    except OSError as error:
        full = error.errno == errno.ENOSPC
        return _refuse(f"no space left for {folder}; make room" if full else str(error))
    for name in ("golden", "renders"):
        if (folder / name).is_dir():
            others += [f"--{name}", str(folder / name)]
    left = options.seconds - (time.monotonic() - started)
    command = [sys.executable, "-m", "gpu.run", *others, "--out", str(options.out)]
    command += ["--seconds", f"{left:.1f}"]
    code = subprocess.run(command, env=environment(folder), check=False).returncode
    if options.parts and options.out.is_dir():
        # The code of the plan stays: what it has measured is there, in parts or not.
        try:
            split_results(options.out, options.parts)
        except (ValueError, OSError) as error:
            _refuse(str(error))
    return code


def environment(folder: Path) -> dict[str, str]:
    """Variables of a process that imports from an unpacked bundle and asks no hub for models."""
    before = os.environ.get("PYTHONPATH")
    paths = [*(str((folder / name).resolve()) for name in SOURCES), *([before] if before else [])]
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    return {**os.environ, **offline, "PYTHONPATH": os.pathsep.join(paths)}


def unpack(archive: Path, folder: Path) -> None:
    """Unpack all files and wheels; a folder that already holds them is only checked.

    Raises:
        ValueError: The bundle is for another Python, the folder holds something else, or files
            differ from the manifest.
    """
    with ZipFile(archive) as bundle:
        text = bundle.read(MANIFEST)
        manifest: dict[str, Any] = json.loads(text)
        own = f"{sys.version_info.major}.{sys.version_info.minor}"
        if manifest["format"] != FORMAT or manifest["python"] != own:
            raise ValueError(
                f"{archive} is in format {manifest['format']} for Python {manifest['python']}, and "
                f"this is format {FORMAT} and Python {own}; pack one with --python-version {own}"
            )
        if not folder.exists():
            part = folder.with_name(f"{folder.name}.part")
            shutil.rmtree(part, ignore_errors=True)
            try:
                bundle.extractall(part)
                for wheel in sorted((part / "wheels").glob("*.whl")):
                    with ZipFile(wheel) as files:
                        files.extractall(part / "site")
                part.rename(folder)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    _check_files(folder, text, manifest)


def check_requirements(folder: Path) -> None:
    """Check that the bundle's wheels and this machine's packages are all that is needed.

    Raises:
        ValueError: Packages are missing, or have a version that does not do.
    """
    try:
        from packaging.requirements import Requirement
    except ModuleNotFoundError as error:
        raise ValueError("the package packaging is missing; install transformers") from error
    paths = [str(folder / name) for name in SOURCES]
    missing = set()
    for own in distributions(path=paths):
        for text in own.requires or ():
            need = Requirement(text)
            if need.marker is not None and not need.marker.evaluate({"extra": ""}):
                continue
            there = next(iter(distributions(path=[*paths, *sys.path], name=need.name)), None)
            if there is None:
                missing.add(f"{need.name}{need.specifier} (not installed)")
            elif not need.specifier.contains(there.version, prereleases=True):
                missing.add(f"{need.name}{need.specifier} (found {there.version})")
    if missing:
        raise ValueError(
            f"missing packages: {', '.join(sorted(missing))}; install them, or pack "
            "a bundle that holds their wheels"
        )


def _check_files(folder: Path, text: bytes, manifest: dict[str, Any]) -> None:
    found = folder / MANIFEST
    if not found.is_file() or found.read_bytes() != text:
        raise ValueError(
            f"{folder} does not hold this bundle ({manifest['version']}, revision "
            f"{manifest['revision']}) but another or none; delete it, or use --unpack-to FOLDER"
        )
    for name, expected in manifest["files"].items():
        path = folder / name
        if not path.is_file() or sha256(path) != expected:
            raise ValueError(f"{path} is missing or changed; delete {folder} and start again")


def _refuse(line: str) -> int:
    print(f"error: {line}", file=sys.stderr)
    return 2
