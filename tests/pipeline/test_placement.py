"""Offloaded, quantized and compiled pipelines, on a CPU that stands for the GPU."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deepgen.checkpoint.files import ModelFolder
from deepgen.config.memory import weight_bytes
from deepgen.dit.graphs import BlockGraphs
from deepgen.nn.quantizing import is_quantized
from deepgen.pipeline.engine import Engine, Event, Job
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


def watch(model: Any, placement: Placement) -> list[str]:
    """Names of the parts whose blocks run, each while the placement has it on the device."""
    seen = []

    def note(name: str, part: nn.Module) -> None:
        assert part in entered, f"{name} computes, and is not on the device"
        if seen[-1:] != [name]:
            seen.append(name)

    entered: list[nn.Module] = []
    enter = placement._enter

    def entering(part: nn.Module, stack: ExitStack) -> None:
        enter(part, stack)
        entered.append(part)
        stack.callback(entered.remove, part)

    placement._enter = entering  # type: ignore[method-assign]
    inner = {
        "conditioner": (model.conditioner.vlm.language_model.embed_tokens, model.conditioner),
        "dit": (model.dit.transformer_blocks[0], model.dit),
        "vae": (model.vae.autoencoder.decoder, model.vae),
    }
    for name, (module, part) in inner.items():
        # Before the hooks that copy blocks.
        module.register_forward_pre_hook(
            lambda *_, name=name, part=part: note(name, part), prepend=True
        )
    return seen


@pytest.mark.parametrize("groups", [(), ("vlm",), BOTH])
def test_offloaded_images_are_the_same_bits(groups: tuple[str, ...]) -> None:
    pipe = tiny(copy.deepcopy(pipeline().model))
    plain, edited = {"seed": 3, **FAST}, {"image": image("r0"), "seed": 4, **FAST}
    expected = [pipe("a cat", **plain).images, pipe("red", **edited).images]
    pipe.model.conditioner.clear_cache()
    pipe._placement = Placement(pipe.model, CPU, groups)
    seen = watch(pipe.model, pipe._placement)
    found = [pipe("a cat", **plain).images, pipe("red", **edited).images]
    assert seen == 2 * ["conditioner", "dit", "vae"]
    assert all(torch.equal(mine, true) for mine, true in zip(found, expected, strict=True))


def test_an_offloaded_engine_makes_the_same_image() -> None:
    model = copy.deepcopy(pipeline().model)

    def made(placement: Placement | None) -> bytes:
        engine = Engine(model, placement=placement)
        model.conditioner.clear_cache()
        engine.submit(engine_job(model))
        while not engine.is_idle:
            for event in engine.tick():
                if event.image is not None:
                    return event.image.tobytes()
        raise AssertionError("no image")

    expected = made(None)
    placement = Placement(model, CPU, BOTH)
    seen = watch(model, placement)
    assert made(placement) == expected
    assert seen == ["conditioner", "dit", "vae"]


@pytest.mark.parametrize("name", ["conditioner", "dit", "vae"])
def test_memory_that_runs_out_while_a_part_is_moved_fails_one_image(name: str) -> None:
    model = pipeline().model
    full = [getattr(model, name)]

    class Full(Placement):
        def _enter(self, part: nn.Module, stack: ExitStack) -> None:
            if part in full:
                raise torch.OutOfMemoryError
            super()._enter(part, stack)

    engine = Engine(model, placement=Full(model, CPU))

    def outcome() -> Event:
        engine.submit(engine_job(model))
        events: list[Event] = []
        while not engine.is_idle:
            events += engine.tick()
        return events[-1]

    failed = outcome()
    assert (failed.kind, failed.code) == ("failed", "out_of_memory")
    full.clear()
    assert outcome().kind == "finished"


def engine_job(model: Any) -> Job:
    """An edit."""
    defaults = model.defaults
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
    return Job(id="a", client="", request=request, sampling=sampling, seed=1)


def test_a_part_that_does_not_fit_is_not_left_half_on_the_device() -> None:
    pipe = tiny()
    placement = Placement(pipe.model, CPU, BOTH)
    stream = placement._streams[pipe.model.dit]
    events = []

    @contextmanager
    def full() -> Iterator[None]:
        events.append([*placement._leave._exit_callbacks])  # type: ignore[attr-defined]
        raise torch.OutOfMemoryError
        yield

    stream.opened = full  # type: ignore[method-assign]
    with pytest.raises(torch.OutOfMemoryError):
        placement.hold(pipe.model.dit)
    assert len(events[0]) == 1
    assert not placement._leave._exit_callbacks  # type: ignore[attr-defined]


def test_a_limit_of_memory_ends_with_its_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    class Card:
        total_memory = 8 * 2**30

    limits: list[float] = []
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Card)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda share, _: limits.append(share)
    )
    folder, cuda = ModelFolder(Path(golden("model"))), torch.device("cuda")
    pipe = tiny()
    # Moving to this GPU does nothing.
    monkeypatch.setattr(pipe, "to", lambda _: pipe)
    pipe.place(cuda)
    assert limits == []
    plan = plan_placement(folder, cuda, torch.bfloat16, 6, None)
    with monkeypatch.context() as patched, pytest.raises(ZeroDivisionError):
        patched.setattr(pipe, "compile_transformer", lambda: 1 / 0)
        pipe.place(cuda, plan, compile=True)
    assert limits == []
    pipe.place(cuda, plan)
    assert limits == [pytest.approx((6 - 0.375) / 8)]
    # Before another model is loaded.
    plan_placement(folder, cuda, torch.bfloat16, None, None)
    assert limits[1:] == [1.0]
    pipe.place(cuda)
    assert limits[1:] == [1.0]


def test_a_failed_call_leaves_an_offloaded_model_on_the_cpu() -> None:
    pipe = tiny()
    expected = pipe("a cat", seed=0, **FAST).images
    pipe._placement = Placement(pipe.model, CPU, BOTH)
    entered: list[nn.Module] = []
    enter = pipe._placement._enter

    def entering(part: nn.Module, stack: ExitStack) -> None:
        enter(part, stack)
        entered.append(part)
        stack.callback(entered.remove, part)

    pipe._placement._enter = entering  # type: ignore[method-assign]

    def fail(*_: object) -> dict[str, Any]:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        pipe("a cat", seed=0, callback_on_step_end=fail, **FAST)
    assert entered == []
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
    monkeypatch.setattr("deepgen.pipeline.pretrained.load_folder", lambda *_, **__: 1 / 0)
    with pytest.raises(ValueError, match=r"memory 0.001 cannot hold this model"):
        DeepGenPipeline.from_pretrained(golden("model"), memory=0.001)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"nf4 needs bitsandbytes, .* pip install .*bitsandbytes"):
        DeepGenPipeline.from_pretrained(golden("model"), quantize="nf4")


def test_a_plan_keeps_to_the_memory_of_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    class Card:
        total_memory = 8 * 2**30

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Card)
    folder, cuda = ModelFolder(Path(golden("model"))), torch.device("cuda")
    with pytest.raises(ValueError, match=r"memory 12 is more than the 8.0 GB of cuda"):
        plan_placement(folder, cuda, torch.bfloat16, 12, None)
    found = plan_placement(folder, cuda, torch.bfloat16, 8, None)
    assert found is not None
    assert found.offload == "none"


APPLE: dict[str, Any] = {
    "prompt": "an apple on a blue background",
    "seed": 1,
    "num_inference_steps": 2,
    "output_type": "pt",
}


@pytest.fixture(scope="module")
def mini() -> tuple[DeepGenPipeline, Tensor]:
    """The embedded model, and an image of it."""
    pipe = DeepGenPipeline.from_pretrained("mini")
    pipe.set_progress_bar_config(disable=True)
    return pipe, pipe(**APPLE).images


@pytest.fixture(scope="module")
def packages() -> None:
    """torchao and bitsandbytes, installed or where ``make test`` puts them; in CI they must be."""
    own = Path(sys.prefix) / "quantization"
    if find_spec("torchao") is None and own.is_dir():
        # For good: a package that has been imported must be found for as long as the process lives.
        sys.path.append(str(own))
    for name in ("torchao", "bitsandbytes"):
        if find_spec(name) is None:
            (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"no {name}")


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("kind", ["int8", "fp8", "nf4"])
def test_quantized_weights_are_smaller_and_images_nearly_the_same(
    kind: Any, mini: tuple[DeepGenPipeline, Tensor]
) -> None:
    exact = mini[1]
    pipe = tiny(copy.deepcopy(mini[0].model))
    pipe.model.conditioner.clear_cache()
    shapes = {name: tuple(value.shape) for name, value in pipe.model.dit.named_parameters()}
    pipe.quantize(kind)
    found = pipe(**APPLE).images
    error = (found - exact).square().mean().sqrt()
    # Figures over prompts: docs/memory.md.
    assert 0 < error < {"int8": 0.003, "fp8": 0.01, "nf4": 0.05}[kind]
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
    pipe.model.conditioner.clear_cache()
    assert torch.equal(pipe(**APPLE).images, found)


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
    dit._run = BlockGraphs(dit.run_blocks, dit, record)
    found = [pipe("a cat", **each).images for each in calls]
    assert all(torch.equal(mine, true) for mine, true in zip(found, expected, strict=True))
    assert len(recorded) == 2
    # Weights that have moved, even a single one, are recorded again.
    weight = dit.transformer_blocks[0].attn.to_q.weight
    weight.data = weight.data.clone()
    assert torch.equal(pipe("a cat", **calls[0]).images, expected[0])
    assert len(recorded) == 3


def test_graphs_end_where_weights_are_quantized_moved_or_offloaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("deepgen.pipeline.placement.check_quantization", lambda _: None)
    monkeypatch.setattr("deepgen.pipeline.placement.quantize_linear", lambda *_: 0)
    monkeypatch.setattr(DeepGenPipeline, "_target", lambda *_: CPU)
    pipe = tiny()
    dit = pipe.model.dit
    graphs = BlockGraphs(dit.run_blocks, dit, lambda compute: (compute(), lambda: None))

    def ends(change: Callable[[], object]) -> bool:
        dit._run = graphs
        graphs._recorded[()] = None  # type: ignore[assignment]
        change()
        return not graphs._recorded

    assert ends(lambda: pipe.quantize("int8"))
    assert ends(lambda: pipe.to("cpu"))
    assert dit._run is graphs
    assert ends(pipe.enable_model_cpu_offload)
    assert dit._run is not graphs


def test_compiled_blocks_are_not_offloaded_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DeepGenPipeline, "_target", lambda *_: CPU)
    pipe = tiny()
    pipe.model.dit.compile_for_sampling(graphs=False, backend="eager")
    for offload in (pipe.enable_group_offload, pipe.enable_sequential_cpu_offload):
        with pytest.raises(ValueError, match="blocks have to stay on the device"):
            offload()
    assert pipe._placement is None
    pipe.enable_group_offload(exclude_modules="transformer")
    assert pipe._placement is not None
