"""The recorded model, ready to be trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from deepgen.checkpoint.folder import load_folder
from deepgen.conditioning.vlm_layers import module_key, unused_keys
from deepgen.config.train import LoraConfig
from deepgen.flow.schedule import training_sigmas
from deepgen.images.tensors import to_pixels
from deepgen.model import DeepGen
from deepgen.train.objective import FlowBatch, FlowObjective
from deepgen.train.sample_rng import Purpose, SampleKey, SampleRng
from deepgen.train.trainable import make_trainable
from deepgen.types import Prompt
from tests.shared import golden


def recorded_model() -> DeepGen:
    return load_folder(golden("model"), rope_precision="fp32")


def adapted_model() -> DeepGen:
    """The same, with the VLM's adapters beside its weights instead of added to them."""
    model = recorded_model()
    vlm = model.conditioner.vlm
    (file,) = golden("native/vlm_base").glob("*.safetensors")
    is_unused = unused_keys(
        vlm.config.text_config.num_hidden_layers, model.conditioner.bridge.config
    )
    base = {module_key(key): value for key, value in load_file(file).items() if not is_unused(key)}
    vlm.require_vision()
    vlm.load_state_dict(base)
    settings = json.loads(golden("native/lora_config.json").read_text())
    make_trainable(
        model,
        "sft",
        lora=LoraConfig(rank=settings["r"], alpha=float(settings["lora_alpha"]), dropout=0.0),
    )
    stored = torch.load(golden("native/model.pt"), weights_only=True)
    for name, value in vlm.named_parameters():
        if value.requires_grad:
            value.data.copy_(stored[f"lmm.model.{name}"])
    return model


class RecordedRng(SampleRng):
    """The random numbers of a recorded case."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        super().__init__(0, "recorded")
        self.arrays = arrays

    def uniform(self, key: SampleKey, purpose: int) -> float:
        name = {Purpose.LEVEL: "u", Purpose.CAPTION_DROP: "caption_drop_uniforms"}[Purpose(purpose)]
        return float(self.arrays[name][int(key.sample)])

    def normal(self, key: SampleKey, purpose: int, shape: torch.Size) -> Tensor:
        names = {Purpose.NOISE: "noise", Purpose.TARGET_POSTERIOR: "vae_eps"}
        source = f"src{purpose - Purpose.REFERENCE_POSTERIOR}.vae_eps"
        name = names.get(purpose, source)  # type: ignore[call-overload]
        return torch.from_numpy(self.arrays[f"sample{key.sample}.{name}"])


def arrays(case: str) -> dict[str, np.ndarray]:
    return dict(np.load(golden(f"train/{case}.npz")))


def image(name: str) -> Tensor:
    (path,) = Path(golden("inputs")).glob(f"{name}_h*.png")
    return to_pixels(Image.open(path).convert("RGB"))


def recorded_batch(model: DeepGen, case: str) -> FlowBatch:
    described = json.loads(golden("cases.json").read_text())["train"][case]
    texts = described["texts"]
    recorded = arrays(case)
    sources = [[image(name) for name in own] for own in described.get("src", [[]] * len(texts))]
    with torch.no_grad():
        targets = described.get("images") or described.get("target")
        return FlowBatch(
            latents=model.vae.posteriors([image(name) for name in targets])
            if targets
            else [torch.from_numpy(recorded[f"sample{i}.latents"]) for i in range(len(texts))],
            prompts=[
                Prompt(text=text, references=tuple(own))
                for text, own in zip(texts, sources, strict=True)
            ],
            reference_latents=[model.vae.posteriors(own) if own else [] for own in sources],
            keys=[SampleKey(sample=str(index)) for index in range(len(texts))],
            weights=torch.full((len(texts),), 1 / len(texts)),
        )


def recorded_objective(case: str, **options: Any) -> FlowObjective:
    recorded = arrays(case)
    return FlowObjective(
        training_sigmas(recorded_model().schedule),
        RecordedRng(recorded),
        caption_drop=float(recorded["unconditional"][0]) if "unconditional" in recorded else 0.0,
        padding="batch",
        **options,
    )
