"""Model folders to GGUF files and back, and how other programs read the files."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from deepgen.checkpoint.files import WEIGHT_STEMS, ModelFolder, stored_weights
from deepgen.checkpoint.folder import load_folder, save_folder
from deepgen.checkpoint.gguf import reading
from deepgen.checkpoint.gguf.conversion import gguf_to_folder
from deepgen.checkpoint.gguf.headers import find_gguf, read_header
from deepgen.checkpoint.gguf.names import Link
from deepgen.checkpoint.gguf.reading import gguf_tensors, their_shape
from deepgen.checkpoint.gguf.writing import PRECISE, TYPES, folder_to_gguf
from deepgen.checkpoint.parts import dit_part
from deepgen.checkpoint.weights import TensorReader
from deepgen.cli.main import main
from deepgen.dit.model import DiT
from deepgen.errors import CheckpointError
from tests.checkpoint.models import TINY_DIT, edit_weights, state, tiny_model

gguf = pytest.importorskip("gguf")

DIT = "transformer/diffusion_pytorch_model.safetensors"

LANGUAGE_NAMES = {
    "token_embd.": "model.embed_tokens.",
    "blk.": "model.layers.",
    "attn_q.": "self_attn.q_proj.",
    "attn_k.": "self_attn.k_proj.",
    "attn_v.": "self_attn.v_proj.",
    "attn_output.": "self_attn.o_proj.",
    "attn_norm.": "input_layernorm.",
    "ffn_down.": "mlp.down_proj.",
    "ffn_gate.": "mlp.gate_proj.",
    "ffn_up.": "mlp.up_proj.",
    "ffn_norm.": "post_attention_layernorm.",
    "output_norm.": "model.norm.",
    "output.weight": "lm_head.weight",
}
"""What stable-diffusion.cpp and ComfyUI-GGUF replace in the names of a language model."""

VISION_NAMES = {
    "mm.": "visual.merger.mlp.",
    "v.post_ln.": "visual.merger.ln_q.",
    "v.patch_embd.": "visual.patch_embed.proj.",
    "v.blk.": "visual.blocks.",
    "ffn_up.": "mlp.up_proj.",
    "ffn_down.": "mlp.down_proj.",
    "ffn_gate.": "mlp.gate_proj.",
    "attn_out.": "attn.proj.",
    "ln1.": "norm1.",
    "ln2.": "norm2.",
}
"""And in those of a vision tower; its attn_q, attn_k and attn_v they join."""


SIZES = {"Q4_K": 256, "Q8_0": 32}


def weights(folder: Path, component: str) -> dict[str, Tensor]:
    read = TensorReader()
    stored = stored_weights(folder / component, WEIGHT_STEMS[component])
    return {name: read(each) for name, each in stored.items()}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder whose DiT has rows of whole blocks."""
    model = tiny_model()
    sizes = replace(
        TINY_DIT, attention_head_dim=64, num_attention_heads=4, caption_projection_dim=256
    )
    model.dit = DiT(sizes).eval()
    path = tmp_path_factory.mktemp("source") / "model"
    save_folder(model, path)
    return path


@pytest.fixture(scope="module")
def written(source: Path) -> dict[str, Path]:
    """Its GGUF files, by type."""
    for each in TYPES:
        folder_to_gguf(source, source.parent / each, type=each)
    return {each: source.parent / each for each in TYPES}


@pytest.fixture(scope="module")
def states(source: Path, written: dict[str, Path]) -> dict[str, dict[str, Tensor]]:
    """The DiT's weights as loaded from the files, by type, and before."""
    return {each: dit_state(source, written[each]) for each in TYPES} | {
        "before": dit_state(source)
    }


def dit_state(source: Path, *files: Path) -> dict[str, Tensor]:
    """The DiT's weights, from these files if there are any."""
    folder = ModelFolder(source)
    found = [file for each in files for file in find_gguf(each)]
    folder.replaced = gguf_tensors(found, folder.stored, folder.config)
    return dit_part(folder).load(torch.float32, torch.device("cpu")).state_dict()


