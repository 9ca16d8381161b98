"""Memory and time of ``deepgen convert`` at the released size.

``PYTHONPATH=. python perf/convert_full_size.py FOLDER`` makes a native checkpoint of random
bfloat16 weights, with adapters of rank 64 on every layer, and base folders whose files are sparse;
converts it; and records the highest resident memory of any of its processes. Then the way back
with a base: of a model folder in float32 whose VLM differs from it by a matrix of rank 64 in the
embedding, the head and one layer (the largest tensors; a change of all would add time, not
memory). ``FOLDER`` needs 22 GB and is removed. The goal is 1.3 times the largest part.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from measure import environment, write
from torch import Tensor, nn
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

import deepgen
from deepgen.checkpoint.configs import VAE_CLASS, VLM_CLASS, write_bridge, write_dit
from deepgen.checkpoint.files import WEIGHT_STEMS, stored_weights
from deepgen.checkpoint.native import native_key
from deepgen.checkpoint.writing import config_values
from deepgen.conditioning.bridge import Bridge
from deepgen.dit.model import DiT

EMBEDDED = Path(deepgen.__file__).parent / "mini" / "assets"

RANK = 64
GOAL = 1.3


def main() -> None:
    """Make the inputs, convert, record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True)
    try:
        result = measured(folder)
        shutil.rmtree(folder)
        write("convert_full_size", {**result, "back": measured_back(folder)})
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
    return {
        "command": "deepgen convert model.pt converted --base base --lora-alpha 128",
        "checkpoint_bytes": (folder / "model.pt").stat().st_size,
        "part_bytes": parts,
        **run(command, max(parts.values())),
        "goal": GOAL,
        "environment": environment(),
    }


def measured_back(folder: Path) -> dict[str, Any]:
    """Peak memory and time of the way back with a base."""
    from gpu.models import RELEASED

    with torch.device("meta"):
        dit, bridge = DiT(RELEASED.dit), Bridge(RELEASED.bridge)
        vlm = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**RELEASED.vlm))
    for name in ("base", "model"):
        write_base(folder / name, dit, bridge, vlm, torch.float32)
    for name in ("model_index.json", "prompt_template.json"):
        shutil.copyfile(EMBEDDED / name, folder / "model" / name)
    largest = 0
    for component, module in (("transformer", dit), ("connector", bridge), ("vlm", vlm)):
        largest = max(largest, 4 * sum(each.numel() for each in module.state_dict().values()))
        assert (folder / "model" / component).is_dir()
    path = folder / "model" / "vlm" / "model.safetensors"
    for name, tensor in stored_weights(path.parent, "model").items():
        if name.endswith(("embed_tokens.weight", "layers.20.mlp.up_proj.weight")):
            rows, width = tensor.shape
            change = torch.randn(rows, RANK) @ torch.randn(RANK, width) / 4096
            overwrite(path, name, change)
    command = [
        *(sys.executable, "-m", "deepgen", "convert", str(folder / "model")),
        *(str(folder / "model.pt"), "--base", str(folder / "base"), "--json"),
    ]
    return {"command": "deepgen convert model model.pt --base base", **run(command, largest)}


def run(command: list[str], largest: int) -> dict[str, Any]:
    """Peak memory and time of a command, in a process of its own: its children's count too."""
    script = (
        "import json, resource, subprocess, sys, time; start = time.perf_counter(); "
        "done = subprocess.run(sys.argv[1:], capture_output=True, text=True); "
        "seconds = time.perf_counter() - start; done.returncode and sys.exit(done.stderr); "
        "peak = 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss; "
        "print(json.dumps([json.loads(done.stdout), seconds, peak]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *command], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    said, seconds, peak = json.loads(done.stdout)
    for name in ("path", "bases"):
        said.pop(name, None)
    return {
        **said,
        "peak_bytes": peak,
        "of_largest_part": round(peak / largest, 3),
        "seconds": round(seconds, 1),
    }


def overwrite(path: Path, name: str, value: Tensor) -> None:
    """Put other values into a tensor of a safetensors file."""
    with path.open("r+b") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        begin, end = json.loads(file.read(length))[name]["data_offsets"]
        file.seek(8 + length + begin)
        file.write(value.contiguous().numpy().tobytes())
        assert file.tell() == 8 + length + end


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


def write_base(
    base: Path, dit: DiT, bridge: Bridge, vlm: nn.Module, dtype: torch.dtype = torch.bfloat16
) -> None:
    """A model folder whose weights are holes; the embedded model's small parts complete it."""
    for name in ("vae", "scheduler", "tokenizer"):
        shutil.copytree(EMBEDDED / name, base / name)
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
        write_holes(
            base / component / f"{WEIGHT_STEMS[component]}.safetensors", module, tied, dtype
        )


def write_holes(path: Path, module: nn.Module, tied: set[str], dtype: torch.dtype) -> None:
    """A file of zeros that takes no room on disk."""
    code = {torch.bfloat16: "BF16", torch.float32: "F32"}[dtype]
    header: dict[str, Mapping[str, Any]] = {}
    end = 0
    for name, value in module.state_dict().items():
        if name not in tied:
            begin, end = end, end + dtype.itemsize * math.prod(value.shape)
            shape = list(value.shape)
            header[name] = {"dtype": code, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


if __name__ == "__main__":
    main()
