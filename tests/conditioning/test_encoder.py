from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deepgen.conditioning.encoder import CACHED_CONDITIONS, Conditioner, padding_counts
from deepgen.model import DeepGen
from deepgen.nn.lora import without_adapters
from deepgen.types import Condition, Prompt
from tests.conditioning.models import (
    TINY_LAST_BRIDGE,
    golden_conditioner,
    golden_json,
    golden_prompt,
    image,
    random_bridge,
    random_vlm,
    take_over,
    tiny_conditioner,
    tiny_tokenizer,
)
from tests.shared import error, golden
from tests.train.golden_model import adapted_model

TOLERANCE = 2e-5
PADDED = (
    "t2i_single",
    "t2i_single_unicode",
    "t2i_pair_empty",
    "t2i_pair_negative",
    "t2i_quad",
    "edit_1ref_pair",
    "edit_2ref_pair",
    "edit_ragged_batch",
)
UNPADDED = (
    "t2i_unpadded.p0",
    "t2i_unpadded.p1",
    "t2i_unpadded.empty",
    "t2i_unpadded.neg",
    "edit_unpadded.e0_1ref",
    "edit_unpadded.empty_1ref",
    "edit_unpadded.e1_2ref",
    "edit_unpadded.eneg_2ref",
)


@pytest.fixture(scope="module")
def reference_model() -> Conditioner:
    return golden_conditioner()


@pytest.fixture
def conditioner() -> Conditioner:
    return tiny_conditioner()


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.no_grad():
        yield


def texts(*all_texts: str) -> list[Prompt]:
    return [Prompt(text=text) for text in all_texts]


def golden_prompts(case: str) -> list[Prompt]:
    cases = golden_json("cases.json")["cond"]
    if case.startswith("t2i_unpadded."):
        return [golden_prompt(cases["t2i_unpadded"][case.split(".")[1]])]
    if case.startswith("t2i"):
        return [golden_prompt(text) for text in cases[case]]
    return [
        golden_prompt(text, references)
        for text, references in zip(cases[case]["prompts"], cases[case]["refs"], strict=True)
    ]


def golden_arrays(case: str) -> dict[str, np.ndarray]:
    if "_unpadded." not in case:
        return dict(np.load(golden(f"cond/{case}.npz")))
    file, name = case.split(".")
    arrays = np.load(golden(f"cond/{file}.npz"))
    return {
        key.removeprefix(f"{name}."): value
        for key, value in arrays.items()
        if key.startswith(f"{name}.")
    }


def encode_golden(model: Conditioner, case: str) -> list[Condition]:
    prompts = golden_prompts(case)
    if len(prompts) == 1:
        return model.encode(prompts, [], "none", guided=False)[0]
    half = len(prompts) // 2
    positive, negative = model.encode(prompts[:half], prompts[half:], "batch", guided=True)
    assert negative is not None
    return positive + negative


@contextmanager
def recorded(module: nn.Module) -> Iterator[list[tuple[object, Tensor]]]:
    """What a module was called with and what it answered."""
    calls: list[tuple[object, Tensor]] = []
    handle = module.register_forward_hook(lambda _, given, answer: calls.append((given, answer)))
    yield calls
    handle.remove()


@pytest.mark.parametrize("case", PADDED + UNPADDED)
def test_golden_conditions(reference_model, case):
    arrays = golden_arrays(case)
    conditions = encode_golden(reference_model, case)
    context = torch.stack([each.expanded() for each in conditions])
    pooled = torch.stack([each.pooled_prompt_embeds for each in conditions])
    assert error(context, arrays["seq_out"]) <= TOLERANCE
    assert error(pooled, arrays["pooled_out"]) <= TOLERANCE


@pytest.mark.parametrize("case", PADDED + UNPADDED)
def test_golden_tokens_and_positions(reference_model, case):
    arrays = golden_arrays(case)
    tokenize = reference_model.tokenize
    think = reference_model.bridge.config.num_queries
    for index, prompt in enumerate(golden_prompts(case)):
        row = tokenize(prompt)
        pads = arrays["input_ids"].shape[1] - len(row)
        ids = [tokenize.padding_id] * pads + list(row.token_ids)
        assert arrays["input_ids"][index].tolist() == ids
        mask = [0] * pads + [1] * (len(row) + think)
        assert arrays["attention_mask"][index].tolist() == mask
        if "context_attention_mask" in arrays:
            assert arrays["context_attention_mask"][index].tolist() == mask[:-think]
        positions = torch.from_numpy(arrays["position_ids"][:, index, pads:])
        assert torch.equal(row.position_ids(think), positions)