@pytest.fixture(scope="module")
def returned(source: Path, written: dict[str, Path]) -> Path:
    """The model folder that the float16 files become."""
    folder = source.parent / "returned"
    gguf_to_folder(written["f16"], folder, bases=[source])
    return folder


def renamed(name: str, names: dict[str, str]) -> str:
    for theirs, ours in names.items():
        name = name.replace(theirs, ours)
    return name


def test_matrices_in_float16_come_back_equal_and_vectors_in_float32(
    source: Path, returned: Path
) -> None:
    for component in ("transformer", "vlm"):
        own, reference = weights(returned, component), weights(source, component)
        assert own.keys() == reference.keys()
        for name, value in own.items():
            expected = reference[name]
            assert torch.equal(value, expected if expected.ndim == 1 else expected.half()), name
    for component in ("vae", "connector"):
        own, reference = weights(returned, component), weights(source, component)
        assert all(torch.equal(own[name], reference[name]) for name in reference)


def test_q8_0_comes_back_within_half_a_step_and_its_rounding(
    states: dict[str, dict[str, Tensor]],
) -> None:
    quantized = 0
    for name, value in states["q8_0"].items():
        before = states["before"][name]
        if before.ndim != 2 or torch.equal(value, before.half().float()):
            continue
        quantized += 1
        rows = before.reshape(-1, 32)
        step = rows.abs().amax(dim=1, keepdim=True) / 127
        error = (value - before).reshape(-1, 32).abs()
        # 127 steps, each rounded to float16, and so is their product.
        assert (error <= step * (0.5 + 127 * 2**-10)).all(), name
    assert quantized > 20


def test_q4_k_comes_back_with_a_small_error(states: dict[str, dict[str, Tensor]]) -> None:
    name = "transformer_blocks.0.attn.to_k.weight"
    before = states["before"][name]
    error = (states["q4_k"][name] - before).square().mean().sqrt()
    assert 0 < error < 0.1 * before.std()


def test_rows_that_are_no_blocks_of_256_values_are_blocks_of_32(written: dict[str, Path]) -> None:
    found = set()
    for file in find_gguf(written["q4_k"]):
        for name, tensor in read_header(file).tensors.items():
            if len(tensor.shape) == 2 and not name.startswith(PRECISE):
                found.add(tensor.dtype)
                blocks = [kind for kind, size in SIZES.items() if tensor.shape[1] % size == 0]
                assert tensor.dtype == (blocks or ["F16"])[0], name
    assert {"Q4_K", "Q8_0"} <= found


def test_the_loader_reads_what_the_conversion_writes(
    source: Path, written: dict[str, Path], returned: Path
) -> None:
    loaded = state(load_folder(source, gguf=[written["f16"]]))
    converted = state(load_folder(returned))
    assert all(torch.equal(value, converted[name]) for name, value in loaded.items())


@pytest.mark.parametrize("kind", TYPES)
def test_diffusers_reads_the_dit(
    kind: str, source: Path, written: dict[str, Path], states: dict[str, dict[str, Tensor]]
) -> None:
    from diffusers import GGUFQuantizationConfig, SD3Transformer2DModel
    from diffusers.quantizers.gguf.utils import dequantize_gguf_tensor

    read = SD3Transformer2DModel.from_single_file(
        str(written[kind] / "dit.gguf"),
        config=str(source),
        subfolder="transformer",
        quantization_config=GGUFQuantizationConfig(compute_dtype=torch.float32),
        torch_dtype=torch.float32,
    )
    values = read.state_dict()
    assert values.keys() == states[kind].keys()
    for name, value in values.items():
        own = states[kind][name]
        plain = dequantize_gguf_tensor(value) if hasattr(value, "quant_type") else value
        # Both round to float16, diffusers at each operation.
        assert (plain.float() - own).abs().max() <= 2**-9 * own.abs().max(), name


