"""What a start of a plan ran on: the card, its driver, versions, and the revision of the code."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import torch
from measure import environment

ROOT = Path(__file__).resolve().parents[2]
"""Root of the checkout or of the unpacked bundle."""

MANIFEST = "manifest.json"


def describe(device: torch.device, *, toy: bool) -> dict[str, Any]:
    """The environment of one start, for its record."""
    return {
        **environment(),
        "toy": toy,
        "device": device.type,
        "revision": revision(ROOT),
        **(_card(device) if device.type == "cuda" else {}),
    }


def revision(root: Path) -> str | None:
    """The git revision of the code: from the bundle's manifest, else from git."""
    manifest = root / MANIFEST
    if manifest.exists():
        found: str | None = json.loads(manifest.read_text())["revision"]
        return found
    return ask("git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty")


def ask(*command: str) -> str | None:
    """What a program prints, or None if it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _card(device: torch.device) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(device)
    return {
        "gpu_gib": round(properties.total_memory / 2**30, 2),
        "compute_capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "driver": ask("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }
