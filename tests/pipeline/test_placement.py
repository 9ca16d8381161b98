"""Offloaded, quantized and compiled pipelines, on a CPU that stands for the GPU."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from deepgen.checkpoint.files import ModelFolder
from deepgen.config.memory import weight_bytes
from deepgen.dit.graphs import BlockGraphs
from deepgen.nn.quantizing import is_quantized
from deepgen.pipeline.engine import Engine, Job
from deepgen.pipeline.pipeline import DeepGenPipeline
from deepgen.pipeline.placement import Placement, plan_placement
from deepgen.pipeline.request import parse_requests, parse_sampling
from tests.checkpoint.models import tiny_model
from tests.pipeline.test_golden import image, pipeline
from tests.pipeline.test_pipeline import FAST
from tests.shared import golden

pytestmark = pytest.mark.filterwarnings("ignore:.*expect a poor result")

CPU = torch.device("cpu")
BOTH = ("vlm", "transformer")


def tiny(model: Any = None) -> DeepGenPipeline:
    pipe = DeepGenPipeline(model or tiny_model())
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("groups", [(), ("vlm",), BOTH])
def test_offloaded_images_are_the_same_bits(groups: tuple[str, ...]) -> None:
    pipe = tiny(copy.deepcopy(pipeline().model))
    plain, edited = {"seed": 3, **FAST}, {"image": image("r0"), "seed": 4, **FAST}
    expected = [pipe("a cat", **plain).images, pipe("red", **edited).images]
    pipe.model.conditioner.clear_cache()
    pipe._placement = Placement(pipe.model, CPU, groups)
    found = [pipe("a cat", **plain).images, pipe("red", **edited).images]
    assert all(torch.equal(mine, true) for mine, true in zip(found, expected, strict=True))


def test_an_offloaded_engine_makes_the_same_image() -> None:
    model = copy.deepcopy(pipeline().model)
    defaults = model.defaults

    def made(placement: Placement | None) -> bytes:
        engine = Engine(model, placement=placement)
        model.conditioner.clear_cache()
        (request,) = parse_requests(
            "a cat",
            [image("r0")],
            negative_prompt=None,
            height=64,
            width=64,
            latents=None,
            channels=16,
            defaults=defaults,
            max_side=model.max_side,
        )
        sampling = parse_sampling(2, 2.0, None, defaults)
        engine.submit(Job(id="a", client="", request=request, sampling=sampling, seed=1))
        while not engine.is_idle:
            for event in engine.tick():
                if event.image is not None:
                    return event.image.tobytes()
        raise AssertionError("no image")

    assert made(None) == made(Placement(model, CPU, BOTH))


def test_a_failed_call_leaves_an_offloaded_model_on_the_cpu() -> None:
    pipe = tiny()
    expected = pipe("a cat", seed=0, **FAST).images
    pipe._placement = Placement(pipe.model, CPU, BOTH)

    def fail(*_: object) -> dict[str, Any]:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        pipe("a cat", seed=0, callback_on_step_end=fail, **FAST)
    pipe._placement.close()
    pipe._placement = None
    assert torch.equal(pipe("a cat", seed=0, **FAST).images, expected)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"offload_type": "leaf_level"}, "offload_type must be block_level"),
        ({"num_blocks_per_group": 2}, "num_blocks_per_group must be 1, got 2"),
        ({"offload_to_disk_path": "x"}, "wait in memory"),
        ({"offload_device": "cuda"}, "wait on the CPU"),
        ({"exclude_modules": "unet"}, r"may name vlm, transformer, got \['unet'\]"),
        ({"onload_device": "cpu"}, "between a GPU and the CPU"),
        ({}, "needs a device cuda, but torch finds none"),
    ],
)
def test_group_offload_that_cannot_be_is_refused_in_a_line(
    options: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=said) as caught:
        pipeline().enable_group_offload(**options)
    assert "\n" not in str(caught.value)
    assert pipeline()._placement is None


def test_memory_is_planned_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepgen.pipeline.pipeline.load_folder", lambda *_, **__: 1 / 0)
    with pytest.raises(ValueError, match=r"memory 0.2 cannot hold this model"):
        DeepGenPipeline.from_pretrained(golden("model"), memory=0.2)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"nf4 needs bitsandbytes, .* pip install 'deepgen-image"):
        DeepGenPipeline.from_pretrained(golden("model"), quantize="nf4")


def test_a_plan_keeps_to_the_memory_of_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    class Card:
        total_memory = 8 * 2**30

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Card)
    folder, cuda = ModelFolder(Path(golden("model"))), torch.device("cuda")
    with pytest.raises(ValueError, match=r"memory 12 is more than the 8.0 GiB of cuda"):
        plan_placement(folder, cuda, torch.bfloat16, 12, None)
    found = plan_placement(folder, cuda, torch.bfloat16, 8, None)
    assert found is not None
    assert found.offload == "none"


@pytest.mark.parametrize("kind", ["int8", "fp8", "nf4"])
def test_quantized_weights_are_smaller_and_images_nearly_the_same(kind: Any) -> None:
    pytest.importorskip("bitsandbytes" if kind == "nf4" else "torchao")
    pipe = DeepGenPipeline.from_pretrained("mini")
    pipe.set_progress_bar_config(disable=True)
    options = {"seed": 1, "num_inference_steps": 4, "output_type": "pt"}
    exact = pipe("an apple on a blue background", **options).images
    pipe.quantize(kind)
    found = pipe("an apple on a blue background", **options).images
    error = (found - exact).square().mean().sqrt()
    # Mean over prompts: docs/memory.md.
    assert 0 < error < {"int8": 0.01, "fp8": 0.03, "nf4": 0.1}[kind]
    shapes = {n: tuple(v.shape) for n, v in tiny_shapes(pipe).items()}
    planned = weight_bytes(shapes, 4, kind)
    held = sum(map(stored_bytes, pipe.model.dit.parameters()))
    assert abs(held - planned) < 0.03 * planned
    for refused, said in (
        (lambda: pipe.quantize("int8"), "quantized already"),
        (lambda: pipe.load_lora_weights("."), "cannot be added to quantized weights"),
        (lambda: pipe.save_pretrained("x"), "quantized weights are not saved"),
        (lambda: pipe.to(torch.bfloat16), "quantized weights cannot be cast"),
    ):
        with pytest.raises(ValueError, match=said):
            refused()
    # Quantized weights are offloaded as a whole.
    pipe._placement = Placement(pipe.model, CPU)
    assert torch.equal(pipe("an apple on a blue background", **options).images, found)


def tiny_shapes(pipe: DeepGenPipeline) -> dict[str, Tensor]:
    original = DeepGenPipeline.from_pretrained("mini").model.dit
    return dict(original.named_parameters())


def stored_bytes(tensor: Tensor) -> int:
    """What a weight holds, in whatever form."""
    if not is_quantized(tensor):
        return tensor.nbytes
    if hasattr(tensor, "quant_state"):
        return tensor.nbytes + tensor.quant_state.absmax.nbytes
    names, _ = tensor.__tensor_flatten__()
    return sum(each.nbytes for name in names if isinstance(each := getattr(tensor, name), Tensor))


def test_adapters_have_to_be_fused_before_weights_are_quantized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.pipeline.test_dialect import lora

    monkeypatch.setattr("deepgen.pipeline.placement.check_quantization", lambda _: None)
    pipe = tiny()
    pipe.load_lora_weights(lora(tmp_path))
    with pytest.raises(ValueError, match="adapters are loaded; fuse_lora"):
        pipe.quantize("int8")


def test_blocks_that_move_cannot_be_compiled() -> None:
    pipe = tiny()
    pipe._placement = Placement(pipe.model, CPU, BOTH)
    with pytest.raises(ValueError, match="blocks have to stay on the device"):
        pipe.compile_transformer()


def test_graphs_are_recorded_once_for_a_shape_and_replayed_with_new_values() -> None:
    pipe = tiny()
    dit, recorded = pipe.model.dit, []

    def record(compute: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        output = compute().clone()
        recorded.append(output.shape)
        return output, lambda: output.copy_(compute())  # type: ignore[return-value]

    calls = [{"seed": 0, **FAST}, {"seed": 1, **FAST}, {"seed": 2, **FAST, "width": 32}]
    expected = [pipe("a cat", **each).images for each in calls]
    dit._run = BlockGraphs(dit.run_blocks, dit.proj_out.weight, record)
    found = [pipe("a cat", **each).images for each in calls]
    assert all(torch.equal(mine, true) for mine, true in zip(found, expected, strict=True))
    assert len(recorded) == 2
    # Weights that have moved, by a dtype or a device, are recorded again.
    dit.proj_out.weight.data = dit.proj_out.weight.data.clone()
    assert torch.equal(pipe("a cat", **calls[0]).images, expected[0])
    assert len(recorded) == 3