def test_a_dit_has_what_readers_of_sd3_look_for(source: Path, written: dict[str, Path]) -> None:
    header = read_header(written["q8_0"] / "dit.gguf")
    values = weights(source, "transformer")
    assert header.texts["general.architecture"] == "sd3"
    assert len(header.tensors["pos_embed"].shape) == 3
    for name in ("x_embedder.proj.weight", "context_embedder.weight", "pos_embed"):
        assert header.tensors[name].dtype == "F16"
    assert header.tensors["joint_blocks.0.x_block.attn.qkv.weight"].dtype == "Q8_0"
    assert header.tensors["joint_blocks.0.x_block.attn.qkv.bias"].dtype == "F32"
    third = values["transformer_blocks.0.attn.to_q.weight"].shape
    joined = header.tensors["joint_blocks.0.x_block.attn.qkv.weight"].shape
    assert joined == (3 * third[0], third[1])


def test_a_vlm_has_the_names_that_readers_replace(source: Path, written: dict[str, Path]) -> None:
    names = weights(source, "vlm")
    language = read_header(written["f16"] / "vlm.gguf")
    vision = read_header(written["f16"] / "mmproj-vlm.gguf")
    assert language.texts["general.architecture"] == "qwen2vl"
    assert vision.texts["general.architecture"] == "clip"
    assert vision.texts["clip.projector_type"] == "qwen2.5vl_merger"
    found = {renamed(name, LANGUAGE_NAMES) for name in language.tensors}
    for name in vision.tensors:
        whole = re.sub(r"attn_[qkv]\.", "attn.qkv.", renamed(name, VISION_NAMES))
        found.add(whole.removesuffix(".1") if whole.endswith("weight.1") else whole)
    # Other versions of transformers name the language model's own folder.
    assert found == {name.replace("model.language_model.", "model.") for name in names}
    reader = gguf.GGUFReader(written["f16"] / "vlm.gguf")
    sizes = json.loads((source / "vlm" / "config.json").read_text())
    text = sizes.get("text_config", sizes)
    for key, own in (
        ("embedding_length", "hidden_size"),
        ("attention.head_count_kv", "num_key_value_heads"),
    ):
        assert reader.fields[f"qwen2vl.{key}"].contents() == text[own]


def test_files_with_a_prefix_or_another_programs_shape_of_the_table_are_read(
    source: Path,
    written: dict[str, Path],
    states: dict[str, dict[str, Tensor]],
    tmp_path: Path,
) -> None:
    path = tmp_path / "other.gguf"
    writer = gguf.GGUFWriter(path, "sd3")
    for each in gguf.GGUFReader(written["f16"] / "dit.gguf").tensors:
        data = np.array(each.data)
        data = data[0] if each.name == "pos_embed" else data
        writer.add_tensor(f"model.diffusion_model.{each.name}", data)
    # As stable-diffusion.cpp writes them: without an architecture.
    del writer.kv_data[0]["general.architecture"]
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = dit_state(source, path)
    assert all(torch.equal(value, states["f16"][name]) for name, value in found.items())


