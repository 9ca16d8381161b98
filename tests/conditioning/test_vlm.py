import pytest
import torch
from torch import Tensor

from deepgen.conditioning.prompts import PromptTokenizer, TokenRow
from deepgen.conditioning.vision import VisionTower, build_vision_tower
from deepgen.conditioning.vlm import VisionLanguageModel
from deepgen.conditioning.vlm_layers import module_key, selected_layers, unused_keys
from deepgen.config.model import BridgeConfig
from deepgen.types import Prompt
from tests.conditioning.models import (
    TINY_BRIDGE,
    TINY_LAST_BRIDGE,
    golden_bridge_config,
    golden_json,
    image,
    random_bridge,
    random_vlm,
    take_over,
    tiny_config,
    tiny_tokenizer,
)
from tests.released import VLM
from tests.shared import error

THINK = torch.randn(4, 32, generator=torch.Generator().manual_seed(3))
SELECTED_LAYERS = (5, 3, 1)


@pytest.fixture(scope="module")
def tokenize() -> PromptTokenizer:
    return PromptTokenizer(tiny_tokenizer())


@pytest.fixture(scope="module")
def stock():
    return random_vlm()


@pytest.fixture(scope="module")
def vlm(stock) -> VisionLanguageModel:
    return take_over(stock)


def read(vlm: VisionLanguageModel, *rows: TokenRow, think: Tensor = THINK) -> list[Tensor]:
    with torch.no_grad():
        return vlm(rows, [()] * len(rows), think)


def stock_states(stock, row: TokenRow, left_padding: int = 0, padding_id: int = 0) -> list[Tensor]:
    """All hidden states of the stock model, [tokens, channels] each."""
    ids = torch.tensor([[padding_id] * left_padding + list(row.token_ids)])
    with torch.no_grad():
        embeddings = torch.cat([stock.get_input_embeddings()(ids), THINK[None]], dim=1)
        mask = torch.ones(embeddings.shape[:2], dtype=torch.long)
        mask[:, :left_padding] = 0
        positions = torch.zeros(3, 1, mask.shape[1], dtype=torch.long)
        positions[:, 0, left_padding:] = row.position_ids(len(THINK))
        output = stock.model.language_model(
            inputs_embeds=embeddings,
            attention_mask=mask if left_padding else None,
            position_ids=positions,
            use_cache=False,
            output_hidden_states=True,
        )
    return [state[0] for state in output.hidden_states]


@pytest.mark.parametrize(
    ("layers", "count", "expected"),
    [(36, 6, (35, 29, 23, 17, 11, 5)), (12, 6, (11, 9, 7, 5, 3, 1)), (6, 3, (5, 3, 1))],
)
def test_selected_layers_are_evenly_spaced_and_deepest_first(layers, count, expected):
    assert selected_layers(layers, count) == expected


def test_a_depth_that_cannot_be_divided_is_refused():
    with pytest.raises(ValueError, match="35 layers"):
        selected_layers(35, 6)


def test_features_are_the_raw_states_of_the_stock_model_side_by_side(stock, vlm, tokenize):
    row = tokenize(Prompt(text="a red cube"))
    states = stock_states(stock, row)
    expected = torch.cat([states[layer] for layer in SELECTED_LAYERS], dim=-1)
    assert error(read(vlm, row)[0], expected) <= 1e-6


def test_one_layer_less_than_the_whole_is_run(stock, vlm):
    assert len(stock.model.language_model.layers) == 6
    assert len(vlm.language_model.layers) == 5


def test_the_stock_model_truncated_alike_normalises_its_last_tap(stock, vlm, tokenize):
    """Why the states are not taken from transformers' own capturing."""
    row = tokenize(Prompt(text="a red cube"))
    truncated = random_vlm()
    truncated.model.language_model.layers = truncated.model.language_model.layers[:5]
    state = stock_states(truncated, row)[5]
    assert error(state, stock_states(stock, row)[5]) > 0.01


def test_the_last_layer_variant_reads_the_normalised_last_state(stock, tokenize):
    row = tokenize(Prompt(text="a red cube"))
    vlm = take_over(stock, TINY_LAST_BRIDGE)
    assert error(read(vlm, row)[0], stock_states(stock, row)[6]) <= 1e-6


def test_prompt_features_do_not_depend_on_think_tokens(vlm, tokenize):
    row = tokenize(Prompt(text="a red cube"))
    ours, other = read(vlm, row)[0], read(vlm, row, think=-THINK)[0]
    assert error(ours[: len(row)], other[: len(row)]) <= 1e-6
    assert error(ours[len(row) :], other[len(row) :]) > 0.1


def test_think_tokens_see_the_prompt(vlm, tokenize):
    ours = read(vlm, tokenize(Prompt(text="a red cube")))[0][-len(THINK) :]
    other = read(vlm, tokenize(Prompt(text="a tin cube")))[0][-len(THINK) :]
    assert error(ours, other) > 0.01


