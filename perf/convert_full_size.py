"""Memory and time of ``deepgen convert`` at the released size.

``PYTHONPATH=. python perf/convert_full_size.py FOLDER`` makes a native checkpoint of random
bfloat16 weights, with adapters of rank 64 on every layer, and base folders whose files are sparse;
converts it; and records the highest resident memory of any of its processes. ``FOLDER`` needs
22 GB and is removed. The goal is 1.3 times the largest part.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from measure import environment, write
from torch import Tensor, nn
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from deepgen.checkpoint.configs import VAE_CLASS, VLM_CLASS, write_bridge, write_dit
from deepgen.checkpoint.files import WEIGHT_STEMS
from deepgen.checkpoint.native import native_key
from deepgen.checkpoint.writing import config_values
from deepgen.conditioning.bridge import Bridge
from deepgen.dit.model import DiT

RANK = 64
GOAL = 1.3


def main() -> None:
    """Make the inputs, convert, record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True)
    try:
        write("convert_full_size", measured(folder))
    finally:
        shutil.rmtree(folder)


def measured(folder: Path) -> dict[str, Any]:
    """Peak memory and time of one conversion."""
    from gpu.models import RELEASED

    with torch.device("meta"):
        dit, bridge = DiT(RELEASED.dit), Bridge(RELEASED.bridge)
        vlm = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**RELEASED.vlm))
    base = folder / "base"
    write_base(base, dit, bridge, vlm)
    state = {native_key("transformer", name): each for name, each in random(dit).items()}
    state |= random(bridge)
    state |= adapters(vlm)
    torch.save(state, folder / "model.pt")
    del state
    parts = {
        component: sum(2 * each.numel() for each in module.state_dict().values())
        for component, module in (("transformer", dit), ("connector", bridge), ("vlm", vlm))
    }
    command = [
        *(sys.executable, "-m", "deepgen", "convert", str(folder / "model.pt")),
        *(str(folder / "converted"), "--base", str(base), "--lora-alpha", "128", "--json"),
    ]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(done.stderr)
    peak = 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    largest = max(parts.values())
    return {
        "command": "deepgen convert model.pt converted --base base --lora-alpha 128",
        "tensors": json.loads(done.stdout)["tensors"],
        "adapters": json.loads(done.stdout)["adapters"],
        "checkpoint_bytes": (folder / "model.pt").stat().st_size,
        "part_bytes": parts,
        "peak_bytes": peak,
        "of_largest_part": round(peak / largest, 3),
        "goal": GOAL,
        "seconds": round(seconds, 1),
        "environment": environment(),
    }


def random(module: nn.Module) -> dict[str, Tensor]:
    """Random weights in bfloat16."""
    return {
        name: torch.empty(each.shape, dtype=torch.bfloat16).uniform_(-0.02, 0.02)
        for name, each in module.state_dict().items()
    }


def adapters(vlm: nn.Module) -> dict[str, Tensor]:
    """Random adapters of all linear layers and embeddings, in float32."""
    found = {}
    for name, module in vlm.named_modules():
        key = native_key("vlm", f"{name}.weight").removesuffix(".weight")
        if isinstance(module, nn.Linear):
            found[f"{key}.lora_A.default.weight"] = torch.randn(RANK, module.in_features) / 64
            found[f"{key}.lora_B.default.weight"] = torch.randn(module.out_features, RANK) / 64
        elif isinstance(module, nn.Embedding):
            rows, width = module.weight.shape
            found[f"{key}.lora_embedding_A.default"] = torch.randn(RANK, rows) / 64
            found[f"{key}.lora_embedding_B.default"] = torch.randn(width, RANK) / 64
    return found


def write_base(base: Path, dit: DiT, bridge: Bridge, vlm: nn.Module) -> None:
    """A model folder whose weights are holes; the embedded model's small parts complete it."""
    import deepgen

    embedded = Path(deepgen.__file__).parent / "mini" / "assets"
    for name in ("vae", "scheduler", "tokenizer"):
        shutil.copytree(embedded / name, base / name)
    vae = json.loads((base / "vae" / "config.json").read_text())
    assert vae["_class_name"] == VAE_CLASS
    configs = {
        "transformer": write_dit(dit.config),
        "connector": write_bridge(bridge.config, "bf16"),
        "vlm": {**config_values(vlm.config), "architectures": [VLM_CLASS]},
    }
    for component, module in (("transformer", dit), ("connector", bridge), ("vlm", vlm)):
        (base / component).mkdir()
        (base / component / "config.json").write_text(json.dumps(configs[component]))
        tied = {"lm_head.weight"} if component == "vlm" else set()
        write_holes(base / component / f"{WEIGHT_STEMS[component]}.safetensors", module, tied)


def write_holes(path: Path, module: nn.Module, tied: set[str]) -> None:
    """A file of zeros in bfloat16 that takes no room on disk."""
    header: dict[str, Mapping[str, Any]] = {}
    end = 0
    for name, value in module.state_dict().items():
        if name not in tied:
            begin, end = end, end + 2 * math.prod(value.shape)
            shape = list(value.shape)
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


if __name__ == "__main__":
    main()