def test_files_that_do_not_fit_the_model_are_refused_in_a_line(
    source: Path, written: dict[str, Path], saved: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=r"has the shape .* expected") as caught:
        load_folder(saved, gguf=[written["f16"] / "dit.gguf"])
    assert "\n" not in str(caught.value)
    both = [written["f16"] / "dit.gguf", written["q8_0"] / "dit.gguf"]
    with pytest.raises(CheckpointError, match="are both for sd3"):
        load_folder(source, gguf=both)
    writer = gguf.GGUFWriter(tmp_path / "llama.gguf", "llama")
    writer.add_tensor("x", np.ones(3, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(CheckpointError, match="architecture 'llama', expected one of sd3"):
        load_folder(source, gguf=[tmp_path / "llama.gguf"])


@pytest.mark.parametrize(
    ("file", "name", "said"),
    [
        ("vlm", "blk.99.nonsense", "1 unknown tensors: .*nonsense"),
        ("vlm", "blk.99.attn_q.weight", "1 unknown tensors: "),
        ("vlm", "model.diffusion_model.token_embd.weight", "1 unknown tensors: "),
        ("dit", "model.diffusion_model.pos_embed", "with model.diffusion_model. and without: "),
    ],
)
def test_tensors_that_no_model_has_are_refused(
    file: str, name: str, said: str, source: Path, written: dict[str, Path]
) -> None:
    path = written["f16"] / f"{file}.gguf"
    header = read_header(path)
    header.tensors[name] = next(iter(header.tensors.values()))
    folder = ModelFolder(source)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "read_header", lambda _: header)
        with pytest.raises(CheckpointError, match=said):
            gguf_tensors([path], folder.stored, folder.config)


def test_scales_that_are_not_finite_are_refused(
    source: Path, written: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "dit.gguf"
    shutil.copy(written["q8_0"] / "dit.gguf", path)
    tensor = read_header(path).tensors["joint_blocks.0.x_block.mlp.fc1.weight"]
    with path.open("r+b") as file:
        file.seek(tensor.offset)
        file.write(b"\x00\x7c")
    with pytest.raises(CheckpointError, match="values that are not finite"):
        dit_state(source, path)


def test_weights_beyond_float16_are_not_written(folder: Path, tmp_path: Path) -> None:
    edit_weights(folder / DIT, lambda each: each["proj_out.weight"].fill_(1e6))
    with pytest.raises(CheckpointError, match=r"values up to 1e\+06"):
        folder_to_gguf(folder, tmp_path / "gguf")
    assert not (tmp_path / "gguf").exists()


def test_commands_convert_both_ways(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, back = tmp_path / "gguf", tmp_path / "model"
    assert main(["convert", str(saved), str(files), "--to", "gguf", "--type", "q8_0"]) == 0
    assert capsys.readouterr().out.strip() == str(files)
    assert main(["convert", str(files), str(back), "--base", str(saved), "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert set(done["tensors"]) == {"transformer", "vlm"}
    assert json.loads((back / "model_index.json").read_text())["provenance"]["vlm"].endswith(
        "converted from dit.gguf, mmproj-vlm.gguf, vlm.gguf"
    )
    mixed = str(tmp_path / "mixed")
    assert main(["convert", str(saved), mixed, "--to", "gguf", "--type", "q4_k"]) == 0
    assert "note: q4_k takes rows of whole blocks of 256 values; " in capsys.readouterr().err
    assert main(["convert", str(saved), str(tmp_path / "x.pt"), "--type", "f16"]) == 2
    assert "--type is for --to gguf" in capsys.readouterr().err


def test_the_embedded_model_is_named_as_everywhere(
    written: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, target = str(written["f16"]), tmp_path / "model"
    assert main(["convert", "mini", files, "--to", "gguf"]) == 2
    assert f"{files} exists" in capsys.readouterr().err
    assert main(["convert", files, str(target)]) == 2
    assert "has weights only, as all GGUF files; sizes" in capsys.readouterr().err
    # These are another model's.
    assert main(["convert", files, str(target), "--base", "mini"]) == 2
    assert "missing tensors" in capsys.readouterr().err
    assert not target.exists()


def test_shapes_of_joined_split_and_framed_tensors() -> None:
    assert their_shape(Link(("q", "k", "v"), ("qkv",)), (2, 5)) == (6, 5)
    assert their_shape(Link(("qkv",), ("q", "k", "v")), (6,)) == (2,)
    assert their_shape(Link(("w",), ("w", "w.1"), has_frames=True), (8, 3, 2, 14, 14)) == (
        8,
        3,
        14,
        14,
    )
