"""What holds for every DiT, whatever its weights."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from deepgen.config.memory import MODULATION_ROWS
from deepgen.config.model import DiTConfig
from deepgen.dit import grouping
from deepgen.dit.blocks import attend
from deepgen.dit.model import DiT
from deepgen.errors import TrainingError
from deepgen.nn.compiling import check_compiler
from deepgen.types import Condition, Latents
from tests.dit.models import TINY, conditions, random_condition, twins
from tests.shared import error

ROOT = Path(__file__).resolve().parents[2]
PARITY = 1e-5
GRADIENT_PARITY = 1e-4
BATCHED = 2e-5


def latents(*sizes: tuple[int, int]) -> list[Latents]:
    return [torch.randn(16, *size) for size in sizes]


@pytest.mark.parametrize(
    "changes",
    [{}, {"qk_norm": None}, {"dual_attention_layers": ()}, {"dual_attention_layers": (0, 1, 2)}],
)
def test_without_references_it_is_diffusers_transformer(changes: dict[str, Any]) -> None:
    dit, stock = twins(**changes)
    noisy, context, pooled = torch.randn(2, 16, 8, 12), torch.randn(2, 9, 40), torch.randn(2, 24)
    timesteps = torch.tensor([3.0, 700.0])
    mine = torch.stack(dit(list(noisy), timesteps, conditions(context, pooled), [[], []]))
    true = stock(noisy, context, pooled, timesteps, return_dict=False)[0]
    assert error(mine, true) <= PARITY


def test_the_table_of_positions_begins_as_diffusers_does() -> None:
    _, stock = twins(sample_size=16, pos_embed_max_size=20)
    own = DiT(replace(TINY, sample_size=16, pos_embed_max_size=20))
    assert error(own.pos_embed.pos_embed, stock.pos_embed.pos_embed) <= 1e-6


def test_mixed_sizes_references_and_prompts_go_together() -> None:
    dit, _ = twins()
    noisy = latents((8, 12), (6, 6), (8, 12), (12, 8))
    references: list[list[Tensor]] = [
        latents((8, 8)),
        [],
        latents((8, 8)),
        latents((4, 6), (10, 8)),
    ]
    told = [random_condition(tokens, seed=tokens) for tokens in (9, 5, 7, 9)]
    timesteps = torch.tensor([10.0, 200.0, 500.0, 999.0])
    together = dit(noisy, timesteps, told, references)
    for index in range(4):
        (alone,) = dit(
            noisy[index : index + 1],
            timesteps[index : index + 1],
            told[index : index + 1],
            references[index : index + 1],
        )
        assert error(together[index], alone) <= BATCHED


def test_what_is_prepared_once_is_what_every_step_would_compute() -> None:
    dit, _ = twins()
    steps = MODULATION_ROWS // 3 + 5
    noisy = latents((8, 12), (8, 12), (6, 6))
    references: list[list[Tensor]] = [latents((8, 8)), [], []]
    told = [random_condition(tokens, seed=tokens) for tokens in (9, 7, 7)]
    timesteps = torch.linspace(1000, 5, steps)
    prepared = dit.prepare(told, [(8, 12), (8, 12), (6, 6)], timesteps, references)
    for step in (0, 1, steps - 1, 3):
        mine = dit.velocity(noisy, step, prepared)
        true = dit(noisy, timesteps[step].expand(3), told, references)
        for each, expected in zip(mine, true, strict=True):
            assert error(each, expected) <= PARITY


@pytest.mark.parametrize("by_row", [False, True])
def test_sets_prepared_one_by_one_are_joined_at_steps_of_their_own(by_row: bool) -> None:
    dit, _ = twins()
    dit.attention_by_row = by_row
    sizes = [(8, 12), (8, 12), (6, 6), (8, 12)]
    noisy = latents(*sizes)
    references: list[list[Tensor]] = [latents((8, 8)), [], [], []]
    told = [random_condition(tokens, seed=tokens) for tokens in (9, 7, 5, 4)]
    # The second one has a padding token that counts for three.
    told[1] = replace(told[1], padding=0 if by_row else 3)
    timesteps = [torch.linspace(1000, 5, steps) for steps in (4, 7, 3, 7)]
    sets = [
        dit.prepare([each, each], [size] * 2, time, [own] * 2)
        for each, size, time, own in zip(told, sizes, timesteps, references, strict=True)
    ]
    joined = dit.join(sets)
    # Padding that is cheaper than another pass puts even different shapes together on a CPU.
    assert len(joined) == (3 if by_row else 1)
    rows = [each for each in noisy for _ in range(2)]
    for steps in ([0, 3, 2, 6], [1, 0, 0, 5]):
        mine = dit.velocity(rows, [step for step in steps for _ in range(2)], joined)
        for index, (step, own) in enumerate(zip(steps, sets, strict=True)):
            true = dit.velocity([noisy[index]] * 2, step, own)
            for each, expected in zip(mine[2 * index : 2 * index + 2], true, strict=True):
                assert error(each, expected) <= BATCHED


def test_sampling_on_an_accelerator_needs_no_mask() -> None:
    dit = DiT(TINY).to("meta")
    told = [
        Condition(
            prompt_embeds=torch.empty(tokens, 40, device="meta"),
            pooled_prompt_embeds=torch.empty(24, device="meta"),
            padding=padding,
        )
        for tokens, padding in ((9, 0), (7, 3), (9, 0), (7, 0))
    ]
    prepared = dit.prepare(told, [(8, 8)] * 4, torch.tensor([500.0]), [[]] * 4)
    assert [group.members for group in prepared] == [[0, 1, 2], [3]]
    assert all(group.key_bias is None for group in prepared)


def test_a_counted_padding_token_is_as_many_tokens() -> None:
    dit, _ = twins()
    counted = random_condition(6, padding=5)
    written = Condition(
        prompt_embeds=counted.expanded(), pooled_prompt_embeds=counted.pooled_prompt_embeds
    )
    assert len(written.prompt_embeds) == 10
    noisy, time = latents((8, 8)), torch.tensor([300.0])
    mine, true = dit(noisy, time, [counted], [[]])[0], dit(noisy, time, [written], [[]])[0]
    assert error(mine, true) <= 1e-6
    # Beside a longer row, too, where filling stands behind it.
    other = random_condition(14)
    beside, _ = dit(noisy * 2, time.expand(2), [counted, other], [[], []])
    assert error(beside, true) <= BATCHED


def test_under_autocast_padding_is_written_out() -> None:
    dit, _ = twins()
    counted = random_condition(6, padding=150)
    written = replace(counted, prompt_embeds=counted.expanded(), padding=0)
    noisy = latents((8, 12))
    with torch.autocast("cpu", torch.bfloat16):
        mine, true = (
            dit(noisy, torch.tensor([500.0]), [each], [[]])[0] for each in (counted, written)
        )
    assert torch.equal(mine, true)


@pytest.mark.parametrize("gradients", [True, False])
def test_under_autocast_a_cpu_computes_attention_in_float32(gradients: bool) -> None:
    torch.manual_seed(0)
    query, key, value = (
        torch.randn(2, 5, 3, 8).bfloat16().requires_grad_(gradients) for _ in range(3)
    )
    bias = torch.tensor([0.0, 0, 0, 0, -torch.inf]).bfloat16().expand(2, 1, 1, 5)
    with torch.autocast("cpu", torch.bfloat16):
        mine = attend(query, key, value, bias)
    assert mine.dtype == torch.float32
    assert torch.equal(mine, attend(query.float(), key.float(), value.float(), bias.float()))


def test_lower_precisions_write_padding_out() -> None:
    # The logarithm of a count would be rounded to 8 bits.
    dit, _ = twins()
    dit.bfloat16()
    counted = random_condition(6, padding=53)
    (group,) = dit.prepare([counted], [(8, 8)], torch.tensor([300.0]), [[]])
    assert group.context.shape[1] == 58
    assert group.key_bias is None


def test_rows_beyond_the_cache_go_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    dit, _ = twins()
    noisy, time = latents((8, 8), (8, 8), (8, 8)), torch.tensor([300.0, 20.0, 900.0])
    told = [random_condition(9), random_condition(5, padding=3), random_condition(7)]
    together = dit(noisy, time, told, [[], [], []])
    # Of the widest activations, 16 tokens of 4 x 32 float32 channels, two rows fit.
    monkeypatch.setattr(grouping, "CPU_ACTIVATION_BYTES", 2 * 16 * 4 * 32 * 4)
    prepared = dit.prepare(told, [(8, 8)] * 3, time[:1], [[], [], []])
    assert [group.members for group in prepared] == [[0, 1], [2]]
    for mine, true in zip(dit(noisy, time, told, [[], [], []]), together, strict=True):
        assert error(mine, true) <= BATCHED


def test_modulations_are_computed_once_for_all_groups() -> None:
    dit, _ = twins()
    noisy, time = latents((8, 8), (8, 12)), torch.tensor([300.0, 20.0])
    told = [random_condition(9), random_condition(5)]
    rows: list[int] = []
    layer = dit.transformer_blocks[0].get_submodule("norm1")
    layer.register_forward_hook(lambda module, inputs, output: rows.append(len(inputs[0])))
    together = dit(noisy, time, told, [[], []])
    assert rows == [2]
    for index, mine in enumerate(together):
        (alone,) = dit(noisy[index : index + 1], time[index, None], told[index : index + 1], [[]])
        assert error(mine, alone) <= BATCHED


def test_passes_for_the_sake_of_other_processes_change_nothing() -> None:
    dit, _ = twins()
    noisy, time, told = latents((8, 8)), torch.tensor([300.0]), [random_condition(9)]
    runs = {"norm1": 0, "": 0}

    def velocity_and_gradients() -> list[torch.Tensor]:
        (velocity,) = dit(noisy, time, told, [[]])
        given = [each for each in dit.parameters() if each.requires_grad]
        found = torch.autograd.grad(velocity.square().mean(), given, allow_unused=True)
        return [velocity.detach(), *(each for each in found if each is not None)]

    dit.requires_grad_(True)
    expected = velocity_and_gradients()
    block = dit.transformer_blocks[0]
    for name in runs:

        def count(*seen: object, name: str = name) -> None:
            runs[name] += 1

        block.get_submodule(name).register_forward_hook(count)
    dit.max_over_processes = lambda own: own + 2
    for mine, true in zip(velocity_and_gradients(), expected, strict=True):
        assert error(mine, true) <= PARITY
    assert runs == {"norm1": 1, "": 3}


def test_n_equal_context_tokens_are_one_with_a_key_bias_of_ln_n() -> None:
    dit, _ = twins()
    dit = dit.double()
    tokens = torch.randn(5, 40, dtype=torch.float64)
    repeated = torch.cat([tokens[:1].expand(7, -1), tokens[1:]])
    noisy, time = [torch.randn(16, 4, 4, dtype=torch.float64)], torch.tensor([300.0])
    pooled = torch.randn(24, dtype=torch.float64)
    whole = dit.prepare(
        [Condition(prompt_embeds=repeated, pooled_prompt_embeds=pooled)], [(4, 4)], time, [[]]
    )
    (group,) = dit.prepare(
        [Condition(prompt_embeds=tokens, pooled_prompt_embeds=pooled)], [(4, 4)], time, [[]]
    )
    bias = torch.zeros(1, 1, 1, 4 + 5, dtype=torch.float64)
    bias[..., 4] = torch.tensor(7.0, dtype=torch.float64).log()
    group.key_bias = bias
    mine, true = dit.velocity(noisy, 0, [group])[0], dit.velocity(noisy, 0, whole)[0]
    assert error(mine, true) <= 1e-6


def test_the_order_of_context_tokens_means_nothing() -> None:
    dit, _ = twins()
    told = random_condition(9)
    shuffled = Condition(
        prompt_embeds=told.prompt_embeds[torch.randperm(9)],
        pooled_prompt_embeds=told.pooled_prompt_embeds,
    )
    noisy, time = latents((8, 8)), torch.tensor([300.0])
    first, second = dit(noisy, time, [told], [[]])[0], dit(noisy, time, [shuffled], [[]])[0]
    assert error(first, second) <= PARITY


def test_the_order_of_references_means_nothing_and_their_content_does() -> None:
    dit, _ = twins()
    noisy, time, told = latents((8, 8)), torch.tensor([300.0]), [random_condition(9)]
    one, two = latents((8, 12), (8, 12))
    first = dit(noisy, time, told, [[one, two]])[0]
    assert error(dit(noisy, time, told, [[two, one]])[0], first) <= PARITY
    assert error(dit(noisy, time, told, [[one, one]])[0], first) > 1e-3


def test_k_equal_references_are_one_with_a_key_bias_of_ln_k() -> None:
    # Only the joint attention takes a bias, so this holds for blocks that have no other.
    dit, _ = twins(dual_attention_layers=())
    noisy, time, told = latents((8, 8)), torch.tensor([300.0]), [random_condition(9)]
    (reference,) = latents((8, 4))
    (group,) = dit.prepare(told, [(8, 8)], time, [[reference]])
    group.key_bias = torch.zeros(1, 1, 1, 16 + 8 + 9)
    group.key_bias[..., 16:24] = torch.tensor(3.0).log()
    true = dit(noisy, time, told, [[reference] * 3])[0]
    assert error(dit.velocity(noisy, 0, [group])[0], true) <= PARITY


@pytest.mark.parametrize("part", ["add_q_proj.weight", "norm_added_q.weight"])
def test_the_last_blocks_context_queries_are_never_computed(part: str) -> None:
    dit, _ = twins()
    noisy, time = latents((8, 8)), torch.tensor([300.0])
    told = [random_condition(9)]
    before = dit(noisy, time, told, [[]])[0]
    dit.transformer_blocks[-1].attn.get_parameter(part).fill_(float("nan"))
    assert torch.equal(dit(noisy, time, told, [[]])[0], before)


def test_the_released_size_has_the_published_keys_and_parameters() -> None:
    with torch.device("meta"):
        dit = DiT(DiTConfig())
    assert len(dit.state_dict()) == 909
    assert sum(each.numel() for each in dit.parameters()) == 2_243_171_520
    assert dit.state_dict()["pos_embed.pos_embed"].shape == (1, 147_456, 1536)
    shapes = {name: tuple(value.shape) for name, value in dit.state_dict().items()}
    assert shapes["transformer_blocks.12.norm1.linear.weight"] == (13824, 1536)
    assert shapes["transformer_blocks.13.norm1.linear.weight"] == (9216, 1536)
    assert shapes["transformer_blocks.23.norm1_context.linear.weight"] == (3072, 1536)
    assert "transformer_blocks.23.attn.to_add_out.weight" not in shapes
    assert "transformer_blocks.13.attn2.to_q.weight" not in shapes


def test_gradients_reach_every_weight_that_is_used() -> None:
    dit, _ = twins()
    dit.requires_grad_(True)
    noisy, time = latents((8, 8), (8, 8)), torch.tensor([300.0, 20.0])
    told = [random_condition(9), random_condition(5)]
    velocity = dit(noisy, time, told, [latents((4, 4)), latents((4, 4))])
    torch.stack(velocity).square().mean().backward()
    unused = {name for name, value in dit.named_parameters() if value.grad is None}
    last = "transformer_blocks.2.attn"
    assert unused == {
        f"{last}.add_q_proj.weight",
        f"{last}.add_q_proj.bias",
        f"{last}.norm_added_q.weight",
    }


def test_sizes_without_positions_or_patches_are_refused() -> None:
    dit, _ = twins()
    time, told = torch.tensor([300.0]), [random_condition(9)]
    with pytest.raises(ValueError, match="64 x 64 patches, got 65 x 2"):
        dit(latents((130, 4)), time, told, [[]])
    with pytest.raises(ValueError, match="7 x 8 cannot be cut"):
        dit(latents((7, 8)), time, told, [[]])


def test_a_reference_that_cannot_be_cut_into_patches_is_refused() -> None:
    dit, _ = twins()
    with pytest.raises(ValueError, match="7 x 8 cannot be cut"):
        dit(latents((8, 8)), torch.tensor([300.0]), [random_condition(9)], [latents((7, 8))])


COMPILED = """
import json, sys, torch
from tests.dit.test_model import error, latents, random_condition, twins

