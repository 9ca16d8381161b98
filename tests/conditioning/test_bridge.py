import numpy as np
import pytest
import torch
from torch import Tensor

from deepgen.conditioning.bridge import Bridge
from deepgen.conditioning.connector import pool
from deepgen.config.model import BridgeConfig
from tests.conditioning.models import (
    TINY_BRIDGE,
    TINY_LAST_BRIDGE,
    golden_bridge,
    random_bridge,
)
from tests.shared import error, golden

TOLERANCE = 2e-5


def features(seed: int, tokens: int, config: BridgeConfig = TINY_BRIDGE) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tokens, config.input_size, generator=generator)


@pytest.mark.parametrize("scale", ["unit", "small"])
@torch.no_grad()
def test_golden_connector_layer_by_layer(scale):
    arrays = np.load(golden("connector/connector.npz"))
    bridge = golden_bridge()
    layers: list[Tensor] = []
    for layer in bridge.connector.layers:
        layer.register_forward_hook(lambda *call: layers.append(call[2]))
    tokens = bridge.connector(torch.from_numpy(arrays[f"{scale}.in"]))
    for index, layer in enumerate(layers):
        assert error(layer, arrays[f"{scale}.layer{index}"]) <= TOLERANCE
    assert error(tokens, arrays[f"{scale}.out"]) <= TOLERANCE
    assert error(bridge.projector_3(tokens), arrays[f"{scale}.seq_out"]) <= TOLERANCE
    pooled = bridge.projector_2(pool(tokens, None))
    assert error(pooled, arrays[f"{scale}.pooled_out"]) <= TOLERANCE


@torch.no_grad()
def test_golden_bridge_from_stacked_features():
    arrays = np.load(golden("connector/connector.npz"))
    bridge = golden_bridge()
    stacked = torch.from_numpy(arrays["merged.in"])
    assert error(bridge.projector_1(stacked), arrays["merged.projector_1_out"]) <= TOLERANCE
    (condition,) = bridge([stacked[0]], [0])
    assert error(condition.prompt_embeds, arrays["merged.seq_out"][0]) <= TOLERANCE
    assert error(condition.pooled_prompt_embeds, arrays["merged.pooled_out"][0]) <= TOLERANCE


@pytest.mark.parametrize("config", [TINY_BRIDGE, TINY_LAST_BRIDGE], ids=["stacked", "last"])
def test_a_fresh_bridge_says_nothing(config):
    bridge = Bridge(config)
    (condition,) = bridge([features(0, 9, config)], [0])
    assert not condition.prompt_embeds.any()
    assert not condition.pooled_prompt_embeds.any()


@torch.no_grad()
def test_a_fresh_bridge_starts_as_published():
    bridge = Bridge(BridgeConfig(intermediate_size=300, hidden_size=256, num_hidden_layers=1))
    assert float(bridge.meta_queries.std()) == pytest.approx(2048**-0.5, rel=0.02)
    layer = bridge.connector.layers[0]
    limit = (6 / (256 + 256)) ** 0.5
    for linear in (layer.self_attn.q_proj, layer.self_attn.out_proj):
        assert not linear.bias.any()
        assert float(linear.weight.abs().max()) == pytest.approx(limit, rel=0.01)
    assert float(layer.mlp.fc1.weight.abs().max()) == pytest.approx((6 / 556) ** 0.5, rel=0.01)
    assert float(layer.mlp.fc2.bias.std()) == pytest.approx(1e-6, rel=0.2)


def test_the_released_size_has_the_published_tensors():
    with torch.device("meta"):
        bridge = Bridge(BridgeConfig())
    state = bridge.state_dict()
    assert len(state) == 103
    assert sum(value.numel() for value in state.values()) == 432_449_532
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    assert shapes["meta_queries"] == (128, 2048)
    assert shapes["projector_1.weight"] == (2048, 12288)
    assert shapes["projector_3.bias"] == (4096,)
    for index in range(6):
        layer = f"connector.layers.{index}"
        assert shapes[f"{layer}.self_attn.out_proj.weight"] == (2048, 2048)
        assert shapes[f"{layer}.layer_norm2.bias"] == (2048,)
        assert shapes[f"{layer}.mlp.fc1.weight"] == (11946, 2048)
        assert shapes[f"{layer}.mlp.fc2.weight"] == (2048, 11946)


