"""The released sizes: what stock classes call their tensors is what our parts account for.

The files have headers and a length, but no disc space and no memory is spent on their tensors.
"""

from __future__ import annotations

import json
import math
import os
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel
from torch import nn
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from deepgen.checkpoint.configs import write_bridge, write_dit
from deepgen.checkpoint.files import WEIGHT_STEMS, ModelFolder
from deepgen.checkpoint.parts import bridge_part, dit_part, vae_part, vlm_part
from deepgen.conditioning.bridge import Bridge
from deepgen.config.model import BridgeConfig, DiTConfig
from deepgen.config.train import LoraConfig
from deepgen.nn.lora import add_lora, lora_layers, lora_weights
from tests.released import VAE, VLM


def write(folder: Path, component: str, module: nn.Module, config: dict[str, Any]) -> None:
    header, end = {}, 0
    for name, value in module.state_dict().items():
        if name == "lm_head.weight":
            continue  # Tied, so it is not stored.
        begin, end = end, end + 2 * math.prod(value.shape)
        shape = list(value.shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    (folder / component).mkdir()
    path = folder / component / f"{WEIGHT_STEMS[component]}.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    os.truncate(path, 8 + len(text) + end)
    (folder / component / "config.json").write_text(json.dumps(config))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    path = tmp_path_factory.mktemp("full")
    (path / "model_index.json").write_text("{}")
    dit = write_dit(DiTConfig())
    with torch.device("meta"):
        write(path, "transformer", SD3Transformer2DModel.from_config(dit), dit)
        write(path, "vae", AutoencoderKL.from_config(VAE), VAE)
        write(path, "connector", Bridge(BridgeConfig()), write_bridge(BridgeConfig(), "bf16"))
        config = Qwen2_5_VLConfig.from_dict(json.loads(json.dumps(VLM)))
        write(path, "vlm", Qwen2_5_VLForConditionalGeneration(config), VLM)
    return ModelFolder(path)


def test_every_tensor_of_the_released_size_is_accounted_for(folder: ModelFolder) -> None:
    sizes = {
        component: sum(tensor.size for tensor in folder.stored(component).values())
        for component in WEIGHT_STEMS
    }
    assert sizes == {
        "transformer": 2_243_171_520 + 226_492_416,
        "vae": 83_819_683,
        "vlm": 3_754_622_976,
        "connector": 432_449_532,
    }
    assert len(dit_part(folder).tensors) == 909
    assert len(vae_part(folder).tensors) == 244
    bridge = bridge_part(folder)
    assert bridge.module.config == BridgeConfig()
    assert len(bridge.tensors) == 103
    vlm = vlm_part(folder, bridge.module.config, "bf16")
    last_layer_and_norm = 77_076_992 + 2048
    assert sum(each.size for each in vlm.vision.values()) == 668_684_288
    assert sum(each.size for each in vlm.tensors.values()) == 3_085_938_688 - last_layer_and_norm


def test_an_adapter_on_every_layer_of_the_vlm_makes_832_tensors() -> None:
    config = Qwen2_5_VLConfig.from_dict(json.loads(json.dumps(VLM)))
    with torch.device("meta"):
        whole = Qwen2_5_VLForConditionalGeneration(config)
        add_lora(whole, LoraConfig(), seed=0)
    weights = lora_weights(whole)
    assert (len(weights), len(list(lora_layers(whole)))) == (832, 416)
    assert sum(each.numel() for each in weights.values()) == pytest.approx(185.2e6, rel=1e-3)