def one_graph(backend):
    dit, _ = twins()
    noisy, time, told = latents((8, 8)), torch.tensor([300.0]), [random_condition(9)]
    references = [latents((4, 8))]
    before = dit(noisy, time, told, references)[0]
    dit.compile_blocks(backend=backend)
    return error(dit(noisy, time, told, references)[0], before)

def gradients(backend):
    dit, _ = twins(num_layers=2, dual_attention_layers=(0,))
    dit.requires_grad_(True)
    noisy, time, told = latents((8, 8)), torch.tensor([300.0]), [random_condition(9)]
    def found():
        dit.zero_grad()
        dit(noisy, time, told, [[]])[0].square().mean().backward()
        return [value.grad for value in dit.parameters() if value.grad is not None]
    before = found()
    dit.compile_each_block(backend=backend)
    pairs = zip(found(), before, strict=True)
    return max(error(mine, true) for mine, true in pairs if true.any())

def any_sizes(backend):
    dit, _ = twins(num_layers=2, dual_attention_layers=(0,))
    dit.requires_grad_(True)
    cases = []
    for sizes, lengths, count in [
        (((8, 8), (4, 8)), (5, 7), 0), (((4, 8), (4, 8)), (5, 7), 1),
        (((6, 8),), (12,), 2), (((6, 4), (6, 4), (4, 6)), (3, 3, 4), 1),
    ]:
        told = [random_condition(length) for length in lengths]
        references = [latents(*[(4, 4)] * count) for _ in sizes]
        times = torch.full((len(sizes),), 300.0)
        cases.append((latents(*sizes), times, told, references))
    def outputs():
        for number, case in enumerate(cases):
            with torch.set_grad_enabled(number % 3 != 2):
                yield from (each.detach() for each in dit(*case))
    before = list(outputs())
    dit.compile_each_block(backend=backend)
    return max(error(mine, true) for mine, true in zip(outputs(), before, strict=True))

