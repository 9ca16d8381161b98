from __future__ import annotations

from dataclasses import replace

import pytest
from denoising import Case
from gpu import images
from gpu.images import ImageRow
from gpu.loop import LoopRow, floor_flops
from gpu.plan import Context
from gpu.profiles import kind_of
from gpu.tables import ONE, TASKS
from gpu.training import TrainingRow

from deepgen.config.model import DiTConfig
from deepgen.errors import TrainingError
from deepgen.train.monitor.flops import dit_flops


def test_rows_with_goals_come_first() -> None:
    names = [task.name for task in TASKS]
    assert names[:5] == ["loop_1", "loop_8", "loop_edit", "image", "image_offloaded"]
    assert names[5:7] == ["stage_1", "stage_2"]


def test_the_floor_counts_what_the_dit_has_to_compute() -> None:
    config = DiTConfig()
    forward = dit_flops(config, image=1024, context=160)
    # Embedding of context and patches is not in the floor.
    assert floor_flops(ONE, config) == pytest.approx(100 * forward, rel=0.015)
    edit = replace(ONE, references=2, images=3)
    forward = dit_flops(config, image=3072, context=160)
    assert floor_flops(edit, config) == pytest.approx(300 * forward, rel=0.015)


def test_a_loop_is_compared_with_diffusers_and_the_floor(context: Context) -> None:
    row = LoopRow(case=Case(references=1), goals={"of_diffusers_eager": 1e9, "of_floor": 1e-9})
    found = row(context)
    medians = found["median_seconds"]
    for whose in ("deepgen_eager", "diffusers_compiled"):
        ratio = medians[whose] / found["floor_seconds"]
        assert found["of_floor"][whose] == pytest.approx(ratio, rel=0.2)
    assert found["of_diffusers_eager"].keys() == {"deepgen_eager", "deepgen_compiled"}
    assert [each["met"] for each in found["goals"]] == [True, False]


def test_sides_that_cannot_be_compiled_leave_the_others(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_compiler(*given: object) -> None:
        raise RuntimeError("no C compiler\nand more")

    monkeypatch.setattr("gpu.loop.stock_loop", no_compiler)
    found = LoopRow(case=Case(), goals={"of_diffusers_eager": 0.6, "of_floor": 1e9})(context)
    assert found["failed_sides"]["diffusers_compiled"] == "RuntimeError: no C compiler"
    assert found["median_seconds"].keys() == {"deepgen_eager", "deepgen_compiled"}
    assert [each["met"] for each in found["goals"]] == [True]


def test_training_that_needs_too_much_memory_is_measured_with_checkpointing(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def measure(row: object, context: object, *, checkpointing: bool) -> dict[str, bool]:
        tried.append(checkpointing)
        if not checkpointing:
            raise TrainingError("a step needs more memory than there is")
        return {"checkpointed": True}

    monkeypatch.setattr("gpu.training.measure_training", measure)
    assert TrainingRow(stage="sft")(context) == {"checkpointed": True}
    assert tried == [False, True]


def test_the_parts_of_a_call_are_its_time(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(images, "reset_peak", calls.append)
    found = ImageRow(references=1)(context)
    parts = found["parts_of_last_call"]
    assert parts.keys() == {"prompts", "references", "loop", "vae"}
    assert 0.7 * found["median_seconds"] < sum(parts.values()) <= found["median_seconds"]
    # Building is not part of a call's memory.
    assert len(calls) == 2


@pytest.mark.parametrize("cache", ["first-block", "taylor"])
def test_rows_of_caches_say_which(context: Context, cache: str) -> None:
    row = ImageRow(cache=cache)
    assert row in [each.run for each in TASKS]
    assert row(context)["cache"] == cache


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64", "matrix products"),
        ("nvjet_tst_256x128_64x4_2x1_v_bz_coopA_NNT", "matrix products"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16", "attention"),
        ("void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<...>", "norms"),
        (
            "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add",
            "elementwise",
        ),
        ("void at::native::(anonymous namespace)::CatArrayBatchedCopy<...>", "copies"),
        ("Memcpy DtoD (Device -> Device)", "copies"),
        ("void at::native::(anonymous namespace)::multi_tensor_apply_kernel<...>", "optimizer"),
        ("something_else", "other"),
    ],
)
def test_kernels_have_kinds(kernel: str, kind: str) -> None:
    assert kind_of(kernel) == kind
