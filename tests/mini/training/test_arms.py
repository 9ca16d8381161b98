"""The arms of the ablations: with and without bridging of several layers, and think tokens."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deepgen.checkpoint.folder import load_folder, save_folder
from deepgen.conditioning.bridge import Bridge
from deepgen.conditioning.encoder import Conditioner
from deepgen.config.model import BridgeKind
from deepgen.mini.training.dataset import vocabulary_texts
from deepgen.mini.training.model import (
    BRIDGE,
    DEFAULTS,
    SCHEDULE,
    new_autoencoder,
    new_dit,
    new_vlm,
)
from deepgen.mini.training.tokenizer import train_tokenizer
from deepgen.model import DeepGen
from deepgen.types import Prompt
from deepgen.vae import LatentCodec


@pytest.mark.parametrize("kind", ["stacked", "last"])
@pytest.mark.parametrize("think_tokens", [0, 8])
def test_each_arm_is_saved_loaded_and_trained(
    kind: BridgeKind, think_tokens: int, tmp_path: Path
) -> None:
    tokenizer = train_tokenizer(vocabulary_texts(100), vocabulary=500)
    sizes = replace(BRIDGE, kind=kind, num_queries=think_tokens)
    torch.manual_seed(0)
    conditioner = Conditioner(new_vlm(tokenizer, sizes), Bridge(sizes), tokenizer)
    codec = LatentCodec(new_autoencoder(0))
    save_folder(DeepGen(conditioner, new_dit(1), codec, SCHEDULE, DEFAULTS), tmp_path / "model")

    model = load_folder(tmp_path / "model")
    model.requires_grad_(False)
    model.conditioner.bridge.requires_grad_(True)
    prompt = Prompt(text="a fox")
    (condition,), _ = model.conditioner.encode([prompt], [], padding="none", guided=False)
    assert len(condition.prompt_embeds) == think_tokens + len(model.conditioner.tokenize(prompt))
    (condition.prompt_embeds.sum() + condition.pooled_prompt_embeds.sum()).backward()
    assert model.conditioner.bridge.projector_3.weight.grad is not None
