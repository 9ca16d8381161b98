"""Cheaper ways to the same loss and gradients, each against the way without it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from deepgen.conditioning.encoder import Conditioner
from deepgen.config.model import Padding
from deepgen.config.stage import Stage
from deepgen.config.train import LoraConfig
from deepgen.dit.blocks import JointAttention
from deepgen.flow.schedule import training_sigmas
from deepgen.model import DeepGen
from deepgen.nn.linear import Linear
from deepgen.train.objective import FlowBatch, FlowObjective
from deepgen.train.sample_rng import SampleKey, SampleRng
from deepgen.train.trainable import make_trainable
from deepgen.types import Prompt
from tests.checkpoint.models import tiny_model
from tests.conditioning.models import (
    TINY_LAST_BRIDGE,
    image,
    random_bridge,
    random_vlm,
    take_over,
    tiny_tokenizer,
)
from tests.shared import error

# With dropout, so that random numbers have to be the same too.
LORA = LoraConfig(rank=2, dropout=0.3)

TEXTS = ["a", "a long sentence about a pictogram", "two words"]


def ready(stage: Stage) -> DeepGen:
    model = tiny_model()
    make_trainable(model, stage, lora=LORA)
    return model


def ragged_batch(*, edits: bool = False) -> FlowBatch:
    """Prompts of three lengths; of edits, targets and numbers of references differ too."""
    torch.manual_seed(0)
    references = [[], [image(1)], [image(2), image(3)]] if edits else [[], [], []]
    return FlowBatch(
        latents=[torch.randn(16, 4, 6 if edits and index else 4) for index in range(3)],
        prompts=[
            Prompt(text=text, references=tuple(own))
            for text, own in zip(TEXTS, references, strict=True)
        ],
        reference_latents=[[torch.randn(16, 4, 8) for _ in own] for own in references],
        keys=[SampleKey(sample=text) for text in TEXTS],
        weights=torch.tensor([0.25, 0.5, 0.25]),
    )


def alone(batch: FlowBatch, index: int) -> FlowBatch:
    mine = slice(index, index + 1)
    return FlowBatch(
        latents=batch.latents[mine],
        prompts=batch.prompts[mine],
        reference_latents=batch.reference_latents[mine],
        keys=batch.keys[mine],
        weights=batch.weights[mine],
    )


def values(
    model: DeepGen, *batches: FlowBatch, padding: Padding = "none"
) -> tuple[dict[str, Tensor], int]:
    """Loss and gradients, and the bytes that were held between forward and backward pass."""
    objective = FlowObjective(
        training_sigmas(model.schedule), SampleRng(0, "test"), padding=padding
    )
    model.zero_grad()
    total = torch.zeros(())
    held = 0
    for batch in batches:
        torch.manual_seed(1)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            loss = objective(model, batch, torch.Generator()).total
        held += sum(each.self_cpu_memory_usage for each in seen.key_averages())
        loss.backward()
        total += loss.detach()
    gradients = {
        name: value.grad.clone()
        for name, value in model.named_parameters()
        # A key bias shifts all scores of a query alike: its gradient is zero but for rounding.
        if value.grad is not None and not name.endswith("k_proj.bias")
    }
    return {"loss": total[None], **gradients}, held


def worst(mine: dict[str, Tensor], true: dict[str, Tensor]) -> float:
    """Largest error of loss and gradients, each in units of its largest value."""
    assert mine.keys() == true.keys()
    assert sum(bool(value.any()) for value in true.values()) > 30
    return max(error(mine[name], true[name]) for name in true if true[name].any())


@pytest.mark.parametrize("stage", ["pretrain", "sft"])
def test_checkpointed_layers_give_the_same_gradients_for_less_memory(stage: Stage) -> None:
    model, batch = ready(stage), ragged_batch()
    plain, plain_bytes = values(model, batch)
    model.checkpoint_activations()
    mine, held = values(model, batch)
    assert mine.keys() == plain.keys()
    assert all(torch.equal(value, plain[name]) for name, value in mine.items())
    assert held < 0.7 * plain_bytes


def pad_sequences(model: DeepGen) -> None:
    model.pack(False)


def pack(model: DeepGen) -> None:
    model.pack()


def pack_and_attend_by_row(model: DeepGen) -> None:
    model.pack(attention_by_row=True)


@pytest.mark.parametrize(
    ("lay_out", "stage", "edits"),
    [
        (pad_sequences, "sft", True),
        (pack, "pretrain", True),
        (pack, "sft", False),
        (pack_and_attend_by_row, "pretrain", False),
        (pack_and_attend_by_row, "sft", True),
    ],
)
def test_rows_of_different_length_are_as_if_each_were_alone(
    lay_out: Callable[[DeepGen], None], stage: Stage, edits: bool
) -> None:
    model, batch = ready(stage), ragged_batch(edits=edits)
    # Masks of dropout are drawn for whole batches.
    model.eval()
    true, _ = values(model, *(alone(batch, index) for index in range(3)))
    lay_out(model)
    mine, _ = values(model, batch)
    assert worst(mine, true) <= 1e-5


@pytest.mark.parametrize("stage", ["pretrain", "sft"])
def test_padded_rows_are_the_same_packed_or_filled_up(stage: Stage) -> None:
    model, batch = ready(stage), ragged_batch()
    model.eval()
    pad_sequences(model)
    true, _ = values(model, batch, padding="batch")
    pack_and_attend_by_row(model)
    mine, _ = values(model, batch, padding="batch")
    assert worst(mine, true) <= 1e-5


def whole(stage: Stage) -> DeepGen:
    """With what is never built: the last VLM layer, and the last DiT block's context queries."""
    model = tiny_model()
    # Where the last state is read, all layers are built; then other states are read all the same.
    vlm = take_over(random_vlm(), TINY_LAST_BRIDGE)
    vlm.selected_layers = model.conditioner.vlm.selected_layers
    model.conditioner = Conditioner(vlm, random_bridge(), tiny_tokenizer())
    make_trainable(model, stage, lora=LORA)
    attention = model.dit.transformer_blocks[-1].attn
    assert isinstance(attention, JointAttention)
    attention.to_add_out = Linear(model.dit.config.width, model.dit.config.width)
    return model.eval()


