"""A model folder that is damaged, unsafe or of another shape is refused with its reason."""

from __future__ import annotations

import math
import os
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from deepgen.checkpoint.folder import load_folder
from deepgen.errors import CheckpointError
from tests.checkpoint.models import edit_json, edit_weights, same, state, tiny_model
from tests.conditioning.models import random_vlm

DIT = "transformer/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
VLM = "vlm/model.safetensors"
BRIDGE = "connector/model.safetensors"
WEIGHTS = [DIT, VAE, VLM, BRIDGE]

EVIL = """
import pathlib
pathlib.Path(__file__).with_name("ran").touch()
class Evil: pass
"""


def refusal(folder: Path) -> str:
    """The message, which is one line, that loading fails with."""
    with pytest.raises(CheckpointError) as caught:
        load_folder(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "part",
    [
        *WEIGHTS,
        "transformer/config.json",
        "connector/config.json",
        "vlm/config.json",
        "vae/config.json",
        "scheduler/scheduler_config.json",
        "tokenizer/tokenizer_config.json",
        "prompt_template.json",
        "model_index.json",
    ],
)
def test_a_missing_part_is_named(folder: Path, part: str) -> None:
    (folder / part).unlink()
    assert Path(part).name in refusal(folder)


def test_no_folder_at_all_is_said(tmp_path: Path) -> None:
    assert "not a folder" in refusal(tmp_path / "absent")
    assert "model_index.json" in refusal(tmp_path)


@pytest.mark.parametrize("part", WEIGHTS)
def test_truncated_weights_are_refused(folder: Path, part: str) -> None:
    os.truncate(folder / part, (folder / part).stat().st_size - 10)
    assert "truncated" in refusal(folder)


@pytest.mark.parametrize("part", WEIGHTS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_named(folder: Path, part: str, value: float) -> None:
    names = []

    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        name = sorted(name for name in tensors if not name.startswith("visual."))[-1]
        names.append(name)
        tensors[name].view(-1)[-1] = value

    edit_weights(folder / part, spoil)
    message = refusal(folder)
    assert "not finite" in message
    assert names[0] in message


def test_a_vision_tower_that_is_not_finite_is_named_when_it_is_read(folder: Path) -> None:
    edit_weights(folder / VLM, lambda tensors: tensors["visual.merger.ln_q.weight"].fill_(math.nan))
    vlm = load_folder(folder).conditioner.vlm
    with pytest.raises(CheckpointError, match=r"not finite in float32: 'visual.merger.ln_q"):
        vlm.require_vision()


def test_weights_too_large_for_the_compute_dtype_are_refused(folder: Path) -> None:
    edit_weights(folder / DIT, lambda tensors: tensors["proj_out.weight"].fill_(1e5))
    load_folder(folder)
    with pytest.raises(CheckpointError, match=r"not finite in float16: 'proj_out.weight'"):
        load_folder(folder, dtype="float16")


@pytest.mark.parametrize("part", WEIGHTS)
def test_unknown_missing_and_misshapen_tensors_are_all_named(folder: Path, part: str) -> None:
    names = []

    def shuffle(tensors: dict[str, torch.Tensor]) -> None:
        live = sorted(name for name in tensors if "projector" not in name and "meta" not in name)
        missing, misshapen = live[0], live[-1]
        del tensors[missing]
        tensors[misshapen] = torch.zeros(3, 1, 7)
        tensors["visual.stranger"] = torch.zeros(1)
        names.extend([missing, f"{misshapen} has [3, 1, 7]", "visual.stranger"])

    edit_weights(folder / part, shuffle)
    message = refusal(folder)
    assert "1 unknown tensors" in message
    for name in names:
        assert name in message


def test_long_lists_of_names_are_counted(folder: Path) -> None:
    edit_weights(
        folder / DIT,
        lambda tensors: tensors.update({f"x{place}": torch.zeros(1) for place in range(9)}),
    )
    assert "9 unknown tensors: 'x0', 'x1', 'x2', 'x3' and 5 more" in refusal(folder)


def test_all_problems_of_a_folder_are_told_together(folder: Path) -> None:
    edit_weights(folder / DIT, lambda tensors: tensors.pop("proj_out.bias"))
    os.truncate(folder / VAE, 40)
    edit_json(folder / "scheduler/scheduler_config.json", lambda c: c.update(use_beta_sigmas=True))
    message = refusal(folder)
    for found in ("proj_out.bias", "truncated", "use_beta_sigmas"):
        assert found in message


def test_dead_tensors_of_the_vlm_are_accounted_for(folder: Path) -> None:
    shutil.rmtree(folder / "vlm")
    random_vlm().save_pretrained(folder / "vlm")
    edit_weights(folder / VLM, lambda t: t["model.norm.weight"].fill_(float("nan")))
    assert same(state(tiny_model()), state(load_folder(folder)))
    edit_weights(folder / VLM, lambda t: t.update({"lm_head.weight": torch.zeros(3, 3)}))
    assert "lm_head.weight has [3, 3]" in refusal(folder)
    edit_weights(
        folder / VLM,
        lambda t: [
            t.pop("lm_head.weight"),
            t.update({"model.layers.6.mlp.up_proj.weight": torch.zeros(48, 32)}),
        ],
    )
    assert "model.layers.6.mlp.up_proj.weight" in refusal(folder)


def test_a_tensor_under_two_names_is_refused(folder: Path) -> None:
    name = "embed_tokens.weight"
    edit_weights(
        folder / VLM,
        lambda t: t.update({f"model.language_model.{name}": t[f"model.{name}"].clone()}),
    )
    assert "two names" in refusal(folder)


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".ckpt", ".bin.index.json"])
def test_a_pickle_in_place_of_safetensors_is_refused_unopened(folder: Path, suffix: str) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (folder / "ran",))

    (folder / VLM).unlink()
    pickle = folder / "vlm" / f"pytorch_model{suffix.removesuffix('.index.json')}"
    torch.save(Trap(), pickle)
    (folder / "vlm" / f"pytorch_model{suffix}").touch()
    assert "pickles can run code" in refusal(folder)
    pickle.rename(folder / VLM)
    assert "is a pickle" in refusal(folder)
    assert not (folder / "ran").exists()


