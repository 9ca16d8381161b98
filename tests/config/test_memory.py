"""Plans of memory, for the sizes of the released model."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKL

from deepgen.conditioning.bridge import Bridge
from deepgen.conditioning.vlm import VisionLanguageModel
from deepgen.config.memory import (
    GIB,
    PRESETS,
    RESERVED,
    ImageCase,
    MemoryPlan,
    Quantization,
    Shapes,
    check_memory,
    plan_memory,
    weight_bytes,
)
from deepgen.config.model import BridgeConfig, DiTConfig
from deepgen.dit.model import DiT
from tests.released import VAE, VLM


@pytest.fixture(scope="module")
def released() -> dict[str, Shapes]:
    with torch.device("meta"):
        modules = {
            "vlm": VisionLanguageModel(VLM, BridgeConfig()),
            "connector": Bridge(BridgeConfig()),
            "transformer": DiT(DiTConfig()),
            "vae": AutoencoderKL.from_config(VAE),
        }
    return {
        name: {key: tuple(value.shape) for key, value in module.state_dict().items()}
        for name, module in modules.items()
    }


def plan(
    released: dict[str, Shapes],
    memory: float,
    kind: Quantization | None = None,
    side: int = 512,
    **options: int,
) -> MemoryPlan:
    case = ImageCase(height=side, width=side, **options)
    return plan_memory(released, memory, case, quantization=kind)


def test_every_preset_holds_an_edit_of_512_px_exactly(released: dict[str, Shapes]) -> None:
    made = {memory: plan(released, memory) for memory in PRESETS}
    assert {memory: (each.offload, each.groups) for memory, each in made.items()} == {
        6: ("groups", ("vlm",)),
        8: ("groups", ("vlm",)),
        12: ("stages", ()),
        16: ("none", ()),
        24: ("none", ()),
    }
    for memory, each in made.items():
        assert each.peak <= memory * GIB
        assert each.is_exact


def test_larger_images_take_more_and_move_more(released: dict[str, Shapes]) -> None:
    assert plan(released, 6, side=1024).groups == ("vlm", "transformer")
    assert plan(released, 24, side=1024).peak > plan(released, 24).peak
    assert plan(released, 24, images=4).peak > plan(released, 24).peak
    # Without an edit, the vision tower is never loaded.
    saved = plan(released, 24).peak - plan(released, 24, references=0).peak
    assert saved > 1.2 * GIB


def test_quantized_weights_take_less_and_are_offloaded_as_a_whole(
    released: dict[str, Shapes],
) -> None:
    assert plan(released, 12, "int8").offload == "none"
    assert plan(released, 6, "int8").offload == "stages"
    assert plan(released, 6, "nf4").offload == "none"
    assert not plan(released, 6, "int8").is_exact
    whole = sum(weight_bytes(each, 2, None) for each in released.values())
    assert 12.4 * GIB < whole < 12.5 * GIB
    sizes = [sum(weight_bytes(each, 2, k) for each in released.values()) for k in ("int8", "nf4")]
    assert 0.5 * whole < sizes[0] < 0.6 * whole
    assert 0.3 * whole < sizes[1] < 0.4 * whole


def test_a_size_that_cannot_be_kept_is_refused_with_one_that_can(
    released: dict[str, Shapes],
) -> None:
    with pytest.raises(ValueError, match=r"memory 3 cannot hold .* takes 3.8\d GB") as caught:
        plan(released, 3)
    assert "\n" not in str(caught.value)
    assert "or 3.49 GB with quantize nf4" in str(caught.value)
    with pytest.raises(ValueError, match=r"takes 3.8\d GB for .*; with quantize nf4 it fits$"):
        plan(released, 3.5)
    assert plan(released, 3.9).groups == ("vlm", "transformer")


def test_a_cpu_has_nothing_to_offload_to(released: dict[str, Shapes]) -> None:
    case = ImageCase(height=512, width=512)
    assert plan_memory(released, 16, case, offloads=False).offload == "none"
    with pytest.raises(ValueError, match="only where a GPU computes"):
        plan_memory(released, 12, case, offloads=False)
    eight_bits = plan_memory(released, 12, case, quantization="int8", offloads=False)
    assert eight_bits.offload == "none"
    # Nor a context of CUDA.
    both = [plan_memory(released, 24, case, offloads=each).peak for each in (True, False)]
    assert both[0] - both[1] == RESERVED


@pytest.mark.parametrize(
    ("memory", "quantize", "said"),
    [(0, None, "memory must be a positive"), (8, "int4", "quantize must be one of int8, fp8")],
)
def test_what_is_no_size_is_refused(memory: float, quantize: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_memory(memory, quantize)