@pytest.mark.parametrize(("stage", "edits"), [("pretrain", False), ("sft", True)])
def test_what_is_never_run_changes_neither_loss_nor_gradients(stage: Stage, edits: bool) -> None:
    model, batch = ready(stage).eval(), ragged_batch(edits=edits)
    plain = whole(stage)
    layers = [len(each.conditioner.vlm.language_model.layers) for each in (model, plain)]
    assert layers == [5, 6]
    run: list[str] = []
    plain.conditioner.vlm.language_model.layers[-1].register_forward_hook(
        lambda *_: run.append("layer")
    )
    plain.dit.get_submodule("transformer_blocks.1.attn.add_q_proj").register_forward_hook(
        lambda *_: run.append("queries")
    )
    true, _ = values(plain, batch)
    assert set(run) == {"layer", "queries"}
    mine, _ = values(model, batch)
    unused = {name: true.pop(name) for name in set(true) - set(mine)}
    assert all(name.split(".")[-2] in ("add_q_proj", "norm_added_q") for name in unused)
    assert not any(value.any() for value in unused.values())
    assert worst(mine, true) <= 1e-5


def test_packed_rows_need_no_filling() -> None:
    model, batch = ready("sft"), ragged_batch()
    tokens: list[int] = []
    model.conditioner.vlm.language_model.layers[0].register_forward_pre_hook(
        lambda _, inputs: tokens.append(inputs[0].shape[0] * inputs[0].shape[1])
    )
    lengths = [len(model.conditioner.tokenize(each)) + 4 for each in batch.prompts]
    pad_sequences(model)
    values(model, batch)
    pack(model)
    values(model, batch)
    assert tokens == [3 * max(lengths), sum(lengths)]


def test_attention_by_row_needs_no_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = ready("sft"), ragged_batch()
    pack_and_attend_by_row(model)
    masks: list[object] = []
    stock: Any = torch.nn.functional.scaled_dot_product_attention

    def watched(*inputs: Tensor, attn_mask: Tensor | None = None, **options: Any) -> Any:
        masks.append(attn_mask)
        return stock(*inputs, attn_mask=attn_mask, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    values(model, batch)
    assert masks
    assert all(mask is None for mask in masks)