@torch.no_grad()
def test_permuting_tokens_permutes_the_context_and_leaves_the_pooled_vector():
    bridge, row = random_bridge(), features(0, 11)
    order = torch.randperm(11, generator=torch.Generator().manual_seed(0))
    (ours,), (permuted,) = bridge([row], [0]), bridge([row[order]], [0])
    assert error(permuted.prompt_embeds, ours.prompt_embeds[order]) <= 1e-6
    assert error(permuted.pooled_prompt_embeds, ours.pooled_prompt_embeds) <= 1e-6


@pytest.mark.parametrize("count", [1, 2, 300])
@torch.no_grad()
def test_one_counted_padding_token_equals_all_of_them_written_out(count):
    bridge, row, pad = random_bridge(), features(0, 11), features(1, 1)[0]
    (counted,) = bridge([row], [count], pad)
    bridge.double()
    (counted_exactly,) = bridge([row.double()], [count], pad.double())
    (written,) = bridge([torch.cat([pad.expand(count, -1), row]).double()], [0])
    assert counted.padding == count
    assert counted.prompt_embeds.shape[0] == 12
    for condition, bound in ((counted, 1e-6), (counted_exactly, 1e-13)):
        assert error(condition.expanded().double(), written.prompt_embeds) <= bound
        pooled = condition.pooled_prompt_embeds.double()
        assert error(pooled, written.pooled_prompt_embeds) <= bound


@torch.no_grad()
def test_rows_of_different_length_and_padding_get_what_they_get_alone():
    bridge, pad = random_bridge(), features(9, 1)[0]
    rows = [features(0, 11), features(1, 4), features(2, 7), features(3, 7)]
    padding = [0, 7, 4, 0]
    for index, together in enumerate(bridge(rows, padding, pad)):
        (alone,) = bridge([rows[index]], [padding[index]], pad)
        assert together.padding == alone.padding
        assert error(together.prompt_embeds, alone.prompt_embeds) <= 1e-6
        assert error(together.pooled_prompt_embeds, alone.pooled_prompt_embeds) <= 1e-6


@torch.no_grad()
def test_a_bfloat16_bridge_counts_padding_without_rounding_it():
    """A rounded ln n would be off by up to 1.6 % of the padding's weight, always to one side."""
    bridge, row, pad = random_bridge().to(torch.bfloat16), features(0, 11), features(1, 1)[0]
    (counted,) = bridge([row], [150], pad)
    (written,) = bridge([torch.cat([pad.expand(150, -1), row])], [0])
    assert counted.padding == 150
    assert counted.prompt_embeds.shape[0] == 12
    assert torch.equal(counted.prompt_embeds, written.prompt_embeds[149:])
    assert torch.equal(counted.pooled_prompt_embeds, written.pooled_prompt_embeds)


@torch.no_grad()
def test_under_autocast_a_float32_bridge_counts_padding_without_rounding_it():
    bridge, row, pad = random_bridge(), features(0, 11), features(1, 1)[0]
    with torch.autocast("cpu", torch.bfloat16):
        (counted,) = bridge([row], [150], pad)
        (written,) = bridge([torch.cat([pad.expand(150, -1), row])], [0])
    assert counted.padding == 150
    assert torch.equal(counted.prompt_embeds, written.prompt_embeds[149:])
    assert torch.equal(counted.pooled_prompt_embeds, written.pooled_prompt_embeds)


def test_padding_without_its_feature_is_refused():
    with pytest.raises(ValueError, match="feature of a padding token"):
        random_bridge()([features(0, 3)], [2])