@pytest.mark.parametrize("case", PADDED + UNPADDED)
def test_golden_states_and_image_tokens(reference_model, case):
    arrays = golden_arrays(case)
    prompts = golden_prompts(case)
    rows = [reference_model.tokenize(prompt) for prompt in prompts]
    vlm, think = reference_model.vlm, reference_model.bridge.meta_queries
    images = [
        vlm.encode_references(prompt.references) if prompt.references else [] for prompt in prompts
    ]
    if "image_embeds" in arrays:
        found = torch.cat([features for row in images for features in row])
        assert error(found, arrays["image_embeds"]) <= TOLERANCE
        grids = [[1, 2 * span.rows, 2 * span.columns] for row in rows for span in row.images]
        assert arrays["image_grid_thw"].tolist() == grids
    if "selected_layers" in arrays:
        assert arrays["selected_layers"].tolist() == list(vlm.selected_layers)
    if "selected_hidden_states" not in arrays:
        return
    pad_feature = vlm.pad_feature(reference_model.tokenize.padding_id)
    total = arrays["selected_hidden_states"].shape[2]
    features = torch.stack(
        [
            torch.cat([pad_feature.expand(total - len(each), -1), each])
            for each in vlm(rows, images, think)
        ]
    )
    states = features.unflatten(-1, (6, -1)).permute(2, 0, 1, 3)
    assert error(states, arrays["selected_hidden_states"]) <= TOLERANCE
    if "merged" in arrays:
        assert error(features, arrays["merged"]) <= TOLERANCE


@pytest.mark.parametrize("case", PADDED + UNPADDED)
def test_golden_connector_outputs(reference_model, case):
    arrays = golden_arrays(case)
    if "connector_out" not in arrays:
        return
    reference_model.train().eval()  # clear_cache what other tests computed
    with recorded(reference_model.bridge.connector) as calls:
        conditions = encode_golden(reference_model, case)
    assert len(calls) == len(conditions)
    for (_, tokens), condition, whole in zip(
        calls, conditions, arrays["connector_out"], strict=True
    ):
        expected = whole[max(condition.padding - 1, 0) :]
        assert error(tokens[0], expected) <= TOLERANCE


@pytest.fixture(scope="module")
def adapted() -> DeepGen:
    return adapted_model().eval()


@pytest.mark.parametrize(
    ("name", "case", "state"),
    # The vision tower, which edits need, has no adapters beside its weights.
    [
        ("t2i", "t2i_pair_empty", "adapter"),
        ("t2i", "t2i_pair_empty", "base"),
        ("edit", "edit_1ref_pair", "base"),
    ],
)
def test_golden_adapters_beside_their_weights(adapted, name, case, state):
    arrays = np.load(golden("lora/equivalence.npz"))
    # What was encoded with the adapters in another state is not taken again.
    conditioner = adapted.conditioner.train().eval()
    with nullcontext() if state == "adapter" else without_adapters(conditioner):
        conditions = encode_golden(conditioner, case)
    context = torch.stack([each.expanded() for each in conditions])
    pooled = torch.stack([each.pooled_prompt_embeds for each in conditions])
    assert error(context, arrays[f"{name}.{state}.seq_out"]) <= TOLERANCE
    assert error(pooled, arrays[f"{name}.{state}.pooled_out"]) <= TOLERANCE


def test_golden_input_embeddings(reference_model):
    arrays = golden_arrays("t2i_single")
    reference_model.train().eval()
    layer = reference_model.vlm.language_model.layers[0]
    with recorded(layer) as calls:
        encode_golden(reference_model, "t2i_single")
    (((embeddings,), _),) = calls
    assert error(embeddings, arrays["inputs_embeds"]) <= TOLERANCE


def test_padding_counts_of_the_three_modes():
    lengths = [5, 9, 7, 3]
    assert padding_counts(lengths, 2, "none") == [0, 0, 0, 0]
    assert padding_counts(lengths, 2, "pair") == [2, 0, 0, 6]
    assert padding_counts(lengths, 2, "batch") == [4, 0, 2, 6]
    assert padding_counts(lengths, 4, "pair") == [0, 0, 0, 0]


def same(ours: list[Condition], others: list[Condition], tolerance: float = 1e-6) -> bool:
    return all(
        one.padding == other.padding
        and error(one.prompt_embeds, other.prompt_embeds) <= tolerance
        and error(one.pooled_prompt_embeds, other.pooled_prompt_embeds) <= tolerance
        for one, other in zip(ours, others, strict=True)
    )