def test_rows_of_different_length_get_what_they_get_alone(vlm, tokenize):
    rows = [tokenize(Prompt(text=text)) for text in ("", "a red cube on a wooden table", "two")]
    for row, features in zip(rows, read(vlm, *rows), strict=True):
        assert error(features, read(vlm, row)[0]) <= 1e-6


def test_left_padding_changes_no_real_token_and_gives_pads_their_closed_form(stock, vlm, tokenize):
    row = tokenize(Prompt(text="a red cube"))
    states = stock_states(stock, row, left_padding=7, padding_id=tokenize.padding_id)
    padded = torch.cat([states[layer] for layer in SELECTED_LAYERS], dim=-1)
    assert error(read(vlm, row)[0], padded[7:]) <= 1e-6
    with torch.no_grad():
        pad_feature = vlm.pad_feature(tokenize.padding_id)
    assert error(pad_feature.expand(7, -1), padded[:7]) <= 1e-6


def test_the_closed_form_of_pads_holds_for_the_last_layer_variant(stock, tokenize):
    row = tokenize(Prompt(text="a red cube"))
    states = stock_states(stock, row, left_padding=3, padding_id=tokenize.padding_id)
    with torch.no_grad():
        pad_feature = take_over(stock, TINY_LAST_BRIDGE).pad_feature(tokenize.padding_id)
    assert error(pad_feature.expand(3, -1), states[6][:3]) <= 1e-6


def test_eager_attention_over_padding_would_give_something_else(vlm, tokenize):
    eager = random_vlm()
    eager.set_attn_implementation("eager")
    row = tokenize(Prompt(text="a red cube"))
    states = stock_states(eager, row, left_padding=7, padding_id=tokenize.padding_id)
    padded = torch.cat([states[layer] for layer in SELECTED_LAYERS], dim=-1)
    assert error(read(vlm, row)[0], padded[7:]) <= 1e-6
    with torch.no_grad():
        pad_feature = vlm.pad_feature(tokenize.padding_id)
    assert error(pad_feature.expand(7, -1), padded[:7]) > 0.1


def test_image_features_take_the_places_of_the_image_tokens(stock, vlm, tokenize):
    prompt = Prompt(text="redder", references=(image(0, 64, 32), image(1, 32, 96)))
    row = tokenize(prompt)
    with torch.no_grad():
        images = vlm.encode_references(prompt.references)
        (ours,) = vlm([row], [images], THINK)
        ids = torch.tensor([row.token_ids])
        embeddings = stock.get_input_embeddings()(ids)
        embeddings[ids == tokenize.image_id] = torch.cat(images)
        output = stock.model.language_model(
            inputs_embeds=torch.cat([embeddings, THINK[None]], dim=1),
            position_ids=row.position_ids(len(THINK))[:, None],
            use_cache=False,
            output_hidden_states=True,
        )
    expected = torch.cat([output.hidden_states[layer][0] for layer in SELECTED_LAYERS], dim=-1)
    assert error(ours, expected) <= 1e-6


def test_positions_are_those_of_the_stock_model(stock, tokenize):
    references = (image(0, 64, 32), image(1, 32, 96), image(2, 128, 128))
    row = tokenize(Prompt(text="redder", references=references))
    ids = torch.tensor([row.token_ids])
    stock.config.image_token_id = tokenize.image_id
    grids = torch.tensor([[1, each.rows * 2, each.columns * 2] for each in row.images])
    positions, _ = stock.model.get_rope_index(
        ids, mm_token_type_ids=(ids == tokenize.image_id).int(), image_grid_thw=grids
    )
    assert torch.equal(row.position_ids(), positions[:, 0])


def test_frequencies_are_rounded_as_casting_the_stock_model_rounds_them(stock):
    positions = torch.arange(500).expand(3, 1, -1)
    states = torch.zeros(1, 500, 32)
    fp32 = take_over(stock).language_model.rotary_emb(states, positions)
    bf16 = take_over(stock, rope_precision="bf16").language_model.rotary_emb(states, positions)
    stock_rotary = random_vlm().model.language_model.rotary_emb
    assert all(map(torch.equal, fp32, stock_rotary(states, positions)))
    assert all(map(torch.equal, bf16, stock_rotary.to(torch.bfloat16)(states, positions)))
    assert error(bf16[0], fp32[0]) > 0.01


def test_the_rotary_precision_changes_features(stock, tokenize):
    row = tokenize(Prompt(text="a red cube on a wooden table"))
    fp32, bf16 = (
        read(take_over(stock, rope_precision=precision), row)[0] for precision in ("fp32", "bf16")
    )
    assert 1e-6 < error(bf16, fp32) < 0.1


def test_casting_the_model_leaves_its_frequencies_alone(stock, tokenize):
    row = tokenize(Prompt(text="a red cube"))
    vlm = take_over(stock)
    for weight in vlm.parameters():
        weight.data = weight.data.bfloat16().float()
    before = read(vlm, row)[0]
    assert torch.equal(read(vlm.to(torch.bfloat16).to(torch.float32), row)[0], before)


