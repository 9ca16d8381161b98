"""Model folders: what is written is what is read, in every layout that others write."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from safetensors.torch import load_file, save_file
from transformers import Qwen2_5_VLForConditionalGeneration

import deepgen.checkpoint.folder
from deepgen.checkpoint import parts, writing
from deepgen.checkpoint.folder import compute_dtype, load_folder, save_folder
from deepgen.checkpoint.writing import remove_unfinished
from deepgen.errors import CheckpointError
from deepgen.types import Prompt
from tests.checkpoint.models import edit_json, edit_weights, same, state, tiny_model
from tests.conditioning.models import image, random_vlm
from tests.shared import golden

WEIGHTS = "diffusion_pytorch_model.safetensors"


def test_a_saved_model_loads_as_it_was(saved: Path) -> None:
    model, loaded = tiny_model(), load_folder(saved)
    assert same(state(model), state(loaded))
    assert not loaded.training
    assert loaded.schedule == model.schedule
    assert loaded.defaults == model.defaults
    assert loaded.provenance == {"transformer": "pretrain, 10 steps"}
    assert loaded.dit.config == model.dit.config
    assert loaded.conditioner.bridge.config == model.conditioner.bridge.config
    assert loaded.conditioner.tokenize.template == model.conditioner.tokenize.template
    assert loaded.conditioner.vlm.rope_precision == "fp32"
    assert (loaded.vae.scale, loaded.vae.shift) == (1.5, 0.25)


def test_a_loaded_model_says_what_the_saved_one_did(saved: Path) -> None:
    prompts = [Prompt(text="a red cat", references=(image(0),)), Prompt(text="é")]
    with torch.no_grad():
        ours, loaded = (
            model.conditioner.encode(prompts, [], "none", guided=False)[0]
            for model in (tiny_model(), load_folder(saved))
        )
    for mine, other in zip(ours, loaded, strict=True):
        assert torch.equal(mine.prompt_embeds, other.prompt_embeds)


def test_a_latent_scale_set_after_building_is_saved(tmp_path: Path) -> None:
    model = tiny_model()
    model.vae.autoencoder = AutoencoderKL.from_config(
        {key: value for key, value in model.vae.autoencoder.config.items() if "factor" not in key}
    )
    model.vae.autoencoder.register_to_config(scaling_factor=0.5, shift_factor=-0.25)
    save_folder(model, tmp_path / "scaled")
    loaded = load_folder(tmp_path / "scaled")
    assert (loaded.vae.scale, loaded.vae.shift) == (0.5, -0.25)


def test_the_recorded_model_survives_saving(tmp_path: Path) -> None:
    model = load_folder(golden("model"), rope_precision="fp32")
    save_folder(model, tmp_path / "copy")
    again = load_folder(tmp_path / "copy")
    assert same(state(model), state(again))
    assert again.conditioner.vlm.rope_precision == "fp32"
    assert load_folder(golden("model")).conditioner.vlm.rope_precision == "bf16"


def test_stock_diffusers_loads_what_we_save(saved: Path) -> None:
    stock = SD3Transformer2DModel.from_pretrained(saved / "transformer").state_dict()
    assert same(tiny_model().dit.state_dict(), stock)
    autoencoder = AutoencoderKL.from_pretrained(saved / "vae")
    assert same(tiny_model().vae.autoencoder.state_dict(), autoencoder.state_dict())
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(saved / "scheduler")
    assert scheduler.config.shift == 2.0


def test_stock_transformers_misses_only_what_nothing_here_reads(saved: Path) -> None:
    _, report = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        saved / "vlm", output_loading_info=True
    )
    layer = "model.language_model.layers.5."
    missing = {name for name in report["missing_keys"] if not name.startswith(layer)}
    assert missing == {"lm_head.weight", "model.language_model.norm.weight"}
    assert not report["unexpected_keys"]


@pytest.mark.parametrize("layout", ["saved by 4.56", "in memory of 5.x"])
@pytest.mark.parametrize("head", ["untied", "tied"])
def test_a_whole_vlm_loads_in_every_layout(folder: Path, layout: str, head: str) -> None:
    whole = random_vlm()
    shutil.rmtree(folder / "vlm")
    whole.save_pretrained(folder / "vlm")
    if layout == "in memory of 5.x":
        tensors = {name: value.contiguous() for name, value in whole.state_dict().items()}
        assert "model.language_model.embed_tokens.weight" in tensors
        save_file(tensors, folder / "vlm/model.safetensors")
    if head == "tied":
        edit_weights(
            folder / "vlm/model.safetensors", lambda tensors: tensors.pop("lm_head.weight")
        )
        edit_json(
            folder / "vlm/config.json", lambda config: config.update(tie_word_embeddings=True)
        )
    assert same(state(tiny_model()), state(load_folder(folder)))


def test_the_flat_configuration_of_older_transformers_means_the_same(folder: Path) -> None:
    def flatten(config: dict[str, Any]) -> None:
        text = config.pop("text_config")
        rope = text.pop("rope_parameters", None) or text.pop("rope_scaling")
        for name in ("model_type", "layer_types"):
            text.pop(name, None)
        scaling = {"type": "mrope", "mrope_section": rope["mrope_section"]}
        config.update(text, rope_theta=rope.get("rope_theta", 1e6), rope_scaling=scaling)

    nested = load_folder(folder).conditioner.vlm
    edit_json(folder / "vlm/config.json", flatten)
    flat = load_folder(folder).conditioner.vlm
    one, other = nested.language_model.rotary_emb, flat.language_model.rotary_emb
    assert torch.equal(one.frequencies, other.frequencies)
    assert torch.equal(one.axes, other.axes)


def test_shards_are_written_and_read(
    tmp_path: Path, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "SHARD_BYTES", 20_000)
    save_folder(tiny_model(), tmp_path / "model")
    for component in ("transformer", "vae", "vlm", "connector"):
        assert len(list((tmp_path / "model" / component).glob("*-of-*.safetensors"))) > 1
    assert same(state(load_folder(saved)), state(load_folder(tmp_path / "model")))
    stock = SD3Transformer2DModel.from_pretrained(tmp_path / "model" / "transformer").state_dict()
    assert same(tiny_model().dit.state_dict(), stock)


def test_shards_of_transformers_are_read(folder: Path) -> None:
    shutil.rmtree(folder / "vlm")
    random_vlm().save_pretrained(folder / "vlm", max_shard_size="100KB")
    assert not (folder / "vlm/model.safetensors").exists()
    assert same(state(tiny_model()), state(load_folder(folder)))


def test_half_the_precision_is_half_the_size_and_computed_in_float32(
    tmp_path: Path, saved: Path
) -> None:
    save_folder(tiny_model(), tmp_path / "half", dtype=torch.float16)
    small = tmp_path / "half/transformer" / WEIGHTS
    assert small.stat().st_size < 0.6 * (saved / "transformer" / WEIGHTS).stat().st_size
    full, half = state(load_folder(saved)), state(load_folder(tmp_path / "half"))
    for name, value in full.items():
        assert half[name].dtype == torch.float32
        assert torch.equal(half[name], value.half().float())


def test_the_compute_dtype_is_the_one_asked_for(saved: Path) -> None:
    model = load_folder(saved, dtype="bfloat16")
    assert {value.dtype for value in state(model).values()} == {torch.bfloat16}
    for device, best in (("cpu", torch.float32), ("mps", torch.bfloat16)):
        assert compute_dtype(None, torch.device(device)) is best
        assert compute_dtype("auto", torch.device(device)) is best
    for unknown in ("int8", torch.float64, "tensor"):
        with pytest.raises(ValueError, match="dtype must be"):
            compute_dtype(unknown, torch.device("cpu"))


def test_weights_are_mapped_rather_than_copied(saved: Path) -> None:
    model = load_folder(saved)
    files = str(saved / "transformer" / WEIGHTS)
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("only Linux shows what is mapped")
    assert files in maps.read_text(encoding="utf-8")
    # And privately: training the model does not write into its folder.
    before = load_file(files)
    with torch.no_grad():
        model.dit.proj_out.weight.add_(1)
    assert same(before, load_file(files))


def test_the_vision_tower_is_loaded_by_the_first_reference(saved: Path) -> None:
    model = load_folder(saved)
    assert model.conditioner.vlm.visual is None
    with torch.inference_mode():
        model.conditioner.encode([Prompt(text="a")], [], "none", guided=False)
        assert model.conditioner.vlm.visual is None
        model.conditioner.encode(
            [Prompt(text="a", references=(image(0),))], [], "none", guided=False
        )
    tower = model.conditioner.vlm.visual
    assert tower is not None
    assert not any(value.is_inference() for value in tower.parameters())


def test_every_tensor_is_read_once(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    stock = parts.read_tensors

    def recorded(component: str, stored: Any, **options: Any) -> Any:
        for name, value in stock(component, stored, **options):
            read.append(f"{component}.{stored[name].name}")
            yield name, value

    monkeypatch.setattr(parts, "read_tensors", recorded)
    vlm = load_folder(saved).conditioner.vlm
    assert not any("visual" in name for name in read)
    assert vlm.load_vision is not None
    assert vlm.load_vision() is vlm.require_vision()
    assert any("visual" in name for name in read)
    assert len(set(read)) == len(read)


def test_positions_that_the_file_lacks_are_computed(folder: Path, saved: Path) -> None:
    edit_weights(
        folder / "transformer" / WEIGHTS, lambda tensors: tensors.pop("pos_embed.pos_embed")
    )
    assert same(state(load_folder(saved)), state(load_folder(folder)))


def test_a_model_without_defaults_has_the_released_ones(folder: Path) -> None:
    edit_json(
        folder / "model_index.json", lambda index: [index.pop("defaults"), index.pop("provenance")]
    )
    model = load_folder(folder)
    assert (model.defaults.height, model.defaults.num_inference_steps) == (512, 50)
    assert model.defaults.padding == "pair"
    assert model.provenance == {}


def test_a_tokenizer_in_separate_files_gives_the_same_ids(tmp_path: Path) -> None:
    shutil.copytree(golden("model"), tmp_path / "model", copy_function=shutil.copyfile)
    (tmp_path / "model").chmod(0o755)
    (tmp_path / "model/tokenizer").chmod(0o755)
    (tmp_path / "model/tokenizer/tokenizer.json").unlink()
    for case in json.loads(golden("tokenizer/token_ids.json").read_text(encoding="utf-8"))[:3]:
        row = load_folder(tmp_path / "model").conditioner.tokenize(Prompt(text=case["text"]))
        assert list(row.token_ids) == case["wrapped_ids"]


def test_saving_never_replaces_what_it_was_not_told_to(tmp_path: Path) -> None:
    model = tiny_model()
    path = tmp_path / "out"
    path.mkdir()
    save_folder(model, path)  # An empty folder is no loss.
    with pytest.raises(CheckpointError, match="exists"):
        save_folder(model, path)
    (path / "extra").write_text("old")
    save_folder(model, path, overwrite=True)
    assert not (path / "extra").exists()
    other = tmp_path / "other"
    other.mkdir()
    (other / "diary").write_text("dear")
    with pytest.raises(CheckpointError, match=r"has no model_index.json and is not overwritten"):
        save_folder(model, other, overwrite=True)
    with pytest.raises(CheckpointError, match="not a folder"):
        save_folder(model, other / "diary", overwrite=True)
    assert {each.name for each in tmp_path.iterdir()} == {"out", "other"}


def test_a_model_can_be_saved_over_the_folder_it_was_loaded_from(folder: Path) -> None:
    model = load_folder(folder)
    before = {name: value.clone() for name, value in state(model).items()}
    save_folder(model, folder, overwrite=True)
    assert same(before, state(model))
    assert same(before, state(load_folder(folder)))


def test_saving_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model.conditioner.tokenize.tokenizer, "save_pretrained", fail)
    with pytest.raises(CheckpointError, match="No space left"):
        save_folder(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_the_old_folder_comes_back(
    tmp_path: Path,
) -> None:
    path = tmp_path / "model"
    for name in (".model.0123abcd.partial", ".model.89abcdef.old", ".model.mine", ".models.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "whose").write_text(name)
    # Killed after the old one had lost its name.
    remove_unfinished(path)
    assert (path / "whose").read_text() == ".model.89abcdef.old"
    (tmp_path / ".model.89abcdef.old").mkdir()
    remove_unfinished(path)
    left = sorted(each.name for each in tmp_path.iterdir())
    assert left == [".model.mine", ".models.old", "model"]


def test_an_unknown_precision_of_the_rotary_frequencies_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The tests' own check of types would refuse a word that is none of the known ones.
    monkeypatch.setattr(deepgen.checkpoint.folder, "ROPE_PRECISIONS", ("fp64",))
    with pytest.raises(ValueError, match="rope_precision must be one of fp64, got 'bf16'"):
        load_folder(golden("model"), rope_precision="bf16")
