"""The flow-matching loss against the recorded numbers of the public implementation."""

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from deepgen.config.stage import Stage
from deepgen.config.train import LoraConfig, Weighting
from deepgen.model import DeepGen
from deepgen.train.objective import FlowBatch, FlowObjective
from deepgen.train.sample_rng import SampleKey, SampleRng
from deepgen.train.trainable import make_trainable
from deepgen.types import Prompt
from tests.checkpoint.models import tiny_model
from tests.shared import error, golden
from tests.train.golden_model import (
    adapted_model,
    arrays,
    recorded_batch,
    recorded_model,
    recorded_objective,
)

LOSS, GRADIENT = 1e-4, 1e-3


def published_names(model: DeepGen) -> dict[str, Tensor]:
    """Gradients under the names that the public implementation has for the parameters."""
    places = {
        "conditioner.bridge.": "",
        "dit.": "transformer.",
        "conditioner.vlm.language_model.": "lmm.model.language_model.",
    }
    return {
        new + name.removeprefix(old): value.grad
        for name, value in model.named_parameters()
        for old, new in places.items()
        if name.startswith(old) and value.grad is not None
    }


def check_norms(found: dict[str, Tensor], case: str) -> None:
    recorded = json.loads(golden("train/grad_norms.json").read_text())[case]
    # The last block's context queries lead nowhere, and are not even computed here.
    unused = {name for name in recorded.keys() - found.keys() if recorded[name] == 0}
    assert len(unused) == 3
    names = sorted(recorded.keys() - unused)
    mine = torch.stack([found[name].norm() for name in names])
    assert error(mine, [recorded[name] for name in names]) <= GRADIENT
    beyond = {name: found[name].norm().item() for name in found.keys() - recorded.keys()}
    assert all(value == 0 for value in beyond.values()), beyond


@pytest.mark.parametrize("detach_prompts", [True, False])
@pytest.mark.parametrize("case", ["t2i_latents", "t2i_pixels", "i2i"])
def test_losses_and_gradients_are_the_recorded_ones(case: str, detach_prompts: bool) -> None:
    model = recorded_model()
    model.conditioner.vlm.requires_grad_(False)
    model.conditioner.vlm.detach_prompts = detach_prompts
    loss = recorded_objective(case)(model, recorded_batch(model, case), torch.Generator())
    recorded = arrays(case)
    assert error(loss.total[None], recorded["loss"]) <= LOSS
    loss.total.backward()
    gradients = published_names(model)
    check_norms(gradients, case)
    for name, value in recorded.items():
        if name.startswith("grad."):
            assert error(gradients[name.removeprefix("grad.")], value) <= GRADIENT


def stage_one(case: str, *, detach_prompts: bool) -> tuple[dict[str, Tensor], int]:
    """Loss and gradients, and how many bytes were kept for the backward pass through the VLM."""
    model = recorded_model()
    make_trainable(model, "pretrain")
    vlm = model.conditioner.vlm
    vlm.detach_prompts = detach_prompts
    # So that both ways compute the same tokens.
    vlm.packing = False
    batch = recorded_batch(model, case)
    kept: dict[int, int] = {}
    inside = False

    def enter(*_: object) -> None:
        nonlocal inside
        inside = True

    def leave(*_: object) -> None:
        nonlocal inside
        inside = False

    def keep(value: Tensor) -> Tensor:
        if inside:
            storage = value.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    weights = {each.untyped_storage().data_ptr() for each in vlm.parameters()}
    vlm.register_forward_pre_hook(enter)
    vlm.register_forward_hook(leave)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        loss = recorded_objective(case)(model, batch, torch.Generator())
    loss.total.backward()
    values = {"loss": loss.total.detach()[None], **published_names(model)}
    return values, sum(size for place, size in kept.items() if place not in weights)


@pytest.mark.parametrize("case", ["t2i_latents", "i2i"])
def test_prompts_without_gradient_give_the_same_loss_and_gradients_for_less(case: str) -> None:
    plain, plain_bytes = stage_one(case, detach_prompts=False)
    apart, apart_bytes = stage_one(case, detach_prompts=True)
    assert plain.keys() == apart.keys()
    assert len(plain) == 1 + 1 + 6 + 2 * 16
    # A key bias shifts all scores of a query alike: its gradient is zero but for rounding.
    names = {name for name in plain if not name.endswith("k_proj.bias")}
    assert max(error(apart[name], plain[name]) for name in names) <= 1e-5
    # 8 of about 90 tokens are think tokens.
    assert apart_bytes < 0.3 * plain_bytes


def test_a_trained_vlm_is_never_run_without_its_gradient() -> None:
    model = recorded_model()
    make_trainable(model, "sft", lora=LoraConfig(rank=2))
    plain = make_gradient(model, detach_prompts=False)
    assert torch.equal(make_gradient(model, detach_prompts=True), plain)
    assert plain.any()


def make_gradient(model: DeepGen, *, detach_prompts: bool) -> Tensor:
    """Gradient of the first layer's keys, which think tokens see only by way of the prompt."""
    model.zero_grad()
    model.eval().conditioner.vlm.detach_prompts = detach_prompts
    batch = recorded_batch(model, "t2i_latents")
    recorded_objective("t2i_latents")(model, batch, torch.Generator()).total.backward()
    name = "language_model.layers.0.self_attn.k_proj.lora_B.default.weight"
    gradient = model.conditioner.vlm.get_parameter(name).grad
    assert gradient is not None
    return gradient.clone()


