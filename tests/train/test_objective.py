"""The flow-matching loss against the recorded numbers of the public implementation."""

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from deepgen.flow.loss import Weighting
from deepgen.model import DeepGen
from deepgen.train.draws import Visit, VisitDraws
from deepgen.train.objective import FlowBatch, FlowObjective
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


@pytest.mark.parametrize("case", ["t2i_latents", "t2i_pixels", "i2i"])
def test_losses_and_gradients_are_the_recorded_ones(case: str) -> None:
    model = recorded_model()
    model.conditioner.vlm.requires_grad_(False)
    loss = recorded_objective(case)(model, recorded_batch(model, case), torch.Generator())
    recorded = arrays(case)
    assert error(loss.total[None], recorded["loss"]) <= LOSS
    loss.total.backward()
    gradients = published_names(model)
    check_norms(gradients, case)
    for name, value in recorded.items():
        if name.startswith("grad."):
            assert error(gradients[name.removeprefix("grad.")], value) <= GRADIENT


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
        prompts=[Prompt(text=f"picture {name}") for name in names],
        reference_latents=[[] for _ in names],
        visits=[Visit(sample=name) for name in names],
        weights=torch.tensor(weights or [1 / count] * count),
    )


def losses(given: FlowBatch, **options: Any) -> Any:
    objective = FlowObjective(
        torch.linspace(1, 0.001, 1000), options.pop("draws", VisitDraws(0, "test")), **options
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
        visits=given.visits[2:],
        weights=torch.ones(1),
    )
    assert losses(alone).total.item() == pytest.approx(together.samples[2].item(), rel=1e-5)


def test_the_loss_is_the_weighted_sum_of_the_samples() -> None:
    loss = losses(batch(["a", "b"], [0.75, 0.125]))
    expected = 0.75 * loss.samples[0] + 0.125 * loss.samples[1]
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-6)
    assert loss.names == ["a", "b"]


def test_captions_are_dropped_as_often_as_said_but_never_those_of_edits() -> None:
    objective = FlowObjective(torch.ones(1000), VisitDraws(0, "test"), caption_drop=0.1)
    pixels = torch.zeros(3, 32, 32)
    visits = [Visit(sample=str(index)) for index in range(2000)]
    drawn = [objective._prompt(Prompt(text="a"), visit).text for visit in visits]
    edits = [
        objective._prompt(Prompt(text="a", references=(pixels,)), visit).text for visit in visits
    ]
    assert drawn.count("") / 2000 == pytest.approx(0.1, abs=0.02)
    assert edits.count("") == 0


def test_uniform_levels_cover_the_whole_schedule_and_logit_normal_ones_its_middle() -> None:
    sigmas = torch.arange(1000.0)
    visits = [Visit(sample=str(index)) for index in range(4000)]
    spread = {}
    for levels in ("uniform", "logit_normal"):
        objective = FlowObjective(sigmas, VisitDraws(0, "test"), levels=levels)
        drawn = torch.stack([objective._sigma(visit) for visit in visits])
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
