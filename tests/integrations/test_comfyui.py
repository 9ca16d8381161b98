"""The node pack, against a stub of the interface; the logic also against the pipeline."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import json
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.integrations import comfy_stub
from tests.pipeline.test_golden import pipeline

PACK = Path(__file__).resolve().parents[2] / "integrations" / "comfyui"
SIZE = {"width": 64, "height": 64}

pytestmark = pytest.mark.filterwarnings("ignore:.*expect a poor result")


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The pack as ComfyUI imports it: by its folder."""
    models = tmp_path_factory.mktemp("models")
    (models / "deepgen" / "own").mkdir(parents=True)
    (models / "deepgen" / "own" / "model_index.json").write_text("{}")
    (models / "deepgen" / "empty").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        comfy_stub.install(models, patch.setitem)
        name = "custom_nodes_deepgen"
        found = importlib.util.spec_from_file_location(
            name, PACK / "__init__.py", submodule_search_locations=[str(PACK)]
        )
        assert found is not None
        assert found.loader is not None
        module = importlib.util.module_from_spec(found)
        patch.setitem(sys.modules, name, module)
        found.loader.exec_module(module)
        yield module


@pytest.fixture
def nodes(pack: ModuleType) -> dict[str, Any]:
    extension = asyncio.run(pack.comfy_entrypoint())
    found = asyncio.run(extension.get_node_list())
    return {each.define_schema().node_id: each for each in found}


def run(node: Any, **values: Any) -> tuple[Any, ...]:
    """As ComfyUI: inputs by name, as the schema has them."""
    names = {each.id for each in node.define_schema().inputs}
    assert values.keys() <= names
    result: tuple[Any, ...] = node.execute(**values).result
    assert len(result) == len(node.define_schema().outputs)
    return result


def picked(seed: int = 3, steps: int = 2, guidance: float = 0.0) -> dict[str, Any]:
    return {"seed": seed, "steps": steps, "guidance": guidance}


def image_tensor(side: int = 64) -> torch.Tensor:
    values = torch.linspace(0, 1, side)
    return torch.stack([values[None].expand(side, side)] * 3, -1)[None]


def pixels(image: Any) -> np.ndarray:
    return np.asarray(image, np.int16)


def made(core: Any, tensor: torch.Tensor) -> list[Image.Image]:
    return list(core.to_images(tensor))


def test_every_input_is_an_argument_and_every_node_is_named(nodes: dict[str, Any]) -> None:
    assert len(nodes) == 7
    for name, node in nodes.items():
        schema = node.define_schema()
        assert (name, schema.category) == (node.__name__, "DeepGen")
        arguments = inspect.signature(node.execute).parameters
        assert set(arguments) == {each.id for each in schema.inputs}
        for each in schema.inputs:
            is_optional = each.options.get("optional") or each.io_type == "COMFY_AUTOGROW_V3"
            assert (arguments[each.id].default is None) == bool(is_optional), each.id


