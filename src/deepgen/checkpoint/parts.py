"""Each component of a model folder as a module without weights, and its stored tensors.

Modules are built on the meta device, from values parsed here and always of the same few classes,
whatever class or code a configuration names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Generic, TypeVar

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionTransformerPretrainedModel as VisionTower,
)

from deepgen.checkpoint.configs import (
    VAE_CLASS,
    VLM_MODEL_TYPE,
    check_class,
    check_depths,
    check_vae_size,
    read_bridge,
    read_dit,
)
from deepgen.checkpoint.files import TEMPLATE_NAME, ModelFolder, listed
from deepgen.checkpoint.headers import StoredTensor
from deepgen.checkpoint.tokenizer_files import check_tokenizer
from deepgen.checkpoint.weights import Stored, check_tensors, fill, read_tensors, shapes
from deepgen.conditioning.bridge import Bridge
from deepgen.conditioning.prompts import PromptTemplate
from deepgen.conditioning.vision import build_vision_tower
from deepgen.conditioning.vlm import VisionLanguageModel
from deepgen.conditioning.vlm_layers import module_key, unused_keys
from deepgen.config.model import BridgeConfig, DiTConfig, RopePrecision
from deepgen.dit.model import DiT
from deepgen.dit.patchify import sinusoidal_table
from deepgen.errors import CheckpointError

M = TypeVar("M", bound=nn.Module)
T = TypeVar("T")

POSITIONS = "pos_embed.pos_embed"
"""The DiT's table of positions, which is optional in a file."""

SMALL_TABLE = 1 << 24
"""Values of a table of positions that any model may have."""

VISION_PREFIX = "visual."