def test_no_code_of_a_model_ever_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    for place in (folder, *(each for each in folder.iterdir() if each.is_dir())):
        for name in ("evil.py", "__init__.py", "pipeline.py", "modeling_deepgen.py", "setup.py"):
            (place / name).write_text(EVIL)
    runpy.run_path(str(folder / "evil.py"))
    assert (folder / "ran").exists(), "the canary cannot sing"
    (folder / "ran").unlink()
    auto = {
        "AutoConfig": "evil.Evil",
        "AutoModel": "evil.Evil",
        "AutoTokenizer": ["evil.Evil", "evil.Evil"],
    }
    for config in folder.glob("*/*config.json"):
        edit_json(config, lambda values: values.update(auto_map=auto, trust_remote_code=True))
    edit_json(folder / "vlm/config.json", lambda c: c.update(architectures=["Evil"]))
    edit_json(
        folder / "tokenizer/tokenizer_config.json", lambda c: c.update(tokenizer_class="Evil")
    )
    (folder / "tokenizer/chat_template.jinja").write_text("{{ cycler.__init__.__globals__ }}")
    edit_json(
        folder / "model_index.json",
        lambda index: index.update(
            _class_name=["pipeline", "DeepGenPipeline"],
            transformer=["evil", "Evil"],
            vlm=["evil", "Evil"],
        ),
    )
    before = set(sys.modules)
    model = load_folder(folder)
    model.conditioner.vlm.require_vision()
    assert not list(folder.rglob("ran"))
    assert not {name for name in set(sys.modules) - before if "evil" in name.lower()}
    assert "trust" not in "".join(capsys.readouterr())


@pytest.mark.parametrize("part", [BRIDGE, "vlm/config.json", "tokenizer/tokenizer.json", "vae"])
def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path, part: str) -> None:
    outside = tmp_path / "outside"
    (folder / part).rename(outside)
    (folder / part).symlink_to(outside)
    assert "link out of the folder" in refusal(folder)


def test_links_that_stay_inside_are_fine(folder: Path, tmp_path: Path) -> None:
    (folder / BRIDGE).rename(folder / "elsewhere.safetensors")
    (folder / BRIDGE).symlink_to("../elsewhere.safetensors")
    link = tmp_path / "link"
    link.symlink_to(folder, target_is_directory=True)
    load_folder(link)


def test_links_into_the_same_hub_cache_are_fine(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "models--nobody--model"
    blobs = cache / "blobs"
    blobs.mkdir(parents=True)
    snapshot = cache / "snapshots" / "0123abcd"
    for place, file in enumerate(each for each in folder.rglob("*") if each.is_file()):
        shutil.copy(file, blobs / str(place))
        link = snapshot / file.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blobs / str(place), link.parent))
    load_folder(snapshot)
    other = tmp_path / "models--nobody--other" / "blobs"
    other.mkdir(parents=True)
    weights = snapshot / BRIDGE
    shutil.copy(weights, other / "weights")
    weights.unlink()
    weights.symlink_to(other / "weights")
    assert "link out of the folder" in refusal(snapshot)


def test_a_link_that_leads_nowhere_or_in_circles_is_refused(folder: Path) -> None:
    (folder / BRIDGE).unlink()
    (folder / BRIDGE).symlink_to("model.safetensors")
    assert "connector/model.safetensors" in refusal(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_in_place_of_a_file_does_not_hang(folder: Path) -> None:
    for part in (BRIDGE, "vae/config.json"):
        (folder / part).unlink()
        os.mkfifo(folder / part)
    refusal(folder)


def shard(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Split the connector into a shard and an index of it."""
    (folder / BRIDGE).rename(folder / "connector/model-00001-of-00001.safetensors")
    names = tiny_model().conditioner.bridge.state_dict()
    index = folder / "connector/model.safetensors.index.json"
    index.write_text("{}")
    edit_json(
        index,
        lambda v: v.update(weight_map=dict.fromkeys(names, "model-00001-of-00001.safetensors")),
    )
    edit_json(index, change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index.pop("weight_map"), "no weight_map"),
        (lambda index: index["weight_map"].update(x="../vae/x.safetensors"), "that are not shards"),
        (lambda index: index["weight_map"].update(x="/etc/passwd"), "that are not shards"),
        (lambda index: index["weight_map"].update(x="model.bin"), "that are not shards"),
        (lambda index: index["weight_map"].update(x=["list"]), "that are not shards"),
        (lambda index: index["weight_map"].update(x="b.safetensors"), "b.safetensors is missing"),
        (
            lambda index: index["weight_map"].update(x="model-00001-of-00001.safetensors"),
            "no file has: 'x'",
        ),
        (lambda index: index["weight_map"].pop("meta_queries"), "does not list"),
    ],
)
def test_an_index_that_does_not_fit_its_shards_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    shard(folder, change)
    assert message in refusal(folder)


def test_a_fitting_index_is_not(folder: Path) -> None:
    shard(folder, lambda index: None)
    load_folder(folder)
