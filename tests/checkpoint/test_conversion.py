"""Native checkpoints to model folders and back, on the reference model's own."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from deepgen.checkpoint.conversion import Converted, native_to_folder
from deepgen.checkpoint.files import WEIGHT_STEMS, stored_weights
from deepgen.checkpoint.folder import load_folder
from deepgen.checkpoint.native_export import folder_to_native
from deepgen.checkpoint.starting import untrained_folder
from deepgen.checkpoint.weights import TensorReader
from deepgen.cli.main import main
from deepgen.errors import CheckpointError
from tests.shared import golden

SMALL = {"meta_queries": torch.zeros(8, 32)}
"""Enough to be a checkpoint, for errors that come before the rest is missed."""


def weights(folder: Path, component: str) -> dict[str, Tensor]:
    stored = stored_weights(folder / component, WEIGHT_STEMS[component])
    read = TensorReader()
    return {name: read(each) for name, each in stored.items()}


@pytest.fixture(scope="module")
def native() -> dict[str, Tensor]:
    loaded: dict[str, Tensor] = torch.load(golden("native") / "model.pt", weights_only=True)
    return loaded


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Converted]:
    folder = tmp_path_factory.mktemp("converted") / "model"
    bases = [golden("native") / "vlm_base", golden("model")]
    return folder, native_to_folder(
        golden("native") / "model.pt", folder, bases=bases, lora_alpha=8.0
    )


def save(state: dict[str, Tensor], folder: Path) -> Path:
    path = folder / "model.pt"
    torch.save(state, path)
    return path


def convert(path: Path, folder: Path, **options: Any) -> Converted:
    options = {
        "bases": [golden("native") / "vlm_base", golden("model")],
        "lora_alpha": 8.0,
        **options,
    }
    return native_to_folder(path, folder / "converted", **options)


def test_the_reference_checkpoint_becomes_the_reference_folder(
    converted: tuple[Path, Converted],
) -> None:
    folder, done = converted
    for component in WEIGHT_STEMS:
        own, reference = weights(folder, component), weights(golden("model"), component)
        assert own.keys() == reference.keys()
        error = max((own[name] - reference[name]).abs().max().item() for name in own)
        assert error <= (1e-6 if component == "vlm" else 0)
    assert sum(done.tensors.values()) == 718
    assert done.tensors["vae"] == 0
    assert done.taken["vae"] == golden("model") / "vae"


def test_the_head_that_was_tied_gets_its_own_adapter_and_the_embedding_its_own(
    converted: tuple[Path, Converted], native: dict[str, Tensor]
) -> None:
    vlm = weights(converted[0], "vlm")
    base = load_file(golden("native") / "vlm_base" / "model.safetensors")
    assert "lm_head.weight" not in base
    embedding = base["model.embed_tokens.weight"]
    head = "lmm.lm_head.lora_{}.default.weight"
    table = "lmm.model.language_model.embed_tokens.lora_embedding_{}.default"
    changes = (
        native[head.format("B")] @ native[head.format("A")],
        (native[table.format("B")] @ native[table.format("A")]).T,
    )
    names = ("lm_head.weight", "model.embed_tokens.weight")
    for name, change in zip(names, changes, strict=True):
        torch.testing.assert_close(vlm[name], embedding + 2 * change, rtol=0, atol=1e-6)
    config = json.loads((converted[0] / "vlm/config.json").read_text())
    assert config["tie_word_embeddings"] is config["text_config"]["tie_word_embeddings"] is False


def test_what_is_converted_loads(converted: tuple[Path, Converted]) -> None:
    load_folder(converted[0], dtype=torch.float32)


@pytest.mark.usefixtures("no_child")
def test_back_and_forth_with_adapters_changes_nothing_but_rounding(
    converted: tuple[Path, Converted], native: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "model.pt"
    done = folder_to_native(converted[0], path, bases=[golden("native") / "vlm_base"])
    assert (done.rank, done.lora_alpha) == (4, 8.0)
    back = torch.load(path, weights_only=True)
    assert back.keys() == native.keys()
    trained = [key for key in native if not key.startswith("lmm.")]
    assert all(torch.equal(back[key], native[key]) for key in trained)
    convert(path, tmp_path)
    own, reference = weights(tmp_path / "converted", "vlm"), weights(converted[0], "vlm")
    assert max((own[name] - reference[name]).abs().max().item() for name in own) <= 1e-6


@pytest.mark.usefixtures("no_child")
def test_back_and_forth_in_full_changes_nothing(
    converted: tuple[Path, Converted], tmp_path: Path
) -> None:
    path = tmp_path / "model.pt"
    assert folder_to_native(converted[0], path).rank is None
    convert(path, tmp_path, bases=[converted[0]], lora_alpha=None)
    for component in WEIGHT_STEMS:
        own, before = weights(tmp_path / "converted", component), weights(converted[0], component)
        assert own.keys() == before.keys()
        assert all(torch.equal(own[name], before[name]) for name in own)


def test_a_full_disk_leaves_no_native_checkpoint_and_is_one_line(
    converted: tuple[Path, Converted], tmp_path: Path
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(CheckpointError, match=r"model\.pt cannot be written; is the disk full"):
            folder_to_native(converted[0], tmp_path / "model.pt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_a_change_that_no_adapter_holds_is_refused(
    converted: tuple[Path, Converted], tmp_path: Path
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    for path in (golden("native") / "vlm_base").iterdir():
        (base / path.name).write_bytes(path.read_bytes())
    tensors = load_file(base / "model.safetensors")
    tensors["model.layers.0.input_layernorm.weight"] += 1
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 weights .*input_layernorm.*written in full"):
        folder_to_native(converted[0], tmp_path / "model.pt", bases=[base])
    assert not (tmp_path / "model.pt").exists()


@pytest.mark.usefixtures("no_child")
@pytest.mark.parametrize("layout", ["4.51", "peft"])
def test_the_names_of_other_versions_are_read(
    layout: str, converted: tuple[Path, Converted], native: dict[str, Tensor], tmp_path: Path
) -> None:
    def renamed(key: str) -> str:
        if layout == "peft":
            return key.replace("lmm.", "lmm.base_model.model.", 1)
        return key.replace("lmm.model.visual.", "lmm.visual.").replace(
            "lmm.model.language_model.", "lmm.model."
        )

    path = save({renamed(key): value for key, value in native.items()}, tmp_path)
    assert convert(path, tmp_path).adapters == converted[1].adapters


@pytest.mark.usefixtures("no_child")
def test_adapters_of_the_layers_that_are_read_suffice(
    native: dict[str, Tensor], tmp_path: Path
) -> None:
    dead = ("lmm.model.visual.", "lmm.lm_head.", "lmm.model.language_model.layers.35.")
    kept = {key: value for key, value in native.items() if not key.startswith(dead)}
    assert convert(save(kept, tmp_path), tmp_path).adapters == 35 * 7 + 1
    assert "lm_head.weight" not in weights(tmp_path / "converted", "vlm")


LAYER = "lmm.model.language_model.layers.3.mlp.up_proj"


@pytest.mark.usefixtures("no_child")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({f"{LAYER}.lora_A.default.weight": None}, "one of their two matrices"),
        (
            {f"{LAYER}.lora_{side}.default.weight": None for side in "AB"},
            "1 layers of the VLM have no adapter",
        ),
        (
            {f"lmm.model.elsewhere.lora_{side}.default.weight": torch.ones(4, 4) for side in "AB"},
            "1 adapters fit no layer",
        ),
        (
            {f"{LAYER}.lora_A.default.weight": torch.ones(4, 33)},
            "it is for another model",
        ),
        (
            # Their product would take terabytes.
            {
                f"{LAYER}.lora_A.default.weight": torch.ones(1, 10**6),
                f"{LAYER}.lora_B.default.weight": torch.ones(10**6, 1),
            },
            "it is for another model",
        ),
        (
            {f"{LAYER}.lora_A.default.weight": torch.ones(3, 32)},
            "no pair of matrices of one rank",
        ),
        ({"transformer.proj_out.weight": None}, "1 missing tensors"),
        ({"transformer.extra.weight": torch.ones(2)}, "1 unknown tensors"),
        ({"meta_queries": torch.ones(8, 31)}, "."),
    ],
)
def test_a_checkpoint_that_does_not_fit_leaves_nothing(
    change: dict[str, Tensor | None], message: str, native: dict[str, Tensor], tmp_path: Path
) -> None:
    state = {**native, **change}
    path = save({key: value for key, value in state.items() if value is not None}, tmp_path)
    with pytest.raises(CheckpointError, match=message) as caught:
        convert(path, tmp_path)
    assert "\n" not in str(caught.value)
    assert {each.name for each in tmp_path.iterdir()} == {"model.pt"}


@pytest.mark.usefixtures("no_child")
def test_alpha_is_never_guessed(native: dict[str, Tensor], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="--lora-alpha"):
        convert(save(native, tmp_path), tmp_path, lora_alpha=None)


@pytest.mark.usefixtures("no_child")
def test_a_part_that_no_base_has_is_named(tmp_path: Path) -> None:
    path = save(SMALL, tmp_path)
    with pytest.raises(CheckpointError, match=r"no transformer.*--base"):
        convert(path, tmp_path, bases=[golden("native") / "vlm_base"])


def test_a_vlm_and_a_diffusion_model_become_an_untrained_one(tmp_path: Path) -> None:
    target = tmp_path / "untrained"
    untrained_folder(golden("native") / "vlm_base", target, bases=[golden("model")])
    model = load_folder(target, dtype=torch.float32)
    bridge = model.conditioner.bridge
    (condition,) = bridge([torch.randn(7, bridge.config.input_size)], [0])
    assert not condition.prompt_embeds.any()
    assert not condition.pooled_prompt_embeds.any()
    again = tmp_path / "again"
    untrained_folder(golden("native") / "vlm_base", again, bases=[golden("model")])
    name = "connector/model.safetensors"
    assert (target / name).read_bytes() == (again / name).read_bytes()


def test_the_command_says_what_came_from_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "model.pt"
    assert main(["convert", str(golden("model")), str(target), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rank"] is None
    assert main(["convert", str(golden("model")), str(target)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    elsewhere = str(tmp_path / "x")
    assert main(["convert", str(golden("model")), elsewhere, "--to", "diffusers"]) == 2
    assert main(["convert", str(tmp_path / "absent.pt"), elsewhere]) == 2
    assert main(["convert", str(tmp_path), elsewhere]) == 2
    assert main(["convert", str(target), elsewhere, "--lora-alpha", "nan"]) == 2


@pytest.mark.parametrize("source", ["model.pt", "vlm_base"])
@pytest.mark.parametrize("form", ["gguf", "native"])
def test_a_form_that_takes_two_conversions_is_refused_with_both(
    source: str, form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, target = golden("native") / source, tmp_path / "x"
    assert main(["convert", str(path), str(target), "--to", form]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    if (source, form) == ("model.pt", "native"):
        assert "has that form already" in line
    else:
        assert f"convert {path} to a folder first, then that folder with --to {form}" in line
    assert not target.exists()