def test_pair_and_batch_are_the_same_for_one_sample(conditioner):
    prompts = texts("a red cube"), texts("")
    pair, batch = (tiny_conditioner().encode(*prompts, mode, True) for mode in ("pair", "batch"))
    assert same(pair[0] + pair[1], batch[0] + batch[1])
    assert pair[1][0].padding == len("a red cube")


@pytest.mark.parametrize("mode", ["pair", "none"])
def test_conditions_do_not_depend_on_the_rest_of_the_batch(mode):
    positive, negative = texts("a red cube", "two cats on a very long sofa"), texts("", "dull")
    together = tiny_conditioner().encode(positive, negative, mode, True)
    alone = tiny_conditioner().encode(positive[:1], negative[:1], mode, True)
    assert same(together[0][:1] + together[1][:1], alone[0] + alone[1])


def test_in_batch_mode_they_do():
    positive, negative = texts("a red cube", "two cats on a very long sofa"), texts("", "dull")
    together = tiny_conditioner().encode(positive, negative, "batch", True)
    alone = tiny_conditioner().encode(positive[:1], negative[:1], "batch", True)
    assert not same(together[0][:1], alone[0])


@pytest.mark.parametrize("mode", ["pair", "none", "batch"])
def test_without_guidance_negative_rows_are_not_computed_but_set_the_padding(mode):
    prompts = texts("red"), texts("blurry and low quality")
    guided, _ = tiny_conditioner().encode(*prompts, mode, True)
    model = tiny_conditioner()
    with recorded(model.vlm) as calls:
        unguided, nothing = model.encode(*prompts, mode, False)
    (((rows, *_), _),) = calls
    assert len(rows) == 1
    assert nothing is None
    assert same(unguided, guided)


def test_equal_prompts_are_computed_once_in_a_call(conditioner):
    with recorded(conditioner.vlm) as read, recorded(conditioner.bridge) as bridged:
        positive, negative = conditioner.encode(
            texts("red", "red", "a cube"), texts("", "", ""), "pair", True
        )
    assert [len(rows) for (rows, *_), _ in read] == [1, 1, 1]
    # The empty prompt is padded in two ways.
    assert [len(rows) for (rows, *_), _ in bridged] == [1, 1, 1, 1]
    assert same(positive[:1], positive[1:2])
    assert [each.padding for each in negative] == [3, 3, 6]


def test_known_prompts_are_not_computed_again(conditioner):
    first = conditioner.encode(texts("red"), texts(""), "pair", True)
    with recorded(conditioner.vlm) as calls:
        second = conditioner.encode(texts("red"), texts(""), "pair", True)
        third, _ = conditioner.encode(texts("red", "blue"), texts("", ""), "pair", True)
    # Blue, and the empty prompt padded to its length.
    assert [len(rows) for (rows, *_), _ in calls] == [1, 1]
    assert same(first[0] + first[1], second[0] + second[1], tolerance=0)
    assert same(third[:1], first[0], tolerance=0)


def test_an_edited_image_is_a_new_prompt(conditioner):
    pixels = image(0)
    prompt = Prompt(text="redder", references=(pixels,))
    before, _ = conditioner.encode([prompt], [], "none", False)
    pixels[0, 3, 3] += 0.5
    after, _ = conditioner.encode([prompt], [], "none", False)
    assert not same(before, after, tolerance=1e-7)


@pytest.mark.parametrize("part", ["vlm.language_model.layers.0.mlp.up_proj", "bridge.projector_3"])
def test_a_changed_weight_makes_known_prompts_new(conditioner, part):
    before, _ = conditioner.encode(texts("red"), texts("dull one"), "pair", False)
    conditioner.get_submodule(part).weight.mul_(2)
    after, _ = conditioner.encode(texts("red"), texts("dull one"), "pair", False)
    assert not same(before, after, tolerance=1e-3)
    fresh = Conditioner(conditioner.vlm, conditioner.bridge, tiny_tokenizer())
    assert same(after, fresh.encode(texts("red"), texts("dull one"), "pair", False)[0])


def test_a_write_through_data_makes_known_prompts_new(conditioner):
    """EMA swaps and merged adapters write this way; it leaves no trace but the values."""
    before, _ = conditioner.encode(texts("red"), [], "none", False)
    conditioner.bridge.projector_3.weight.data[0, 0] += 1
    after, _ = conditioner.encode(texts("red"), [], "none", False)
    assert not same(before, after, tolerance=1e-3)


