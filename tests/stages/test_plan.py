import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL

from deepgen.conditioning.bridge import Bridge
from deepgen.conditioning.encoder import Conditioner
from deepgen.conditioning.vlm import VisionLanguageModel
from deepgen.config.model import BridgeConfig, DiTConfig
from deepgen.config.stage import StageConfig
from deepgen.config.train import ComputeConfig, LoraConfig, Sharding
from deepgen.data.records import Task
from deepgen.dit.model import DiT
from deepgen.model import DeepGen
from deepgen.recipes.lora import lora
from deepgen.recipes.pretrain import pretrain
from deepgen.recipes.sft import sft
from deepgen.stages.activations import activation_bytes, largest_sample
from deepgen.stages.plan import Memory, plan_memory
from deepgen.train.parallel.sharding import chosen_sharding, never_sharded
from deepgen.train.trainable import make_trainable
from deepgen.vae import LatentCodec
from tests.checkpoint.models import tiny_model
from tests.conditioning.models import tiny_tokenizer
from tests.released import VAE, VLM

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def model() -> DeepGen:
    ready = tiny_model()
    make_trainable(ready, "sft", lora=LoraConfig(rank=2))
    return ready


def planned(model: DeepGen, sharding: Sharding, world_size: int) -> Memory:
    return plan_memory(model, sharding, world_size, has_ema=True, frozen_bytes=2, gathered_bytes=2)


def rows_of(value: torch.Tensor, world_size: int) -> int:
    return math.ceil(len(value) / world_size) * math.prod(value.shape[1:])


def test_an_unsharded_model_costs_twenty_bytes_a_trained_number(model: DeepGen) -> None:
    memory = planned(model, "none", 4)
    trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
    frozen = sum(value.numel() for value in model.parameters() if not value.requires_grad)
    autoencoder = sum(value.numel() for value in model.vae.parameters())
    positions = model.dit.state_dict()["pos_embed.pos_embed"].numel()
    # The VAE is in float32 while its images are learned from.
    assert memory.static == 20 * trained + 2 * frozen + 2 * autoencoder + 2 * positions
    # What autocast makes of float32 weights, where it does.
    assert memory.temporary == 2 * trained
    plain = plan_memory(model, "none", 4, has_ema=True, frozen_bytes=4, gathered_bytes=4)
    assert plain.temporary == 0


def test_what_the_optimizer_works_on_is_sharded_and_what_is_frozen_is_not(model: DeepGen) -> None:
    memory, whole = planned(model, "optimizer", 4), planned(model, "none", 4)
    trained = [value for value in model.parameters() if value.requires_grad]
    assert memory.trained == 20 * sum(rows_of(value, 4) for value in trained)
    assert memory.frozen == whole.frozen
    assert memory.temporary == 6 * sum(value.numel() for value in trained)


def test_full_sharding_shards_all_but_vision_tower_and_autoencoder(model: DeepGen) -> None:
    memory, part = planned(model, "full", 4), planned(model, "optimizer", 4)
    whole = {id(value) for value in never_sharded(model)}
    autoencoder = {id(value) for value in model.vae.parameters()}
    frozen = sum(
        (4 if id(value) in autoencoder else 2)
        * (value.numel() if id(value) in whole else rows_of(value, 4))
        for value in model.parameters()
        if not value.requires_grad
    )
    assert memory.frozen == frozen
    assert memory.static - memory.frozen == part.static - part.frozen


def full_size() -> DeepGen:
    """The released sizes, without values."""
    tiny = tiny_model()
    with torch.device("meta"):
        vlm = VisionLanguageModel(VLM, BridgeConfig())
        bridge, dit, vae = Bridge(BridgeConfig()), DiT(DiTConfig()), AutoencoderKL(**VAE)
    conditioner = Conditioner(vlm, bridge, tiny_tokenizer())
    return DeepGen(conditioner, dit, LatentCodec(vae), tiny.schedule, tiny.defaults, {})


DRAWING = ((512, 512), ())
EDIT = ((512, 512), ((512, 512),))


@pytest.mark.parametrize(
    ("config", "gigabytes"),
    [
        # DiT, language model and connector, by hand.
        (pretrain(), {"t2i": 1.6 + 0.3 + 0.14, "edit": 3.2 + 0.3 + 0.26}),
        (sft(), {"t2i": 2.3 + 1.3 + 0.14, "edit": 4.4 + 2.4 + 0.26}),
        (lora(), {"t2i": 1.6, "edit": 3.2}),
    ],
    ids=["pretrain", "sft", "lora"],
)
def test_activations_of_a_sample_are_about_what_one_counts_by_hand(
    config: StageConfig, gigabytes: dict[Task, float]
) -> None:
    model = full_size()
    make_trainable(model, config.stage, lora=config.lora)
    for task, expected in gigabytes.items():
        longest = largest_sample(model, [DRAWING, EDIT], [task])
        found = activation_bytes(model, config, longest, bytes_each=2)
        assert found / 1e9 == pytest.approx(expected, rel=0.1)
        less = replace(config, compute=ComputeConfig(checkpoint_activations=True))
        assert activation_bytes(model, less, longest, bytes_each=2) < 0.35 * found


def test_the_tutorial_names_the_memory_of_adapters_on_the_full_size() -> None:
    model = full_size()
    make_trainable(model, "lora", lora=lora().lora)
    memory = plan_memory(model, "none", 1, has_ema=False, frozen_bytes=2, gathered_bytes=2)
    tasks: tuple[Task, ...] = ("t2i", "edit")
    samples = [largest_sample(model, [DRAWING, EDIT], [task]) for task in tasks]
    drawing, edit = (activation_bytes(model, lora(), each, bytes_each=2) for each in samples)
    text = (ROOT / "docs" / "fine-tuning.md").read_text(encoding="utf-8")
    for count in (memory.static, drawing, edit):
        assert f"{count / 2**30:.1f} GiB" in text


def test_unless_said_otherwise_only_joint_training_on_several_gpus_is_sharded() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert chosen_sharding("auto", "sft", gpu, 8) == "optimizer"
    assert chosen_sharding("auto", "sft", cpu, 8) == "none"
    assert chosen_sharding("auto", "pretrain", gpu, 8) == "none"
    assert chosen_sharding("full", "pretrain", cpu, 2) == "full"
    assert chosen_sharding("full", "sft", gpu, 1) == "none"
