"""Operations of a sample against the specification's table, and against what torch counts."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from deepgen.config.model import BridgeConfig, DiTConfig
from deepgen.config.stage import STAGES, Stage
from deepgen.config.train import LoraConfig
from deepgen.train.monitor.flops import (
    SampleCost,
    SampleLengths,
    connector_flops,
    dit_flops,
    language_flops,
    vision_flops,
)
from deepgen.train.trainable import make_trainable
from deepgen.types import Condition
from tests.checkpoint.models import tiny_model

# Qwen2.5-VL-3B without the last layer, which nothing reads.
TEXT = SimpleNamespace(
    hidden_size=2048,
    num_attention_heads=16,
    num_key_value_heads=2,
    intermediate_size=11008,
    num_hidden_layers=35,
)
VISION = SimpleNamespace(
    hidden_size=1280,
    intermediate_size=3420,
    depth=32,
    fullatt_block_indexes=(7, 15, 23, 31),
    out_hidden_size=2048,
)
DRAWING = SampleLengths(image=1024, context=270)
EDIT = SampleLengths(image=2048, context=430, patches=(1024,))
TERA = 1e12


def full_size(stage: Stage, adapters: float) -> SampleCost:
    cost = SampleCost.__new__(SampleCost)
    cost.dit, cost.bridge = DiTConfig(), BridgeConfig()
    cost.text, cost.vision = TEXT, VISION
    cost.trained, cost.adapters = STAGES[stage], int(adapters)
    return cost


@pytest.mark.parametrize(
    ("part", "drawing", "edit"),
    [
        (lambda each: language_flops(TEXT, each.context), 1.46, 2.32),
        (lambda each: language_flops(TEXT, each.context, known=each.context - 128), 0.69, 0.69),
        (lambda each: connector_flops(BridgeConfig(), each.context), 0.23, 0.37),
        (lambda each: dit_flops(DiTConfig(), each.image, each.context), 2.33, 5.10),
        (lambda each: sum(vision_flops(VISION, own) for own in each.patches), 0, 1.31),
    ],
)
def test_parts_of_the_released_size_cost_what_is_published(
    part: Any, drawing: float, edit: float
) -> None:
    assert part(DRAWING) / TERA == pytest.approx(drawing, rel=0.025)
    assert part(EDIT) / TERA == pytest.approx(edit, rel=0.025)


@pytest.mark.parametrize(
    ("stage", "adapters", "drawing", "edit"),
    [
        ("pretrain", 0, 7.5, 15.6),
        # 64 times the sum of both sides of all linear layers.
        ("sft", 64 * 51_968 * 35, 10.8, 22.6),
    ],
)
def test_samples_of_both_stages_cost_what_is_published(
    stage: Stage, adapters: float, drawing: float, edit: float
) -> None:
    cost = full_size(stage, adapters)
    assert cost(DRAWING) / TERA == pytest.approx(drawing, rel=0.015)
    assert cost(EDIT) / TERA == pytest.approx(edit, rel=0.015)


def test_the_dit_does_what_is_counted() -> None:
    model = tiny_model()
    width = model.dit.config.joint_attention_dim
    condition = Condition(
        prompt_embeds=torch.randn(7, width),
        pooled_prompt_embeds=torch.randn(model.dit.config.pooled_projection_dim),
    )
    image = torch.randn(16, 16, 16)
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        model.dit([image], torch.tensor([500.0]), [condition], [[]])
    # Not of attention, which the counter does not know on CPU.
    linear = counted.get_total_flops()
    config = model.dit.config
    pairs = config.num_layers * (64 + 7) ** 2 + len(config.dual_attention_layers) * 64**2
    expected = dit_flops(config, 64, 7) - 4.0 * config.width * pairs
    # Modulations are computed once per image: nothing at full size, something in a tiny one.
    modulations = 2 * sum(
        value.numel()
        for name, value in model.dit.named_parameters()
        if name.startswith("transformer_blocks.") and name.endswith("linear.weight")
    )
    assert linear - modulations == pytest.approx(expected, rel=0.02)


def test_adapters_of_the_language_model_are_counted_and_think_tokens_alone_are_cheaper() -> None:
    tokens = SampleLengths(image=32, context=12, patches=(16,))
    costs = {}
    for stage in ("pretrain", "lora", "sft"):
        model = tiny_model()
        lora = None if stage == "pretrain" else LoraConfig(rank=2)
        make_trainable(model, stage, lora=lora, seed=0)
        cost = SampleCost(model, stage)
        assert (cost.adapters > 0) == (stage == "sft")
        costs[stage] = cost(tokens)
    assert costs["lora"] < costs["pretrain"] < costs["sft"]