@dataclass(frozen=True, slots=True)
class Part(Generic[M]):
    """A component whose tensors are checked by name and shape, but not read yet."""

    component: str
    module: M
    """On the meta device."""
    tensors: Stored

    def load(self, dtype: torch.dtype, device: torch.device) -> M:
        """Give the module its weights, and return it."""
        fill(self.module, self._read(dtype, device))
        return self.module

    def _read(self, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
        return dict(read_tensors(self.component, self.tensors, dtype=dtype, device=device))


@dataclass(frozen=True, slots=True)
class DiTPart(Part[DiT]):
    """The DiT; positions are computed if the file lacks them."""

    def _read(self, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
        tensors = Part._read(self, dtype, device)
        if POSITIONS not in tensors:
            config = self.module.config
            table = sinusoidal_table(
                config.width, config.pos_embed_max_size, config.sample_size // config.patch_size
            )
            tensors[POSITIONS] = table[None].to(device, dtype)
        return tensors


@dataclass(frozen=True, slots=True)
class VLMPart(Part[VisionLanguageModel]):
    """The language model; its vision tower is read once, at the first reference.

    Text-to-image does not need the tower, a tenth of the released model's bytes. Names and shapes
    of its tensors are checked on loading, and that they are finite on reading, which is the first
    thing an edit does.
    """

    vision: Stored

    def load(self, dtype: torch.dtype, device: torch.device) -> VisionLanguageModel:
        """Give the language model its weights, set its ``load_vision``, and return it."""
        self.module.load_vision = cache(
            partial(_load_vision, self.module.config, self.vision, dtype, device)
        )
        return Part.load(self, dtype, device)


def dit_part(folder: ModelFolder) -> DiTPart:
    """The DiT of a folder."""
    stored = folder.stored("transformer")
    values = folder.config("transformer")
    check_depths(values, len(stored), "transformer/config.json")
    config = read_dit(values)
    if POSITIONS not in stored:
        _check_positions(config, stored)
    module = _build("transformer/config.json", lambda: DiT(config))
    check_tensors("transformer", shapes(module), stored, optional=frozenset({POSITIONS}))
    return DiTPart("transformer", module, stored)


def _check_positions(config: DiTConfig, stored: Stored) -> None:
    """Refuse a table of positions, to be computed, that is larger than all weights together."""
    table = config.pos_embed_max_size**2 * config.width
    weights = sum(each.size for each in stored.values())
    if table > max(weights, SMALL_TABLE):
        raise CheckpointError(
            f"transformer/config.json: pos_embed_max_size {config.pos_embed_max_size} takes a "
            f"table of {table:,} values, but all weights together have {weights:,}"
        )


def vae_part(folder: ModelFolder) -> Part[AutoencoderKL]:
    """The autoencoder of a folder."""
    stored = folder.stored("vae")
    values = folder.config("vae")
    check_class(values, VAE_CLASS, "vae/config.json")
    check_depths(values, len(stored), "vae/config.json")
    check_vae_size(values, len(stored), "vae/config.json")
    for name, unset in (("scaling_factor", 1.0), ("shift_factor", 0.0)):
        number = values.get(name, unset)
        if number is None and name == "shift_factor":
            continue
        if type(number) not in (int, float) or not math.isfinite(number) or number == 0 != unset:
            raise CheckpointError(f"vae/config.json: {name} cannot be {number!r}")
    module = _build("vae/config.json", lambda: AutoencoderKL.from_config(values))
    check_tensors("vae", shapes(module), stored)
    return Part("vae", module, stored)


def bridge_part(folder: ModelFolder) -> Part[Bridge]:
    """Think tokens, projectors and connector of a folder."""
    stored = folder.stored("connector")
    config = read_bridge(folder.config("connector"), stored)
    module = _build("connector/config.json", lambda: Bridge(config))
    check_tensors("connector", shapes(module), stored)
    return Part("connector", module, stored)


def vlm_part(folder: ModelFolder, bridge: BridgeConfig, rope_precision: RopePrecision) -> VLMPart:
    """The VLM of a folder, without the parts that this bridge never reads.

    Unused tensors (the language head, and for the stacked bridge the last layer and the final
    norm) are optional, but must have the right shapes.
    """
    where = "vlm/config.json"
    stored = folder.stored("vlm")
    values = folder.config("vlm")
    if values.get("model_type") != VLM_MODEL_TYPE:
        raise CheckpointError(
            f"{where} describes {values.get('model_type')!r}, but {VLM_MODEL_TYPE} is expected"
        )
    check_depths(values, len(stored), where)
    named = _by_module_key(stored)
    _check_width(values, named, where)
    module = _build(
        where,
        lambda: VisionLanguageModel(
            values, bridge, rope_precision=rope_precision, with_vision=False
        ),
    )
    tower = _build(where, lambda: build_vision_tower(module.config))
    live = shapes(module) | shapes(tower, VISION_PREFIX)
    depth = module.config.text_config.num_hidden_layers
    dead = _unused_shapes(live, depth, unused_keys(depth, bridge))
    check_tensors("vlm", live | dead, named, optional=frozenset(dead))
    read = {key: tensor for key, tensor in named.items() if key not in dead}
    return VLMPart(
        "vlm",
        module,
        {key: value for key, value in read.items() if not key.startswith(VISION_PREFIX)},
        {
            key.removeprefix(VISION_PREFIX): value
            for key, value in read.items()
            if key.startswith(VISION_PREFIX)
        },
    )


def read_tokenizer(folder: ModelFolder) -> Any:
    """The tokenizer of a folder: Qwen2's, or any other that is complete in ``tokenizer.json``.

    ``auto_map`` and other class names are ignored.
    """
    name = folder.config("tokenizer").get("tokenizer_class")
    check_tokenizer(folder)
    qwen = name in ("Qwen2Tokenizer", "Qwen2TokenizerFast")
    tokenizer_class = Qwen2Tokenizer if qwen else PreTrainedTokenizerFast
    try:
        return tokenizer_class.from_pretrained(folder.path / "tokenizer", local_files_only=True)
    except Exception as cause:
        # The tokenizers library raises plain Exceptions for damaged files.
        raise CheckpointError(f"tokenizer/ cannot be read: {one_line(cause)}") from cause


def read_template(folder: ModelFolder) -> PromptTemplate:
    """The prompt template of a folder."""
    try:
        return PromptTemplate.from_json(folder.json(TEMPLATE_NAME))
    except ValueError as cause:
        raise CheckpointError(f"{TEMPLATE_NAME}: {cause}") from cause


def one_line(error: Exception) -> str:
    """The first line of an error's message, or its class if there is none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _build(where: str, make: Callable[[], T]) -> T:
    """Build a module on the meta device from an untrusted configuration."""
    try:
        with torch.device("meta"):
            return make()
    except Exception as cause:
        # Constructors of three libraries raise all kinds of errors.
        raise CheckpointError(f"{where} cannot be used: {one_line(cause)}") from cause


def _check_width(values: Mapping[str, Any], named: Stored, where: str) -> None:
    """Refuse a width other than the stored embedding's, before anything is built from it."""
    text = values.get("text_config")
    width = (text if isinstance(text, Mapping) else values).get("hidden_size")
    embedding = named.get("language_model.embed_tokens.weight")
    if embedding is not None and width is not None and embedding.shape[1:] != (width,):
        raise CheckpointError(
            f"{where}: hidden_size is {width!r}, but the embedding has the shape {embedding.shape}"
        )


def _by_module_key(stored: Stored) -> dict[str, StoredTensor]:
    """Tensors of the VLM under the module's names, for files of any version of transformers."""
    named: dict[str, StoredTensor] = {}
    twice = []
    for name, tensor in stored.items():
        key = module_key(name)
        if key in named:
            twice.append(name)
        named[key] = tensor
    if twice:
        raise CheckpointError(f"vlm has tensors under two names each: {listed(twice)}")
    return named


def _unused_shapes(
    live: Mapping[str, tuple[int, ...]], depth: int, is_unused: Callable[[str], bool]
) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors that a whole Qwen2.5-VL has in addition to the used ones."""
    text = "language_model."
    embedding = live[f"{text}embed_tokens.weight"]
    first = f"{text}layers.0."
    whole = {"lm_head.weight": embedding, f"{text}norm.weight": embedding[1:]}
    for key, shape in live.items():
        if key.startswith(first):
            for layer in range(depth):
                whole[f"{text}layers.{layer}.{key.removeprefix(first)}"] = shape
    return {key: shape for key, shape in whole.items() if is_unused(key)}


def _load_vision(
    config: Any, stored: Stored, dtype: torch.dtype, device: torch.device
) -> VisionTower:
    """The vision tower with its weights.

    Outside of inference mode, which the first edit may run in: tensors made in it can never be
    used in training.
    """
    with torch.inference_mode(False):
        tower = _build("vlm/config.json", lambda: build_vision_tower(config))
        fill(tower, dict(read_tensors("vlm", stored, dtype=dtype, device=device)))
        tower.eval()
        return tower