def test_adapters_on_the_vlm_get_the_recorded_gradients() -> None:
    model = adapted_model()
    loss = recorded_objective("t2i_latents")(
        model, recorded_batch(model, "t2i_latents"), torch.Generator()
    )
    assert error(loss.total[None], arrays("t2i_latents")["loss"]) <= LOSS
    loss.total.backward()
    check_norms(published_names(model), "t2i_latents_lora")


@pytest.mark.parametrize("weighting", ["sigma_sqrt", "cosmap"])
def test_weightings_give_the_recorded_losses(weighting: Weighting) -> None:
    model = recorded_model()
    objective = recorded_objective("t2i_latents", weighting=weighting)
    with torch.no_grad():
        loss = objective(model, recorded_batch(model, "t2i_latents"), torch.Generator())
    assert error(loss.total[None], arrays("t2i_latents")[f"loss_{weighting}"]) <= LOSS


def batch(names: list[str], weights: list[float] | None = None) -> FlowBatch:
    torch.manual_seed(0)
    count = len(names)
    return FlowBatch(
        latents=[torch.randn(16, 4, 4 + 2 * index) for index in range(count)],
        prompts=[Prompt(text=f"image {name}") for name in names],
        reference_latents=[[] for _ in names],
        keys=[SampleKey(sample=name) for name in names],
        weights=torch.tensor(weights or [1 / count] * count),
    )


def losses(given: FlowBatch, **options: Any) -> Any:
    objective = FlowObjective(
        torch.linspace(1, 0.001, 1000), options.pop("rng", SampleRng(0, "test")), **options
    )
    with torch.no_grad():
        return objective(tiny_model(), given, torch.Generator())


def test_a_sample_has_the_same_loss_whoever_is_beside_it() -> None:
    together = losses(batch(["a", "b", "c"]))
    given = batch(["a", "b", "c"])
    alone = FlowBatch(
        latents=given.latents[2:],
        prompts=given.prompts[2:],
        reference_latents=[[]],
        keys=given.keys[2:],
        weights=torch.ones(1),
    )
    assert losses(alone).total.item() == pytest.approx(together.samples[2].item(), rel=1e-5)


def test_the_loss_is_the_weighted_sum_of_the_samples() -> None:
    loss = losses(batch(["a", "b"], [0.75, 0.125]))
    expected = 0.75 * loss.samples[0] + 0.125 * loss.samples[1]
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-6)
    assert loss.sample_ids == ["a", "b"]


def test_captions_are_dropped_as_often_as_said_but_never_those_of_edits() -> None:
    objective = FlowObjective(torch.ones(1000), SampleRng(0, "test"), caption_drop=0.1)
    pixels = torch.zeros(3, 32, 32)
    keys = [SampleKey(sample=str(index)) for index in range(2000)]
    drawn = [objective._prompt(Prompt(text="a"), key).text for key in keys]
    edits = [objective._prompt(Prompt(text="a", references=(pixels,)), key).text for key in keys]
    assert drawn.count("") / 2000 == pytest.approx(0.1, abs=0.02)
    assert edits.count("") == 0


def test_uniform_levels_cover_the_whole_schedule_and_logit_normal_ones_its_middle() -> None:
    sigmas = torch.arange(1000.0)
    keys = [SampleKey(sample=str(index)) for index in range(4000)]
    spread = {}
    for levels in ("uniform", "logit_normal"):
        objective = FlowObjective(sigmas, SampleRng(0, "test"), levels=levels)
        drawn = torch.stack([objective._sigma(key) for key in keys])
        assert drawn.mean() == pytest.approx(500, abs=15)
        spread[levels] = drawn.std().item()
    assert spread["uniform"] == pytest.approx(1000 / 12**0.5, rel=0.03)
    # The deviation of sigmoid(N(0, 1)) is 0.208.
    assert spread["logit_normal"] == pytest.approx(208, rel=0.05)


def test_rounded_levels_change_the_noise_but_not_what_the_dit_is_told() -> None:
    exact, rounded = (
        losses(batch(["a", "b"]), round_sigmas=each).total.item() for each in (False, True)
    )
    assert exact != rounded
    assert exact == pytest.approx(rounded, rel=2**-6)


@pytest.mark.parametrize("stage", ["pretrain", "sft"])
def test_bfloat16_computes_nearly_the_same_and_gives_float32_gradients(stage: Stage) -> None:
    gradients = {}
    for dtype in (None, torch.bfloat16):
        model = tiny_model() if dtype is None else tiny_model().to(dtype)
        trained = make_trainable(model, stage, lora=LoraConfig(rank=2, dropout=0.0))
        objective = FlowObjective(
            torch.linspace(1, 0.001, 1000), SampleRng(0, "test"), autocast=dtype
        )
        objective(model, batch(["a", "b", "c"]), torch.Generator()).total.backward()
        found = [each.grad for each in trained.values() if each.grad is not None]
        assert all(each.dtype == torch.float32 for each in found)
        gradients[dtype] = torch.cat([each.flatten() for each in found])
    exact, rounded = gradients[None], gradients[torch.bfloat16]
    assert torch.nn.functional.cosine_similarity(exact, rounded, dim=0) > 0.99
    assert not torch.equal(exact, rounded)
