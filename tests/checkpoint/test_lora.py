import json
import resource
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import SD3Transformer2DModel
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration

from deepgen.checkpoint import lora_alpha, lora_reading
from deepgen.checkpoint.adapters import merge_lora
from deepgen.checkpoint.folder import load_folder
from deepgen.checkpoint.lora import save_dit_lora, save_vlm_lora
from deepgen.config import train
from deepgen.errors import CheckpointError
from deepgen.model import DeepGen
from deepgen.nn.lora import add_lora, lora_weights, merge_lora_layers
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


@pytest.mark.parametrize(
    "pattern",
    [
        f"^{LAYER}",
        LAYER,
        "to_q",
        "attn.to_q",
        r"transformer_blocks\.\d+\.attn\.to_q",
        r".*\.0\.attn\.to_[qk]",
        "to_[qv]|to_out",
        "o_q",
        "^attn.to_q",
        r"blocks\.0\.attn\.to_q",
    ],
)
@pytest.mark.filterwarnings("ignore:The following .*_pattern keys")
def test_patterns_of_rank_and_alpha_mean_what_they_mean_to_peft(
    pattern: str, model: DeepGen, tmp_path: Path
) -> None:
    before = model.dit.get_parameter(f"{LAYER}.weight").detach().clone()
    config = LoraConfig(
        r=8,
        lora_alpha=8,
        rank_pattern={pattern: 4},
        alpha_pattern={pattern: 12.0},
        target_modules=["to_q"],
        init_lora_weights=False,
    )
    peft = get_peft_model(model.dit, config)
    expected = peft.get_submodule(f"base_model.model.{LAYER}").get_delta_weight("default")
    state = {key: value.detach() for key, value in get_peft_model_state_dict(peft).items()}
    settings = {key: value for key, value in config.to_dict().items() if "pattern" in key}
    settings |= {"r": 8, "lora_alpha": 8}
    save_file(state, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    # As diffusers writes the same adapter: names and settings under the component's name.
    metadata = {f"transformer.{key}": value for key, value in settings.items()}
    diffusers = {
        key.replace("base_model.model.", "transformer."): value for key, value in state.items()
    }
    file = tmp_path / "pytorch_lora_weights.safetensors"
    save_file(diffusers, file, {"lora_adapter_metadata": json.dumps(metadata)})
    for path in (tmp_path / "adapter_model.safetensors", file):
        fresh = load_folder(golden("model"), dtype=torch.float32, device="cpu")
        merge_lora(fresh, path)
        change = fresh.dit.get_parameter(f"{LAYER}.weight").detach() - before
        torch.testing.assert_close(change, expected, rtol=1e-4, atol=1e-5)


def test_a_pattern_that_is_no_regular_expression_is_refused(model: DeepGen, tmp_path: Path) -> None:
    metadata = {"transformer.lora_alpha": 2, "transformer.alpha_pattern": {"to_q(": 4}}
    file = tmp_path / "pytorch_lora_weights.safetensors"
    save_file(adapter(), file, {"lora_adapter_metadata": json.dumps(metadata)})
    with pytest.raises(
        CheckpointError, match="'to_q\\(' in alpha_pattern is no regular expression"
    ):
        merge_lora(model, file)


def test_what_is_no_adapter_for_this_model_changes_nothing(model: DeepGen, tmp_path: Path) -> None:
    good = adapter()
    wrong_shape = {key.replace("to_q", "to_k"): value[:, :16] for key, value in good.items()}
    cases: list[tuple[dict[str, Tensor], str]] = [
        ({**good, "transformer.x.lora_A.weight": torch.zeros(1, 1)}, "without its"),
        (
            {**good, "transformer.extra": torch.zeros(1)},
            "supported LoRA adapter: 'transformer.extra'",
        ),
        ({"a": torch.zeros(1)}, "supported LoRA adapter: 'a'"),
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


def adapt(module: torch.nn.Module) -> None:
    """Adapters that change something."""
    add_lora(module, train.LoraConfig(rank=2, alpha=6.0), seed=0)
    module.eval()
    rng = torch.Generator().manual_seed(1)
    for value in lora_weights(module).values():
        value.data = 0.3 * torch.randn(value.shape, generator=rng)


def test_saved_adapters_of_the_vlm_do_in_stock_transformers_what_they_do_here(
    tmp_path: Path,
) -> None:
    # Stock transformers keeps exact rotary frequencies.
    vlm = load_folder(golden("model"), rope_precision="fp32").conditioner.vlm
    adapt(vlm.language_model)
    save_vlm_lora(vlm, tmp_path / "adapter")
    stock = Qwen2_5_VLForConditionalGeneration.from_pretrained(golden("model/vlm"))
    peft = PeftModel.from_pretrained(stock, tmp_path / "adapter").eval()
    assert peft.active_peft_config.lora_dropout == 0.05
    ids = torch.tensor([[5, 70, 3]])
    states = peft(ids, output_hidden_states=True).hidden_states
    embedded = vlm.language_model.embed_tokens(ids)
    mine = vlm._read(embedded, torch.arange(3).expand(3, 1, -1))
    torch.testing.assert_close(
        mine,
        torch.cat([states[layer] for layer in vlm.selected_layers], dim=-1),
        rtol=1e-4,
        atol=1e-4,
    )


def test_saved_adapters_of_the_dit_are_read_by_diffusers(model: DeepGen, tmp_path: Path) -> None:
    adapt(model.dit)
    save_dit_lora(model.dit, tmp_path / "adapter")
    stock = SD3Transformer2DModel.from_pretrained(golden("model/transformer"))
    stock.load_lora_adapter(tmp_path / "adapter", prefix="transformer", use_safetensors=True)
    tokens = torch.randn(1, 5, 32)
    for name in (LAYER, "transformer_blocks.2.ff.net.2", "norm_out.linear"):
        mine: Any = model.dit.get_submodule(name)
        theirs: Any = stock.get_submodule(name)
        inputs = tokens if name != "transformer_blocks.2.ff.net.2" else torch.randn(1, 5, 128)
        torch.testing.assert_close(
            mine.lora_B["default"](mine.lora_A["default"](inputs)) * mine.scaling["default"],
            theirs.lora_B["default_0"](theirs.lora_A["default_0"](inputs))
            * theirs.scaling["default_0"],
        )


@pytest.mark.parametrize("part", ["vlm", "dit"])
def test_an_adapter_merged_on_loading_equals_one_folded_in_place(
    model: DeepGen, tmp_path: Path, part: str
) -> None:
    if part == "vlm":
        adapt(model.conditioner.vlm.language_model)
        save_vlm_lora(model.conditioner.vlm, tmp_path / "adapter")
    else:
        adapt(model.dit)
        save_dit_lora(model.dit, tmp_path / "adapter")
    fresh = load_folder(golden("model"), dtype=torch.float32, device="cpu")
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    merge_lora(fresh, tmp_path / "adapter")
    merge_lora_layers(model)
    merged, folded = fresh.state_dict(), model.state_dict()
    assert merged.keys() == folded.keys()
    for name, value in merged.items():
        torch.testing.assert_close(value, folded[name], rtol=1e-5, atol=1e-6)
    moved = sum(not torch.equal(value, before[name]) for name, value in merged.items())
    linear = [each for each in fresh.dit.modules() if isinstance(each, torch.nn.Linear)]
    assert moved == (35 * 7 + 1 if part == "vlm" else len(linear))


def test_a_model_without_adapters_has_none_to_save(model: DeepGen, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no adapters"):
        save_vlm_lora(model.conditioner.vlm, tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([], "JSON object"),
        ({"lora_alpha": None}, "must be a number from"),
        ({"lora_alpha": "x"}, "must be a number from"),
        ({"lora_alpha": float("nan")}, "must be a number from"),
        ({"alpha_pattern": [1]}, "alpha_pattern"),
        ({"use_dora": True}, "use_dora"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
    ],
)
def test_a_configuration_that_is_not_understood_is_refused(
    model: DeepGen, tmp_path: Path, config: object, message: str
) -> None:
    save_file(adapter(), tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        merge_lora(model, tmp_path)


@pytest.mark.parametrize("shape", [(32,), (0, 32), ()])
def test_what_is_no_matrix_is_refused(
    model: DeepGen, tmp_path: Path, shape: tuple[int, ...]
) -> None:
    weights = adapter() | {f"transformer.{LAYER}.lora_A.weight": torch.zeros(shape)}
    save_file(weights, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="two matrices"):
        merge_lora(model, tmp_path / "a.safetensors")


def test_rank_stabilised_adapters_are_scaled_by_the_root_of_the_rank(
    model: DeepGen, tmp_path: Path
) -> None:
    weights = adapter(rank=4)
    save_file(weights, tmp_path / "adapter_model.safetensors")
    config = {"lora_alpha": 6, "use_rslora": True}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    weight = model.dit.get_parameter(f"{LAYER}.weight")
    before = weight.detach().clone()
    merge_lora(model, tmp_path)
    down, up = weights.values()
    torch.testing.assert_close(weight.detach(), before + 3 * up @ down)


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), 1e39, -1e4])
def test_a_scale_out_of_range_touches_no_weight(
    model: DeepGen, tmp_path: Path, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file(adapter(), tmp_path / "a.safetensors")
    monkeypatch.setattr(lora_reading, "read_tensors", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(ValueError, match="scale must be a number from -1000 to 1000"):
        merge_lora(model, tmp_path / "a.safetensors", scale)


@pytest.mark.parametrize("alpha", [1e300, 1e7, -1e300])
def test_an_alpha_out_of_range_is_refused(model: DeepGen, tmp_path: Path, alpha: float) -> None:
    save_file(adapter(), tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": alpha}))
    with pytest.raises(CheckpointError, match=r"an alpha of .* must be a number from -1e.06 to"):
        merge_lora(model, tmp_path)


def test_a_merge_that_overflows_changes_no_weight(model: DeepGen, tmp_path: Path) -> None:
    model.dit.half()
    large = {key: value.abs() * 300 for key, value in adapter().items()}
    other = {key.replace("to_q", "to_k"): value for key, value in adapter().items()}
    save_file({**other, **large}, tmp_path / "a.safetensors")
    before = {key: value.clone() for key, value in model.dit.state_dict().items()}
    with pytest.raises(CheckpointError, match=f"{LAYER} would have values .* finite in float16"):
        merge_lora(model, tmp_path / "a.safetensors")
    assert all(torch.equal(value, before[key]) for key, value in model.dit.state_dict().items())


@pytest.mark.parametrize(
    ("shape", "problem"), [((1 << 24, 32), "has rank"), ((3, 1 << 26), "adap")]
)
def test_shapes_are_compared_before_gigabytes_are_read(
    model: DeepGen, tmp_path: Path, shape: tuple[int, int], problem: str
) -> None:
    names = list(adapter())
    shapes = [shape, (32, shape[0])]
    first, second = (4 * rows * columns for rows, columns in shapes)
    places = [[0, first], [first, first + second]]
    entries = {
        name: {"dtype": "F32", "shape": each, "data_offsets": place}
        for name, each, place in zip(names, shapes, places, strict=True)
    }
    header = json.dumps(entries).encode()
    path = tmp_path / "a.safetensors"
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        # Sparse: it takes no space.
        file.truncate(8 + len(header) + first + second)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match=problem):
        merge_lora(model, path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


@pytest.mark.parametrize("pattern", ["(a|a|b?)*c", "(.*)*x", "(([a-z_.]+)+)+[0-9]!"])
def test_patterns_that_take_for_ever_are_given_up(
    model: DeepGen, tmp_path: Path, pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lora_alpha, "PATTERN_SECONDS", 0.05)
    save_file(adapter(), tmp_path / "adapter_model.safetensors")
    config = {"lora_alpha": 4, "alpha_pattern": {pattern: 2}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    began = time.monotonic()
    # A library that is clever enough may also answer in time.
    with suppress(CheckpointError):
        merge_lora(model, tmp_path)
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("pattern", ["x" * 501, "(" * 400, "a{99999999999999}"])
def test_patterns_are_short_and_simple(model: DeepGen, tmp_path: Path, pattern: str) -> None:
    save_file(adapter(), tmp_path / "adapter_model.safetensors")
    config = {"lora_alpha": 4, "alpha_pattern": {pattern: 2}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="in alpha_pattern is no regular expression"):
        merge_lora(model, tmp_path)


def test_a_configuration_nested_without_end_is_refused(model: DeepGen, tmp_path: Path) -> None:
    save_file(adapter(), tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text("[" * 200_000)
    with pytest.raises(CheckpointError, match=r"configuration of .* cannot be read"):
        merge_lora(model, tmp_path)
    nested = {"lora_adapter_metadata": "[" * 200_000}
    save_file(adapter(), tmp_path / "a.safetensors", metadata=nested)
    with pytest.raises(CheckpointError, match=r"configuration of .* cannot be read"):
        merge_lora(model, tmp_path / "a.safetensors")


@pytest.mark.parametrize(("rank", "alpha"), [(10**9, 1.0), (0, 1.0), (4, 1e300), (4, float("inf"))])
def test_an_adapter_to_train_has_a_rank_and_an_alpha_in_range(rank: int, alpha: float) -> None:
    with pytest.raises(ValueError, match="must be a"):
        train.LoraConfig(rank=rank, alpha=alpha)
