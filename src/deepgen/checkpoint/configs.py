"""The JSON files of a model folder as our configurations, and back; no torch in here.

Each ``read_`` function takes the values of one file and raises ``CheckpointError``, with the
file's name, if they cannot be used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from importlib.metadata import version
from typing import Any, TypeVar

from deepgen.checkpoint.files import listed
from deepgen.checkpoint.headers import HasShape
from deepgen.conditioning.vlm_layers import unused_keys
from deepgen.config.decoding import decode
from deepgen.config.model import (
    ROPE_PRECISIONS,
    BridgeConfig,
    DiTConfig,
    GenerationDefaults,
    RopePrecision,
    ScheduleConfig,
)
from deepgen.config.sizes import check_side
from deepgen.errors import CheckpointError, shown

T = TypeVar("T")

DIT_CLASS = "SD3Transformer2DModel"
VAE_CLASS = "AutoencoderKL"
VLM_CLASS = "Qwen2_5_VLForConditionalGeneration"
SCHEDULER_CLASS = "FlowMatchEulerDiscreteScheduler"

PIPELINE_CLASS = "DeepGenPipeline"

VLM_MODEL_TYPE = "qwen2_5_vl"

ACTIVATION = "gelu_pytorch_tanh"
"""The connector's activation, by transformers' name."""

RELEASED_HIDDEN_SIZE = 2048
RELEASED_SETTINGS = {
    "num_attention_heads": 32,
    "hidden_act": ACTIVATION,
    "layer_norm_eps": 1e-6,
}
"""Settings of a connector that are optional in the file if it has the released width."""

LAYER_COUNTS = ("num_hidden_layers", "num_layers", "depth", "layers_per_block")

MAX_LAYERS = 256
"""Layers of a stack, and entries of a list; the largest in use is 36."""

MAX_NUMBER = 1 << 24
"""Any number of a configuration; the largest in use is the base of rotary positions, a million."""

VAE_BLOCK_TENSORS = 4
"""Of a residual block: weights and biases of two convolutions."""

CONNECTOR_LAYER = re.compile(r"connector\.layers\.(\d+)\.")


def read_dit(values: Mapping[str, Any]) -> DiTConfig:
    """Sizes of the DiT, from ``transformer/config.json``."""
    where = "transformer/config.json"
    check_class(values, DIT_CLASS, where)
    if values.get("out_channels") is None and "in_channels" in values:
        values = {**values, "out_channels": values["in_channels"]}
    # What diffusers assumes for older files.
    values = {"dual_attention_layers": [], "qk_norm": None, **values}
    missing = {each.name for each in fields(DiTConfig)} - values.keys()
    if missing:
        raise CheckpointError(f"{where} lacks {listed(missing)}")
    return _read(DiTConfig, values, where)


def write_dit(config: DiTConfig) -> dict[str, Any]:
    """The inverse of :func:`read_dit`, as diffusers reads it too."""
    return {"_class_name": DIT_CLASS, **asdict(config)}


def read_bridge(values: Mapping[str, Any], stored: Mapping[str, HasShape]) -> BridgeConfig:
    """Sizes of the bridge, from ``connector/config.json`` and the shapes of its tensors.

    Shapes decide where they can. The number of heads, the activation and the epsilon must be in
    the file, except for the released width.
    """
    where = "connector/config.json"
    nested = values.get("connector", values)
    if not isinstance(nested, Mapping):
        raise CheckpointError(f"{where}: connector must be an object")
    think_tokens, llm_width = _matrix(stored, "meta_queries", may_be_empty=True)
    width, features = _matrix(stored, "projector_1.weight")
    count, rest = divmod(features, llm_width)
    if rest:
        raise CheckpointError(
            f"connector: projector_1 reads {features} channels, which are not a multiple of the "
            f"think tokens' {llm_width}"
        )
    stated = values.get("num_queries", think_tokens)
    if stated != think_tokens:
        raise CheckpointError(
            f"connector: the file has {think_tokens} think tokens, but {where} says {stated}"
        )
    settings = RELEASED_SETTINGS if width == RELEASED_HIDDEN_SIZE else {}
    settings = settings | {
        name: nested[name] for name in RELEASED_SETTINGS if nested.get(name) is not None
    }
    absent = RELEASED_SETTINGS.keys() - settings.keys()
    if absent:
        raise CheckpointError(
            f"{where} lacks {listed(absent)}, which a connector of width {width} needs"
        )
    if settings["hidden_act"] != ACTIVATION:
        raise CheckpointError(f"{where}: hidden_act must be {ACTIVATION}")
    layers = {match[1] for match in map(CONNECTOR_LAYER.match, stored) if match}
    config = {
        "kind": "last" if count == 1 else "stacked",
        "num_queries": think_tokens,
        "llm_hidden_size": llm_width,
        "num_selected_layers": count,
        "hidden_size": width,
        "intermediate_size": _matrix(stored, "connector.layers.0.mlp.fc1.weight")[0],
        "num_hidden_layers": len(layers),
        "num_attention_heads": settings["num_attention_heads"],
        "layer_norm_eps": settings["layer_norm_eps"],
        "pooled_projection_dim": _matrix(stored, "projector_2.weight")[0],
        "joint_attention_dim": _matrix(stored, "projector_3.weight")[0],
    }
    return _read(BridgeConfig, config, where)


def read_depth(values: Mapping[str, Any]) -> int:
    """Decoder layers of a VLM, from its ``config.json``.

    Raises:
        CheckpointError: It has none.
    """
    text = values.get("text_config")
    depth = (text if isinstance(text, Mapping) else values).get("num_hidden_layers")
    if type(depth) is not int or depth < 1:
        raise CheckpointError(f"vlm/config.json: num_hidden_layers cannot be {shown(depth)}")
    return depth


def read_unused(
    vlm: Mapping[str, Any], connector: Mapping[str, Any], stored: Mapping[str, HasShape]
) -> Callable[[str], bool]:
    """Which tensors of a VLM no image depends on, see :func:`unused_keys`.

    Args:
        vlm: Values of its ``config.json``.
        connector: Those of the bridge's.
        stored: The bridge's tensors.

    Raises:
        CheckpointError: One is damaged, or the two do not fit.
    """
    try:
        return unused_keys(read_depth(vlm), read_bridge(connector, stored))
    except ValueError as cause:
        raise CheckpointError(f"the bridge does not fit the VLM: {cause}") from cause


def read_bridge_sizes(values: Mapping[str, Any]) -> BridgeConfig:
    """Sizes of a bridge without tensors: those of ``connector/config.json``, or the released."""
    nested = values.get("connector", {})
    if not isinstance(nested, Mapping):
        raise CheckpointError("connector/config.json: connector must be an object")
    return _read(BridgeConfig, {**values, **nested}, "connector/config.json")


def read_rope_precision(values: Mapping[str, Any]) -> RopePrecision:
    """``rope_precision`` of ``connector/config.json``; by default ``bf16``."""
    found = values.get("rope_precision", "bf16")
    if found not in ROPE_PRECISIONS:
        raise CheckpointError(
            f"connector/config.json: rope_precision must be one of {', '.join(ROPE_PRECISIONS)}"
        )
    precision: RopePrecision = found
    return precision


def write_bridge(config: BridgeConfig, rope_precision: RopePrecision) -> dict[str, Any]:
    """The inverse of :func:`read_bridge` and :func:`read_rope_precision`."""
    nested = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    values = asdict(config)
    connector = {name: values.pop(name) for name in (*nested, "layer_norm_eps")}
    # Which states are read follows from the shape of projector_1.
    del values["kind"], values["num_selected_layers"]
    return {
        **values,
        "connector": {**connector, "hidden_act": ACTIVATION},
        "rope_precision": rope_precision,
    }


def read_schedule(values: Mapping[str, Any]) -> ScheduleConfig:
    """The noise schedule, from ``scheduler/scheduler_config.json``."""
    where = "scheduler/scheduler_config.json"
    check_class(values, SCHEDULER_CLASS, where)
    switches = (
        "use_karras_sigmas",
        "use_exponential_sigmas",
        "use_beta_sigmas",
        "invert_sigmas",
        "stochastic_sampling",
        "shift_terminal",
    )
    unsupported = [name for name in switches if values.get(name)]
    if values.get("time_shift_type", "exponential") != "exponential":
        unsupported.append("time_shift_type")
    if unsupported:
        raise CheckpointError(f"{where} asks for {listed(unsupported)}, which is not supported")
    # What diffusers assumes for a missing shift.
    config = _read(ScheduleConfig, {"shift": 1.0, **values}, where)
    if config.use_dynamic_shifting and config.base_image_seq_len == config.max_image_seq_len:
        raise CheckpointError(f"{where}: base_image_seq_len and max_image_seq_len are equal")
    return config


def write_schedule(config: ScheduleConfig) -> dict[str, Any]:
    """The inverse of :func:`read_schedule`, as diffusers reads it too."""
    return {"_class_name": SCHEDULER_CLASS, **asdict(config)}


def read_defaults(index: Mapping[str, Any]) -> GenerationDefaults:
    """Default settings of a call, from ``model_index.json``."""
    where = "model_index.json"
    values = index.get("defaults", {})
    if not isinstance(values, Mapping):
        raise CheckpointError(f"{where}: defaults must be an object")
    unknown = values.keys() - {each.name for each in fields(GenerationDefaults)}
    if unknown:
        raise CheckpointError(f"{where}: defaults has unknown entries {listed(unknown)}")
    defaults = _read(GenerationDefaults, values, f"{where}: defaults")
    try:
        check_side("height", defaults.height)
        check_side("width", defaults.width)
    except ValueError as cause:
        raise CheckpointError(f"{where}: defaults: {cause}") from cause
    return defaults


def read_provenance(index: Mapping[str, Any]) -> dict[str, str]:
    """The training that each component comes from, by its folder's name; may be empty."""
    values = index.get("provenance", {})
    if not isinstance(values, dict) or not all(isinstance(each, str) for each in values.values()):
        raise CheckpointError("model_index.json: provenance must map components to texts")
    return values