def test_a_model_built_on_the_meta_device_works_once_it_has_weights(stock, vlm, tokenize):
    with torch.device("meta"):
        empty = VisionLanguageModel(stock.config, TINY_BRIDGE, rope_precision="fp32")
    empty.load_state_dict(vlm.state_dict(), assign=True)
    row = tokenize(Prompt(text="a red cube"))
    assert torch.equal(read(empty, row)[0], read(vlm, row)[0])
    assert not list(empty.buffers())


@pytest.mark.parametrize("bridge", [TINY_BRIDGE, TINY_LAST_BRIDGE], ids=["stacked", "last"])
@pytest.mark.parametrize("layout", ["5.x", "saved by 4.56"])
def test_every_stored_tensor_is_either_dead_or_has_its_place(stock, bridge, layout):
    is_unused = unused_keys(6, bridge)
    stored = list(stock.state_dict())
    if layout == "saved by 4.56":
        stored = [
            key.replace("language_model.", "").replace("model.visual", "visual") for key in stored
        ]
    live = {module_key(key) for key in stored if not is_unused(key)}
    assert live == set(take_over(stock, bridge).state_dict())


def test_what_is_dead_has_no_influence(stock, vlm, tokenize):
    row = tokenize(Prompt(text="a red cube"))
    damaged = random_vlm()
    is_unused = unused_keys(6, TINY_BRIDGE)
    with torch.no_grad():
        for name, weight in damaged.named_parameters():
            if is_unused(name):
                weight.fill_(float("nan"))
    expected = torch.cat([stock_states(stock, row)[layer] for layer in SELECTED_LAYERS], dim=-1)
    found = torch.cat([stock_states(damaged, row)[layer] for layer in SELECTED_LAYERS], dim=-1)
    assert torch.equal(found, expected)


def test_a_stored_configuration_is_read_and_left_alone():
    values = golden_json("model/vlm/config.json")
    with torch.device("meta"):
        vlm = VisionLanguageModel(values, golden_bridge_config())
    assert values == golden_json("model/vlm/config.json")
    assert vlm.config.text_config.num_hidden_layers == 36
    assert len(vlm.language_model.layers) == 35
    assert vlm.selected_layers == (35, 29, 23, 17, 11, 5)


def test_think_tokens_learn_through_a_frozen_model(vlm, tokenize):
    think = THINK.clone().requires_grad_()
    vlm.requires_grad_(False)
    features = vlm([tokenize(Prompt(text="a red cube"))], [()], think)[0]
    features.square().mean().backward()
    vlm.requires_grad_(True)
    assert think.grad is not None
    assert (think.grad.abs().sum(dim=1) > 0).all()


def test_gradients_reach_every_weight_of_the_language_model(stock, tokenize):
    vlm = take_over(stock)
    (features,) = vlm([tokenize(Prompt(text="a red cube"))], [()], THINK)
    (features.square().mean() + vlm.pad_feature(tokenize.padding_id).mean()).backward()
    without = [
        name for name, weight in vlm.language_model.named_parameters() if weight.grad is None
    ]
    assert without == []


def test_the_vision_tower_is_loaded_at_the_first_reference(stock, vlm):
    late = VisionLanguageModel(stock.config, TINY_BRIDGE, rope_precision="fp32", with_vision=False)
    calls = []

    def load() -> VisionTower:
        calls.append(None)
        with torch.device("meta"):
            tower = build_vision_tower(late.config)
        tower.load_state_dict(stock.model.visual.state_dict(), assign=True)
        return tower

    late.load_vision = load
    ours = [late.encode_references([image(0)])[0] for _ in range(2)]
    assert len(calls) == 1
    assert torch.equal(ours[0], vlm.encode_references([image(0)])[0])


def test_a_late_vision_tower_follows_the_model(stock):
    late = VisionLanguageModel(stock.config, TINY_BRIDGE, with_vision=False).to(torch.bfloat16)
    late.load_vision = lambda: build_vision_tower(late.config)
    assert late.encode_references([image(0)])[0].dtype == torch.bfloat16


def test_the_released_size_has_the_published_parameters():
    with torch.device("meta"):
        vlm = VisionLanguageModel(VLM, BridgeConfig())
    counts = {
        name: sum(weight.numel() for weight in part.parameters())
        for name, part in vlm.named_children()
    }
    # The embedding and 35 of 36 layers; the last one and the final norm are not there.
    assert counts["language_model"] == 311_164_928 + 2_697_694_720
    assert counts["visual"] == 668_684_288


def test_a_model_without_vision_says_so():
    vlm = VisionLanguageModel(tiny_config(), TINY_BRIDGE, with_vision=False)
    with pytest.raises(RuntimeError, match="without its vision tower"):
        vlm.encode_references([image(0)])


def test_swapping_two_taps_changes_the_condition(vlm, tokenize):
    (features,) = read(vlm, tokenize(Prompt(text="a red cube")))
    swapped = torch.cat([features[:, 32:64], features[:, :32], features[:, 64:]], dim=1)
    bridge = random_bridge()
    with torch.no_grad():
        (ours,), (other,) = bridge([features], [0]), bridge([swapped], [0])
    assert error(other.pooled_prompt_embeds, ours.pooled_prompt_embeds) > 0.01
