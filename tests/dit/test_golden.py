"""The DiT against the recorded numbers of the public implementation."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from deepgen.dit.model import timestep_sinusoid
from deepgen.types import Latents
from tests.dit.models import conditions, golden_dit
from tests.shared import error, golden

TOLERANCE = 2e-5

Arrays = dict[str, Tensor]


def arrays(name: str) -> Arrays:
    return {
        key: torch.from_numpy(value) for key, value in np.load(golden(f"dit/{name}.npz")).items()
    }


def velocity(
    recorded: Arrays,
    latents: Sequence[Latents],
    timesteps: Tensor,
    references: Sequence[Sequence[Latents]] | None = None,
) -> list[Latents]:
    context = recorded["encoder_hidden_states"][: len(latents)]
    told = conditions(context, recorded["pooled"][: len(latents)])
    return golden_dit()(latents, timesteps, told, references or [[] for _ in latents])


def test_text_to_image_velocities_at_five_timesteps() -> None:
    recorded = arrays("t2i")
    for index, timestep in enumerate(recorded["timesteps"]):
        mine = velocity(recorded, list(recorded["latents"]), timestep.expand(2))
        assert error(torch.stack(mine), recorded[f"velocity_{index}"]) <= TOLERANCE


def test_rows_of_a_batch_may_have_timesteps_of_their_own() -> None:
    recorded = arrays("t2i")
    mine = velocity(recorded, list(recorded["latents"]), recorded["timestep_mixed"])
    assert error(torch.stack(mine), recorded["velocity_mixed"]) <= TOLERANCE


def test_every_stage_between_latents_and_velocity() -> None:
    recorded, dit = arrays("t2i"), golden_dit()
    tokens = dit.pos_embed(recorded["latents"])
    assert error(tokens, recorded["mixed.tokens_in"]) <= TOLERANCE
    context = dit.context_embedder(recorded["encoder_hidden_states"])
    assert error(context, recorded["mixed.context_embedded"]) <= TOLERANCE
    embeddings = dit.time_text_embed
    time = embeddings.timestep_embedder(timestep_sinusoid(recorded["timestep_mixed"]))
    temb = time + embeddings.text_embedder(recorded["pooled"])
    assert error(temb, recorded["mixed.temb"]) <= TOLERANCE
    activated = torch.nn.functional.silu(temb)
    for index, block in enumerate(dit.transformer_blocks):
        modulations = [
            layer(activated).transpose(0, 1).unsqueeze(2)
            for layer in (block.norm1, block.norm1_context)
        ]
        tokens, context = block(tokens, context, *modulations, tokens.shape[1], None)
        assert error(tokens, recorded[f"mixed.block{index}.hidden_states"]) <= TOLERANCE
        if not block.is_last:
            name = f"mixed.block{index}.encoder_hidden_states"
            assert error(context, recorded[name]) <= TOLERANCE


def test_one_reference() -> None:
    recorded = arrays("ref1")
    latents = [recorded["latents"][0]]
    mine = velocity(recorded, latents, recorded["timestep"], [[recorded["ref0"]]])
    assert error(mine[0], recorded["velocity"][0]) <= TOLERANCE
    alone = velocity(recorded, latents, recorded["timestep"])
    assert error(alone[0], recorded["velocity_without_ref"][0]) <= TOLERANCE


def test_two_references_of_different_sizes_in_either_order() -> None:
    recorded = arrays("ref2")
    latents, time = [recorded["latents"][0]], recorded["timestep"]
    first, second = recorded["ref0"], recorded["ref1"]
    for references, name in (
        ([first, second], "velocity"),
        ([second, first], "velocity_swapped_refs"),
        ([first], "velocity_only_ref0"),
    ):
        (mine,) = velocity(recorded, latents, time, [references])
        assert error(mine, recorded[name][0]) <= TOLERANCE


@pytest.mark.parametrize("with_references", [True, False])
def test_a_batch_of_mixed_sizes_and_references(with_references: bool) -> None:
    recorded = arrays("ragged_list")
    latents = [recorded[f"sample{index}.latents"] for index in range(3)]
    references: list[list[Tensor]] = [
        [recorded["sample0.ref0"]],
        [],
        [recorded["sample2.ref0"], recorded["sample2.ref1"]],
    ]
    mine = velocity(
        recorded, latents, recorded["timestep"], references if with_references else None
    )
    name = "velocity" if with_references else "velocity_without_refs"
    for index, each in enumerate(mine):
        assert error(each, recorded[f"sample{index}.{name}"]) <= TOLERANCE