def write_index(
    tokenizer_class: str, defaults: GenerationDefaults, provenance: Mapping[str, str]
) -> dict[str, Any]:
    """``model_index.json``: the inverse of :func:`read_defaults` and :func:`read_provenance`."""
    return {
        "_class_name": PIPELINE_CLASS,
        "_diffusers_version": version("diffusers"),
        "transformer": ["diffusers", DIT_CLASS],
        "vae": ["diffusers", VAE_CLASS],
        "scheduler": ["diffusers", SCHEDULER_CLASS],
        "vlm": ["transformers", VLM_CLASS],
        "tokenizer": ["transformers", tokenizer_class],
        "connector": [None, None],
        "defaults": asdict(defaults),
        "provenance": dict(provenance),
    }


def check_class(values: Mapping[str, Any], expected: str, where: str) -> None:
    """Refuse the configuration of another class; a file without a class is accepted."""
    found = values.get("_class_name", expected)
    if found != expected:
        raise CheckpointError(f"{where} describes {shown(found)}, but {expected} is expected")


def check_depths(values: Mapping[str, Any], tensors: int, where: str) -> None:
    """Refuse more layers than there are stored tensors, and numbers and lists out of any range.

    A model is built before its tensors are compared with the file's; one of a billion layers
    would take forever.
    """
    remaining = [values]
    while remaining:
        for name, value in remaining.pop().items():
            if isinstance(value, Mapping):
                remaining.append(value)
            elif name in LAYER_COUNTS and (type(value) is not int or not 0 < value <= tensors):
                raise CheckpointError(
                    f"{where}: {name} is {shown(value)}, but there are only {tensors} tensors"
                )
            elif name in LAYER_COUNTS and value > MAX_LAYERS:
                raise CheckpointError(f"{where}: {name} is {value}, at most {MAX_LAYERS} is read")
            for each in value if isinstance(value, list) else [value]:
                if type(each) in (int, float) and not abs(each) <= MAX_NUMBER:
                    raise CheckpointError(
                        f"{where}: {name} is {each:.3g}, expected at most {MAX_NUMBER:,}"
                    )
            if isinstance(value, list) and len(value) > MAX_LAYERS:
                raise CheckpointError(
                    f"{where}: {name} has {len(value):,} entries, at most {MAX_LAYERS} are read"
                )