def test_weights_that_moved_away_and_back_keep_their_conditions(conditioner):
    """As under CPU offload, between two calls."""
    before, _ = conditioner.encode(texts("red"), [], "none", False)
    for weight in conditioner.parameters():
        weight.data = weight.data.clone()
    with recorded(conditioner.vlm) as calls:
        after, _ = conditioner.encode(texts("red"), [], "none", False)
    assert calls == []
    assert same(before, after, tolerance=0)


def test_conditions_of_autocast_are_not_those_without(conditioner):
    with torch.autocast("cpu", torch.bfloat16):
        conditioner.encode(texts("red"), [], "none", False)
    (exact,), _ = conditioner.encode(texts("red"), [], "none", False)
    assert exact.prompt_embeds.dtype == torch.float32
    assert same([exact], tiny_conditioner().encode(texts("red"), [], "none", False)[0])


def test_a_cast_model_gives_conditions_of_its_own_type(conditioner):
    conditioner.encode(texts("red"), texts("dull one"), "pair", True)
    (condition,), _ = conditioner.to(torch.bfloat16).encode(
        texts("red"), texts("dull one"), "pair", True
    )
    assert condition.prompt_embeds.dtype == torch.bfloat16
    assert conditioner.dtype == torch.bfloat16


def test_nothing_is_kept_where_gradients_are_wanted(conditioner):
    with torch.enable_grad():
        for _ in range(2):
            (condition,), _ = conditioner.encode(texts("red"), texts("dull one"), "pair", False)
            loss = condition.prompt_embeds.square().mean() + condition.pooled_prompt_embeds.sum()
            loss.backward()  # a second time through a kept graph would fail
    frozen = [name for name, weight in conditioner.named_parameters() if weight.grad is None]
    assert all(name.startswith("vlm.visual.") for name in frozen)


def test_only_the_last_few_conditions_are_kept(conditioner):
    many = [texts(f"number {index}") for index in range(CACHED_CONDITIONS + 1)]
    for prompts in many:
        conditioner.encode(prompts, [], "none", False)
    with recorded(conditioner.vlm) as calls:
        conditioner.encode(many[-1], [], "none", False)
        assert calls == []
        conditioner.encode(many[0], [], "none", False)
        assert len(calls) == 1


def test_an_image_goes_through_the_vision_tower_once(conditioner):
    first, second = image(0), image(1, 64, 64)
    positive = [
        Prompt(text="redder", references=(first,)),
        Prompt(text="put one into the other", references=(second, first.clone())),
    ]
    negative = [Prompt(text="dull", references=prompt.references) for prompt in positive]
    with recorded(conditioner.vlm.visual) as calls:
        conditioner.encode(positive, negative, "pair", True)
    assert [answer.pooler_output.shape[0] for _, answer in calls] == [2, 4]


def test_text_to_image_needs_no_vision_tower(conditioner):
    expected, _ = conditioner.encode(texts("red"), [], "none", False)
    conditioner.train().eval()
    conditioner.vlm.visual = None
    assert same(conditioner.encode(texts("red"), [], "none", False)[0], expected)


def test_the_last_layer_variant_conditions_too():
    model = tiny_conditioner(TINY_LAST_BRIDGE)
    positive, negative = model.encode(texts("a red cube"), texts(""), "pair", True)
    assert positive[0].prompt_embeds.shape == (len(model.tokenize(texts("a red cube")[0])) + 4, 28)
    assert negative[0].padding == len("a red cube")
    assert error(positive[0].pooled_prompt_embeds, negative[0].pooled_prompt_embeds) > 0.01


def test_conditions_computed_for_inference_serve_a_later_call_without(conditioner):
    with torch.inference_mode():
        before, _ = conditioner.encode(texts("red"), [], "none", False)
    assert same(conditioner.encode(texts("red"), [], "none", False)[0], before, tolerance=0)


def test_a_missing_negative_prompt_is_refused(conditioner):
    with pytest.raises(ValueError, match="got 2 and 1"):
        conditioner.encode(texts("a", "b"), texts(""), "pair", True)
    with pytest.raises(ValueError, match="got 1 and 0"):
        conditioner.encode(texts("a"), [], "pair", True)


def test_a_bridge_of_another_width_is_refused():
    wide = replace(TINY_LAST_BRIDGE, llm_hidden_size=64)
    with pytest.raises(ValueError, match="width 64, but those of the VLM have 32"):
        Conditioner(
            take_over(random_vlm(), TINY_LAST_BRIDGE), random_bridge(wide), tiny_tokenizer()
        )
