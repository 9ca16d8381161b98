"""What a conversion takes from which base, and what it says of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from deepgen.checkpoint import native
from deepgen.checkpoint.conversion import native_to_folder
from deepgen.checkpoint.folder import load_folder
from deepgen.checkpoint.native_export import folder_to_native
from deepgen.checkpoint.starting import untrained_folder
from deepgen.cli.main import main
from deepgen.errors import CheckpointError
from tests.checkpoint.models import edit_json, edit_weights
from tests.conditioning.models import random_vlm

pytestmark = pytest.mark.usefixtures("no_child")

VLM = "vlm/model.safetensors"
HEAD = "lm_head.weight"
EMBEDDING = "model.embed_tokens.weight"
LAYER = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture
def qwen(tmp_path: Path) -> Path:
    """A whole Qwen2.5-VL with a tied head, as transformers saves it."""
    path = tmp_path / "qwen"
    random_vlm().save_pretrained(path)
    edit_weights(path / "model.safetensors", lambda each: each.pop(HEAD, None))
    return path


@pytest.fixture
def checkpoint(saved: Path, tmp_path: Path) -> Path:
    """Native: the DiT and the bridge of the saved model, no VLM."""
    path = tmp_path / "model.pt"
    folder_to_native(saved, path)
    state = torch.load(path, weights_only=True)
    torch.save({key: each for key, each in state.items() if not key.startswith("lmm.")}, path)
    return path


def edit_state(path: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)


def values(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("head", ["of neither", "tied", "dropped"])
def test_a_folder_without_a_head_goes_to_adapters_and_back(
    head: str, saved: Path, qwen: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(saved, model)
    shutil.rmtree(model / "vlm")
    shutil.copytree(qwen, model / "vlm")

    def train(tensors: dict[str, Tensor]) -> None:
        for name in (EMBEDDING, LAYER):
            rows, width = tensors[name].shape
            tensors[name] += torch.randn(rows, 2) @ torch.randn(2, width) / 10

    edit_weights(model / VLM, train)
    trained = load_file(model / VLM)
    if head != "of neither":
        own_head = torch.randn(trained[EMBEDDING].shape)
        edit_weights(qwen / "model.safetensors", lambda each: each.update({HEAD: own_head}))
        is_tied = head == "tied"
        edit_json(model / "vlm/config.json", lambda each: each.update(tie_word_embeddings=is_tied))
        text = {"tie_word_embeddings": is_tied}
        edit_json(model / "vlm/config.json", lambda each: each["text_config"].update(text))
        trained[HEAD] = trained[EMBEDDING] if is_tied else own_head
    done = folder_to_native(model, tmp_path / "model.pt", bases=[qwen])
    assert done.rank == (32 if head == "tied" else 2)
    back = tmp_path / "back"
    native_to_folder(tmp_path / "model.pt", back, bases=[qwen, saved], lora_alpha=done.lora_alpha)
    own = load_file(back / VLM)
    assert own.keys() == trained.keys()
    assert max((own[name] - trained[name]).abs().max().item() for name in own) <= 1e-6


def test_a_head_of_its_own_is_separate(saved: Path, qwen: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    folder_to_native(saved, path)
    rows, width = load_file(qwen / "model.safetensors")[EMBEDDING].shape
    edit_state(path, lambda each: each.update({"lmm.lm_head.weight": torch.ones(rows, width)}))
    base = tmp_path / "base"
    shutil.copytree(saved, base)
    edit_json(base / "vlm/config.json", lambda each: each.update(tie_word_embeddings=True))
    native_to_folder(path, tmp_path / "model", bases=[base])
    assert load_file(tmp_path / "model" / VLM)[HEAD].eq(1).all()
    assert values(tmp_path / "model", "vlm/config.json")["tie_word_embeddings"] is False


def test_two_names_of_one_weight_are_refused(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    folder_to_native(saved, path)

    def double(state: dict[str, Tensor]) -> None:
        key = next(key for key in state if key.endswith("layers.0.mlp.up_proj.weight"))
        state[key.replace("lmm.model.language_model.", "lmm.model.")] = state[key]

    edit_state(path, double)
    with pytest.raises(CheckpointError, match=r"two names each: 'model\.lang.*', 'model\.layers"):
        native_to_folder(path, tmp_path / "model", bases=[saved])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["x.lora_A.mine.weight", "x.lora_B.mine.weight"], None),
        (["x.lora_embedding_A", "x.lora_embedding_B"], None),
        (
            ["x.lora_A.default.weight", "x.lora_A.style.weight"],
            "two adapters for 'language_model.x.weight', of 'default', 'style'",
        ),
        (["x.lora_A.a.weight", "x.lora_B.a.weight", "x.lora_magnitude_vector.a.weight"], "DoRA"),
        (["x.lora_A.weight", "x.lora_B.weight", "x.lora_B.bias"], "other adapters than plain LoRA"),
    ],
)
def test_adapters_of_any_one_name_are_read_and_other_kinds_refused(
    names: list[str], message: str | None
) -> None:
    if message is None:
        assert native.adapter_names(names).keys() == {"language_model.x.weight"}
        return
    with pytest.raises(CheckpointError, match=message):
        native.adapter_names(names)


def test_an_sd35_and_a_qwen_suffice_for_a_bridge_of_the_released_width(
    checkpoint: Path, saved: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(saved, base)
    config = {**values(base, "connector/config.json"), "rope_precision": "bf16"}
    shutil.rmtree(base / "connector")
    with pytest.raises(CheckpointError, match=r"connector/config\.json lacks"):
        native_to_folder(checkpoint, tmp_path / "model", bases=[base])
    # As if this width were the released one.
    names = "deepgen.checkpoint.configs.RELEASED_"
    monkeypatch.setattr(f"{names}HIDDEN_SIZE", config["connector"]["hidden_size"])
    settings = {"num_attention_heads": 3, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
    monkeypatch.setattr(f"{names}SETTINGS", settings)
    native_to_folder(checkpoint, tmp_path / "model", bases=[base])
    assert values(tmp_path / "model", "connector/config.json") == config


def test_the_tokenizer_of_a_text_encoder_is_not_taken(
    checkpoint: Path, saved: Path, qwen: Path, tmp_path: Path
) -> None:
    (tmp_path / "sd35/tokenizer").mkdir(parents=True)
    clip = tmp_path / "sd35/tokenizer/tokenizer_config.json"
    clip.write_text('{"tokenizer_class": "CLIPTokenizer"}')
    done = native_to_folder(checkpoint, tmp_path / "model", bases=[qwen, clip.parent.parent, saved])
    assert done.taken["vlm"] == qwen
    assert done.taken["tokenizer"] == saved / "tokenizer"


def test_a_base_with_configurations_only_is_used_for_those(
    checkpoint: Path, saved: Path, qwen: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    for component in ("connector", "vlm"):
        (bare / component).mkdir(parents=True)
        shutil.copyfile(saved / component / "config.json", bare / component / "config.json")
    edit_json(bare / "connector/config.json", lambda each: each.update(rope_precision="fp32"))
    done = native_to_folder(checkpoint, tmp_path / "model", bases=[bare, saved])
    assert done.taken["vlm"] == saved / "vlm"
    assert values(tmp_path / "model", "connector/config.json")["rope_precision"] == "fp32"
    # Without weights the sizes are the file's.
    shutil.rmtree(bare / "vlm")
    rest = tmp_path / "rest"
    shutil.copytree(saved, rest)
    shutil.rmtree(rest / "connector")
    untrained_folder(qwen, tmp_path / "untrained", bases=[bare, rest])
    model = load_folder(tmp_path / "untrained")
    assert model.conditioner.bridge.config.num_hidden_layers == 2
    assert model.conditioner.vlm.rope_precision == "fp32"


def test_defaults_template_and_provenance_come_from_named_bases(
    checkpoint: Path, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_state(checkpoint, lambda each: [each.pop(key) for key in [*each] if "transformer" in key])
    target = tmp_path / "model"
    assert main(["convert", str(checkpoint), str(target), "--base", str(saved)]) == 0
    said = capsys.readouterr().err
    assert f"defaults: from {saved}" in said
    assert f"template: from {saved}" in said
    index = values(target, "model_index.json")
    assert index["defaults"] == values(saved, "model_index.json")["defaults"]
    assert index["provenance"] == {
        "transformer": "pretrain, 10 steps",
        "connector": "converted from model.pt",
    }


def test_only_the_weights_of_a_base_are_copied(
    checkpoint: Path, saved: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(saved, base)
    shutil.copyfile(base / VLM, base / "vlm/model-00001-of-00009.safetensors")
    native_to_folder(checkpoint, tmp_path / "model", bases=[base])
    assert {each.name for each in (tmp_path / "model/vlm").iterdir()} == {
        "config.json",
        "model.safetensors",
    }


def test_errors_name_the_folder_that_was_asked_for(
    checkpoint: Path, saved: Path, tmp_path: Path
) -> None:
    edit_state(checkpoint, lambda each: each.pop("transformer.proj_out.bias"))
    with pytest.raises(CheckpointError) as caught:
        native_to_folder(checkpoint, tmp_path / "model", bases=[saved])
    assert str(caught.value).startswith(f"{tmp_path / 'model'} cannot be loaded: transformer has 1")


def test_a_base_of_links_to_other_places_is_refused(
    checkpoint: Path, saved: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(saved, base)
    (base / "tokenizer/vocab.json").unlink(missing_ok=True)
    (tmp_path / "secret").write_text("secret")
    (base / "tokenizer/vocab.json").symlink_to(tmp_path / "secret")
    with pytest.raises(CheckpointError, match=r"tokenizer/vocab\.json is a link out of the folder"):
        native_to_folder(checkpoint, tmp_path / "model", bases=[base])


def test_nothing_that_is_read_is_replaced(
    checkpoint: Path, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "base"
    shutil.copytree(saved, base)
    for target in (checkpoint, base, tmp_path):
        arguments = ["convert", str(checkpoint), str(target), "--base", str(base), "--overwrite"]
        assert main(arguments) == 2
        assert "which is read" in capsys.readouterr().err
    assert main(["convert", str(saved), str(base)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["convert", str(saved), str(base), "--overwrite"]) == 2
    assert "a native checkpoint is a file" in capsys.readouterr().err
    assert main(["convert", str(saved), str(tmp_path / "x.pt"), "--lora-alpha", "8"]) == 2
    assert "needs none" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    arguments = ["convert", str(checkpoint), str(tmp_path / "empty"), "--base", str(base)]
    assert main(arguments) == 0