def check_vae_size(values: Mapping[str, Any], tensors: int, where: str) -> None:
    """Refuse an autoencoder with more blocks than its stored tensors can be the weights of."""
    widths, layers = values.get("block_out_channels", [64]), values.get("layers_per_block", 1)
    if not isinstance(widths, list) or type(layers) is not int:
        raise CheckpointError(f"{where}: block_out_channels must be a list of widths")
    # As many residual blocks down as up, and one more up; each has at least four tensors.
    blocks = len(widths) * (2 * layers + 1)
    if VAE_BLOCK_TENSORS * blocks > tensors:
        raise CheckpointError(
            f"{where} describes {blocks:,} residual blocks, but there are only {tensors} tensors"
        )


def _read(config: type[T], values: Mapping[str, Any], where: str) -> T:
    """The entries that a configuration has fields for; of exactly the declared JSON types."""
    names = [each.name for each in fields(config)]  # type: ignore[arg-type]
    known = {name: values[name] for name in names if name in values}
    try:
        return decode(config, known)
    except ValueError as cause:
        raise CheckpointError(f"{where}: {cause}") from cause


def _matrix(
    stored: Mapping[str, HasShape], name: str, *, may_be_empty: bool = False
) -> tuple[int, int]:
    """Rows and columns of a tensor of the connector; only ``may_be_empty`` allows zero rows."""
    if name not in stored:
        raise CheckpointError(f"connector lacks {name!r}")
    shape = stored[name].shape
    if len(shape) != 2 or 0 in shape[may_be_empty:]:
        raise CheckpointError(f"connector: {name!r} must be a matrix, has the shape {shape}")
    return shape[0], shape[1]
