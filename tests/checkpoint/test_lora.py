import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor

from deepgen.checkpoint.folder import load_folder
from deepgen.checkpoint.lora import merge_lora
from deepgen.errors import CheckpointError
from deepgen.model import DeepGen
from tests.shared import golden

LAYER = "transformer_blocks.0.attn.to_q"


@pytest.fixture
def model() -> DeepGen:
    return load_folder(golden("model"), dtype=torch.float32, device="cpu")


def adapter(rank: int = 3, prefix: str = "transformer.") -> dict[str, Tensor]:
    return {
        f"{prefix}{LAYER}.lora_A.weight": torch.randn(rank, 32),
        f"{prefix}{LAYER}.lora_B.weight": torch.randn(32, rank),
    }


def test_an_adapter_of_peft_gives_what_peft_computes(model: DeepGen, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = torch.nn.ModuleDict({"dit": model.dit})
    tokens = torch.randn(1, 5, 32)
    config = LoraConfig(r=4, lora_alpha=6, target_modules=["to_q"], init_lora_weights=False)
    peft = get_peft_model(layers["dit"], config)
    expected = model.dit.get_submodule(LAYER)(tokens).detach()
    state = get_peft_model_state_dict(peft)
    save_file(state, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 6}))
    fresh = load_folder(golden("model"), dtype=torch.float32, device="cpu")
    before = fresh.dit.get_submodule(LAYER)(tokens)
    assert merge_lora(fresh, tmp_path) == len(state) // 2
    after = fresh.dit.get_submodule(LAYER)(tokens)
    torch.testing.assert_close(after, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(after, before, atol=1e-2)


def test_the_scale_counts_and_its_negative_takes_it_back(model: DeepGen, tmp_path: Path) -> None:
    weights = adapter()
    save_file(weights, tmp_path / "a.safetensors")
    weight = model.dit.get_parameter(f"{LAYER}.weight")
    before = weight.detach().clone()
    merge_lora(model, tmp_path / "a.safetensors", 0.5)
    down, up = weights.values()
    torch.testing.assert_close(weight.detach(), before + 0.5 * up @ down)
    merge_lora(model, tmp_path / "a.safetensors", -0.5)
    torch.testing.assert_close(weight.detach(), before, rtol=0, atol=1e-5)


def test_diffusers_metadata_say_the_alpha(model: DeepGen, tmp_path: Path) -> None:
    weights = adapter(rank=2)
    metadata = {
        "lora_adapter_metadata": json.dumps({"transformer.r": 2, "transformer.lora_alpha": 8})
    }
    save_file(weights, tmp_path / "pytorch_lora_weights.safetensors", metadata)
    weight = model.dit.get_parameter(f"{LAYER}.weight")
    before = weight.detach().clone()
    merge_lora(model, tmp_path)
    down, up = weights.values()
    torch.testing.assert_close(weight.detach(), before + 4 * up @ down)


def test_what_is_no_adapter_for_this_model_changes_nothing(model: DeepGen, tmp_path: Path) -> None:
    good = adapter()
    wrong_shape = {key.replace("to_q", "to_k"): value[:, :16] for key, value in good.items()}
    cases: list[tuple[dict[str, Tensor], str]] = [
        ({**good, "transformer.x.lora_A.weight": torch.zeros(1, 1)}, "without its"),
        ({**good, "transformer.extra": torch.zeros(1)}, "understood: 'transformer.extra'"),
        ({"a": torch.zeros(1)}, "understood: 'a'"),
        ({**good, **wrong_shape}, "another model"),
        ({key.replace("to_q", "to_x"): value for key, value in good.items()}, "does not have"),
        ({key: value / 0 for key, value in good.items()}, "not finite"),
    ]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for index, (weights, message) in enumerate(cases):
        path = tmp_path / f"{index}.safetensors"
        save_file({name: value.clone() for name, value in weights.items()}, path)
        with pytest.raises(CheckpointError, match=message):
            merge_lora(model, path)
    with pytest.raises(CheckpointError, match="holds no adapter"):
        merge_lora(model, tmp_path)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
