"""The model that stage 1 starts from: a Qwen2.5-VL and an SD3.5, with a new bridge between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from deepgen.checkpoint.bases import Bases, copy_files, has_weights
from deepgen.checkpoint.configs import (
    read_bridge,
    read_bridge_sizes,
    read_dit,
    read_rope_precision,
    write_bridge,
)
from deepgen.checkpoint.conversion import copy_rest
from deepgen.checkpoint.files import WEIGHT_STEMS, read_json, stored_weights
from deepgen.checkpoint.folder import load_on_meta
from deepgen.checkpoint.vlm_merging import EMBEDDING, vlm_weights
from deepgen.checkpoint.writing import atomic_folder, write_json, write_weights
from deepgen.conditioning.bridge import Bridge
from deepgen.config.model import BridgeConfig, RopePrecision
from deepgen.errors import CheckpointError


def untrained_folder(
    source: Path, target: Path, *, bases: Sequence[Path], overwrite: bool = False, seed: int = 0
) -> BridgeConfig:
    """Make an untrained DeepGen of a Qwen2.5-VL folder and an SD3.5-type folder.

    The bridge is initialized as in training (the condition is zero for every prompt), in float32.
    Its sizes are the released ones, or those of a base's ``connector/``; its ends fit the two.

    Args:
        source: The Qwen2.5-VL, as transformers saves it.
        target: The model folder; it appears complete or not at all.
        bases: One of them has ``transformer/``, ``vae/`` and ``scheduler/``.
        overwrite: Replace an existing model folder.
        seed: Of the bridge's weights.

    Raises:
        CheckpointError: A part is missing, or does not fit.
    """
    found = Bases([source, *bases])
    origins = {component: found.require(component) for component in ("transformer", "vae", "vlm")}
    config, precision = _bridge_config(found, origins)
    with atomic_folder(target, overwrite=overwrite) as folder:
        for component, place in origins.items():
            copy_files(place, folder / component, component)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            bridge = Bridge(config)
        write_json(folder / "connector" / "config.json", write_bridge(config, precision))
        write_weights(folder / "connector", "connector", bridge.state_dict(), None)
        copy_rest(found, folder, origins, {})
        load_on_meta(folder, name=target)
    return config


def _bridge_config(bases: Bases, origins: Mapping[str, Path]) -> tuple[BridgeConfig, RopePrecision]:
    """Sizes of the bridge between the VLM and the DiT, and the precision of its frequencies."""
    dit = read_dit(read_json(origins["transformer"] / "config.json", "transformer/config.json"))
    embedding = vlm_weights(origins["vlm"]).get(EMBEDDING)
    if embedding is None or len(embedding.shape) != 2:
        raise CheckpointError("the VLM has no embedding of tokens")
    own = bases.find("connector")
    given, values = BridgeConfig(), {}
    if own is not None:
        values = read_json(own / "config.json", "connector/config.json")
        given = (
            read_bridge(values, stored_weights(own, WEIGHT_STEMS["connector"]))
            if has_weights(own, WEIGHT_STEMS["connector"])
            else read_bridge_sizes(values)
        )
    config = replace(
        given,
        llm_hidden_size=embedding.shape[-1],
        pooled_projection_dim=dit.pooled_projection_dim,
        joint_attention_dim=dit.joint_attention_dim,
    )
    return config, read_rope_precision(values)