errors = {}
for name, backend in json.loads(sys.argv[1]).items():
    torch._dynamo.reset()
    errors[name] = globals()[name](backend)
print(json.dumps(errors))
"""


def compiled(**backends: str) -> tuple[dict[str, float], str]:
    """Largest errors of compiled blocks, and what was printed on the way.

    In a process of its own, because the checks of shapes in this one are not part of the code.
    """
    run = subprocess.run(
        [sys.executable, "-c", COMPILED, json.dumps(backends)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout), run.stderr


@pytest.fixture(scope="module")
def compiled_without_inductor() -> tuple[dict[str, float], str]:
    return compiled(one_graph="eager", any_sizes="eager")


def test_torch_compile_takes_the_blocks_as_one_graph(
    compiled_without_inductor: tuple[dict[str, float], str],
) -> None:
    assert compiled_without_inductor[0]["one_graph"] <= PARITY


@pytest.mark.slow
def test_compiled_blocks_have_the_same_gradients() -> None:
    assert compiled(gradients="aot_eager")[0]["gradients"] <= GRADIENT_PARITY


@pytest.mark.slow
def test_blocks_compiled_by_inductor_have_the_same_gradients() -> None:
    try:
        check_compiler(torch.device("cpu"))
    except TrainingError as reason:
        pytest.skip(str(reason))
    assert compiled(gradients="inductor")[0]["gradients"] <= GRADIENT_PARITY


def test_compiled_blocks_take_whatever_sizes_a_run_brings(
    compiled_without_inductor: tuple[dict[str, float], str],
) -> None:
    errors, printed = compiled_without_inductor
    assert "recompile_limit" not in printed
    assert errors["any_sizes"] <= PARITY
