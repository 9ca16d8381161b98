import math

import pytest
import torch

from deepgen.config.stage import Sharding
from deepgen.config.train import LoraConfig
from deepgen.model import DeepGen
from deepgen.recipes.plan import Memory, plan_memory
from deepgen.train.sharding import chosen_sharding, never_divided
from deepgen.train.trainable import make_trainable
from tests.checkpoint.models import tiny_model


@pytest.fixture(scope="module")
def model() -> DeepGen:
    ready = tiny_model()
    make_trainable(ready, "sft", lora=LoraConfig(rank=2))
    return ready


def planned(model: DeepGen, sharding: Sharding, world_size: int) -> Memory:
    return plan_memory(
        model, sharding, world_size, has_average=True, frozen_bytes=2, gathered_bytes=2
    )


def rows_of(value: torch.Tensor, world_size: int) -> int:
    return math.ceil(len(value) / world_size) * math.prod(value.shape[1:])


def test_an_undivided_model_costs_twenty_bytes_a_trained_number_and_nothing_passes(
    model: DeepGen,
) -> None:
    memory = planned(model, "none", 4)
    trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
    frozen = sum(value.numel() for value in model.parameters() if not value.requires_grad)
    assert memory.static == 20 * trained + 2 * frozen
    assert memory.passing == 0


def test_what_the_optimizer_works_on_is_divided_and_what_is_frozen_is_not(model: DeepGen) -> None:
    memory, whole = planned(model, "optimizer", 4), planned(model, "none", 4)
    trained = [value for value in model.parameters() if value.requires_grad]
    assert memory.weights == 4 * sum(rows_of(value, 4) for value in trained)
    assert memory.moments == 2 * memory.gradients == 2 * memory.average == 2 * memory.weights
    assert memory.frozen == whole.frozen
    assert memory.passing == 6 * sum(value.numel() for value in trained)


def test_full_sharding_divides_all_but_vision_tower_and_autoencoder(model: DeepGen) -> None:
    memory, part = planned(model, "full", 4), planned(model, "optimizer", 4)
    whole = {id(value) for value in never_divided(model)}
    frozen = sum(
        value.numel() if id(value) in whole else rows_of(value, 4)
        for value in model.parameters()
        if not value.requires_grad
    )
    assert memory.frozen == 2 * frozen
    assert memory.static - memory.frozen == part.static - part.frozen


def test_unless_said_otherwise_only_joint_training_on_several_gpus_is_divided() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert chosen_sharding("auto", "sft", gpu, 8) == "optimizer"
    assert chosen_sharding("auto", "sft", cpu, 8) == "none"
    assert chosen_sharding("auto", "pretrain", gpu, 8) == "none"
    assert chosen_sharding("full", "pretrain", cpu, 2) == "full"
    assert chosen_sharding("full", "sft", gpu, 1) == "none"