def test_only_listed_models_can_be_loaded(
    nodes: dict[str, Any], pack: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader, core = nodes["DeepGenLoader"], sys.modules["custom_nodes_deepgen.core"]
    model, _, adapter, _ = loader.define_schema().inputs
    assert model.options["options"] == ["mini", "own"]
    assert adapter.options["options"] == ["none", "style.safetensors"]
    asked = []
    monkeypatch.setattr(core, "load", lambda path, **options: asked.append((path, options)))
    values = {"dtype": "auto", "adapter_scale": 0.5}
    run(loader, model="mini", adapter="none", **values)
    run(loader, model="own", adapter="style.safetensors", **values)
    assert asked[0] == ("mini", {"dtype": "auto", "adapter": None, "scale": 0.5})
    assert (asked[1][0].name, asked[1][1]["adapter"].name) == ("own", "style.safetensors")
    with pytest.raises(KeyError):
        run(loader, model="../own", adapter="none", **values)


def test_a_graph_makes_the_images_that_the_pipeline_makes(
    nodes: dict[str, Any], pack: ModuleType
) -> None:
    core = sys.modules["custom_nodes_deepgen.core"]
    pipe = pipeline()
    comfy_stub.ComfyAPISync.steps.clear()
    (wanted,) = run(nodes["DeepGenConditioning"], prompt="a cat", negative_prompt="", images=None)
    (latent,) = run(nodes["DeepGenEmptyLatent"], model=pipe, **SIZE, batch_size=2)
    sampler = nodes["DeepGenSampler"]
    (found,) = run(sampler, model=pipe, conditioning=wanted, latent=latent, **picked())
    (images,) = run(nodes["DeepGenVAEDecode"], model=pipe, latent=found)
    same: dict[str, Any] = {**SIZE, "num_inference_steps": 2, "num_images_per_prompt": 2}
    expected = pipe("a cat", seed=3, **same).images
    for mine, theirs in zip(made(core, images), expected, strict=True):
        assert np.abs(pixels(mine) - pixels(theirs)).max() <= 1
    assert comfy_stub.ComfyAPISync.steps == [(1, 2), (2, 2)]
    # In the scale of the autoencoder.
    assert found["samples"].shape == (2, 16, 8, 8)
    scaled = pipe("a cat", seed=3, **same, output_type="latent").images
    vae = pipe.model.vae
    assert torch.allclose((found["samples"] - vae.shift) * vae.scale, scaled, atol=1e-5)


def test_images_and_latents_survive_the_way_there_and_back(
    nodes: dict[str, Any], pack: ModuleType
) -> None:
    core, pipe = sys.modules["custom_nodes_deepgen.core"], pipeline()
    image = image_tensor()
    again = core.from_images(core.to_images(image))
    assert (again - image).abs().max() <= 0.5 / 255 + 1e-6
    assert made(core, image * 3 - 1)[0].getextrema() == ((0, 255),) * 3
    (latent,) = run(nodes["DeepGenVAEEncode"], model=pipe, image=image)
    clean = pipe.model.vae.encode([2 * again[0].permute(2, 0, 1) - 1])[0]
    vae = pipe.model.vae
    assert torch.allclose((latent["samples"][0] - vae.shift) * vae.scale, clean, atol=1e-5)


def test_an_edit_is_the_pipelines_and_keeps_what_the_mask_keeps(
    nodes: dict[str, Any], pack: ModuleType
) -> None:
    core, pipe, image = sys.modules["custom_nodes_deepgen.core"], pipeline(), image_tensor()
    values = {"model": pipe, "instruction": "make it blue", "image": image, **picked()}
    tensor, record = run(nodes["DeepGenEdit"], **values)
    (first,) = made(core, image)
    (theirs,) = pipe("make it blue", first, seed=3, num_inference_steps=2).images
    assert np.abs(pixels(made(core, tensor)[0]) - pixels(theirs)).max() <= 1
    assert json.loads(record)["seed"] == 3
    mask = torch.zeros(1, 64, 64)
    mask[:, :, :32] = 1
    kept, _ = run(nodes["DeepGenEdit"], **values, mask=mask, images={"image_0": image})
    assert np.array_equal(pixels(made(core, kept)[0])[:, 32:], pixels(first)[:, 32:])
    for bad, text in ((torch.ones(1, 32, 32), "expected the image's"), (0 * mask, "empty")):
        with pytest.raises(ValueError, match=text):
            run(nodes["DeepGenEdit"], **values, mask=bad)


def test_the_references_come_in_the_order_of_their_numbers(
    nodes: dict[str, Any], pack: ModuleType
) -> None:
    images: dict[str, Any] = {f"image_{n}": torch.full((1, 8, 8, 3), n / 255) for n in (10, 2, 1)}
    images["image_3"] = None
    node = nodes["DeepGenConditioning"]
    (wanted,) = run(node, prompt="a", negative_prompt="b", images=images)
    assert [each.getpixel((0, 0))[0] for each in wanted.references] == [1, 2, 10]
    assert wanted.negative_prompt == "b"


def test_seeds_beyond_torchs_are_reduced_and_odd_sizes_refused(
    nodes: dict[str, Any], pack: ModuleType
) -> None:
    pipe = pipeline()
    (wanted,) = run(nodes["DeepGenConditioning"], prompt="a cat", negative_prompt="", images=None)
    (latent,) = run(nodes["DeepGenEmptyLatent"], model=pipe, **SIZE, batch_size=1)
    sampler, values = nodes["DeepGenSampler"], {"model": pipe, "conditioning": wanted}
    (large,) = run(sampler, **values, latent=latent, **picked(seed=2**63 + 3, steps=1))
    (small,) = run(sampler, **values, latent=latent, **picked(seed=3, steps=1))
    assert torch.equal(large["samples"], small["samples"])
    with pytest.raises(ValueError, match="multiples of 32"):
        run(sampler, **values, latent={"samples": torch.zeros(1, 16, 9, 8)}, **picked())


def test_the_pack_can_be_published() -> None:
    project = tomllib.loads((PACK / "pyproject.toml").read_text(encoding="utf-8"))
    name = project["project"]["name"]
    assert len(name) < 100
    assert "comfyui" not in name.lower()
    assert project["project"]["urls"]["Repository"]
    assert {"PublisherId", "DisplayName"} <= project["tool"]["comfy"].keys()
