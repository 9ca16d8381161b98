"""The diffusers-style model folder: how a released model is stored, and ours too.

Loading trusts nothing in the folder: see :mod:`deepgen.checkpoint.files` for what is opened at all,
:mod:`deepgen.checkpoint.headers` for which of its promises a file must keep, and
:mod:`deepgen.checkpoint.parts` for how a configuration becomes a module.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from deepgen.checkpoint.configs import (
    VAE_CLASS,
    VLM_CLASS,
    read_defaults,
    read_provenance,
    read_rope_precision,
    read_schedule,
    write_bridge,
    write_dit,
    write_index,
    write_schedule,
)
from deepgen.checkpoint.files import (
    CARD_NAME,
    INDEX_NAME,
    TEMPLATE_NAME,
    ModelFolder,
    check_variant,
)
from deepgen.checkpoint.gguf.headers import find_gguf
from deepgen.checkpoint.gguf.reading import gguf_tensors
from deepgen.checkpoint.parts import (
    bridge_part,
    dit_part,
    read_template,
    read_tokenizer,
    vae_part,
    vlm_part,
)
from deepgen.checkpoint.writing import atomic_folder, config_values, write_json, write_weights
from deepgen.conditioning.encoder import Conditioner
from deepgen.conditioning.prompts import PromptTokenizer
from deepgen.config.checks import check_choice
from deepgen.config.model import ROPE_PRECISIONS, RopePrecision
from deepgen.errors import CheckpointError
from deepgen.model import DeepGen
from deepgen.vae import LatentCodec

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_folder(
    path: Path,
    *,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str = "cpu",
    rope_precision: RopePrecision | None = None,
    variant: str | None = None,
    gguf: Sequence[Path] = (),
) -> DeepGen:
    """Load a model folder.

    The names and shapes of all tensors are checked before the first is read, and one error lists
    as many problems as can be found together.

    Args:
        dtype: To compute in; None and ``auto`` choose by device, see :func:`compute_dtype`.
        rope_precision: Of the rotary frequencies of the VLM; None uses the folder's setting.
        variant: Of the weight files, such as ``fp16``, where a component has it.
        gguf: GGUF files, or folders of them, with weights of the DiT and the VLM in place of the
            folder's own.

    Returns:
        The model in evaluation mode.

    Raises:
        CheckpointError: Something in the folder is missing, damaged, unsafe or does not fit.
        ValueError: The dtype is not supported.
    """
    device = torch.device(device)
    dtype = compute_dtype(dtype, device)
    if rope_precision is not None:
        check_choice("rope_precision", rope_precision, ROPE_PRECISIONS)
    plan = _Plan(path, rope_precision, variant=variant, gguf=gguf)
    problems = Problems(path)
    for part in (plan.dit, plan.vae, plan.bridge, plan.vlm):
        with problems.collect():
            part.load(dtype, device)
    problems.raise_if_any()
    return plan.assembled().eval()


def load_on_meta(path: Path, *, name: Path | None = None) -> DeepGen:
    """The model of a folder without its weights, on the meta device.

    Args:
        name: What messages call the folder, if it will be moved there.

    Raises:
        CheckpointError: Something in the folder is missing, damaged, unsafe or does not fit.
    """
    return _Plan(path, name=name).assembled()


def save_folder(
    model: DeepGen,
    path: Path,
    *,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
    card: Mapping[str, Any] | None = None,
    shard_bytes: int | None = None,
    variant: str | None = None,
) -> None:
    """Write a model folder; it appears complete or not at all.

    The card is a record of the training, for ``model_card.json``.

    diffusers loads its ``transformer/``, ``vae/`` and ``scheduler/``. Of the VLM only the part that
    conditions images is loaded, and so written: transformers, reading ``vlm/``, initializes the
    unused language head and (for the stacked bridge) last layer and final norm at random.

    Args:
        dtype: Of the stored weights; None keeps the model's.
        shard_bytes: Of a weight file at most; None is ``SHARD_BYTES``.
        variant: A word in the names of the weight files, such as ``fp16``.

    Raises:
        CheckpointError: ``path`` exists, or cannot be written.
    """
    if variant is not None:
        check_variant(variant)
    conditioner = model.conditioner
    vlm, bridge = conditioner.vlm, conditioner.bridge
    vision = vlm.require_vision().state_dict()
    language = vlm.language_model.state_dict()
    weights = {
        "transformer": model.dit.state_dict(),
        "vae": model.vae.autoencoder.state_dict(),
        "connector": bridge.state_dict(),
        "vlm": {
            # The names that transformers 4.56 wrote and every later version reads.
            **{f"model.{name}": value for name, value in language.items()},
            **{f"visual.{name}": value for name, value in vision.items()},
        },
    }
    configs = {
        "transformer/config.json": write_dit(model.dit.config),
        "vae/config.json": {
            "_class_name": VAE_CLASS,
            **config_values(model.vae.autoencoder.config),
        },
        "connector/config.json": write_bridge(bridge.config, vlm.rope_precision),
        "vlm/config.json": {
            **config_values(vlm.config),
            "architectures": [VLM_CLASS],
            "dtype": str(dtype or vlm.embedding.dtype).removeprefix("torch."),
        },
        "scheduler/scheduler_config.json": write_schedule(model.schedule),
        TEMPLATE_NAME: conditioner.tokenize.template.to_json(),
        INDEX_NAME: write_index(
            type(conditioner.tokenize.tokenizer).__name__, model.defaults, model.provenance
        ),
    }
    if card is not None:
        configs[CARD_NAME] = dict(card)
    with atomic_folder(path, overwrite=overwrite) as folder:
        for name, values in configs.items():
            write_json(folder / name, values)
        for component, tensors in weights.items():
            write_weights(
                folder / component,
                component,
                tensors,
                dtype,
                shard_bytes=shard_bytes,
                variant=variant,
            )
        conditioner.tokenize.tokenizer.save_pretrained(folder / "tokenizer")


def compute_dtype(dtype: torch.dtype | str | None, device: torch.device) -> torch.dtype:
    """The given dtype, or the most precise one that the device is fast in.

    Float32 on CPUs; bfloat16 elsewhere, as in training. GPUs without bfloat16 get float16, whose
    range the VLM's largest activations may exceed.

    Raises:
        ValueError: The dtype is not supported.
    """
    if isinstance(dtype, torch.dtype):
        dtype = str(dtype).removeprefix("torch.")
    if dtype in (None, "auto"):
        if device.type == "cpu":
            return torch.float32
        lacking = device.type == "cuda" and not torch.cuda.is_bf16_supported()
        return torch.float16 if lacking else torch.bfloat16
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"dtype must be auto or one of {', '.join(DTYPES)}, got {dtype!r}")
    return DTYPES[dtype]


class Problems:
    """The problems of a folder, collected so that one error can list all of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: list[str] = []

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Note an error of the block, and continue after it."""
        try:
            yield
        except CheckpointError as error:
            self.found.append(str(error))

    def raise_if_any(self) -> None:
        """Raise if anything was noted."""
        if self.found:
            raise CheckpointError(f"{self.path} cannot be loaded: {'; '.join(self.found)}")


class _Plan:
    """A model folder, with all checked that can be checked without reading weights.

    Raises:
        CheckpointError: Something in the folder is missing, damaged, unsafe or does not fit.
    """

    def __init__(
        self,
        path: Path,
        rope_precision: RopePrecision | None = None,
        *,
        name: Path | None = None,
        variant: str | None = None,
        gguf: Sequence[Path] = (),
    ) -> None:
        folder = ModelFolder(path, variant)
        problems = Problems(name or path)
        missing = folder.missing()
        if missing:
            problems.found.append(f"it lacks {', '.join(missing)}")
        problems.raise_if_any()
        if gguf:
            files = [file for each in gguf for file in find_gguf(each)]
            folder.replaced = gguf_tensors(files, folder.stored, folder.config)

        with problems.collect():
            index = folder.json(INDEX_NAME)
            self.defaults = read_defaults(index)
            self.provenance = read_provenance(index)
        with problems.collect():
            self.schedule = read_schedule(folder.config("scheduler"))
        with problems.collect():
            self.template = read_template(folder)
        with problems.collect():
            self.tokenizer = read_tokenizer(folder)
        with problems.collect():
            self.dit = dit_part(folder)
        with problems.collect():
            self.vae = vae_part(folder)
        with problems.collect():
            precision = rope_precision or read_rope_precision(folder.config("connector"))
            self.bridge = bridge_part(folder)
            self.vlm = vlm_part(folder, self.bridge.module.config, precision)
        problems.raise_if_any()

        problems.found += self._misfits()
        problems.raise_if_any()

    def assembled(self) -> DeepGen:
        """The model, with weights if the parts have been loaded."""
        return DeepGen(
            Conditioner(self.vlm.module, self.bridge.module, self.tokenizer, self.template),
            self.dit.module,
            LatentCodec(self.vae.module),
            self.schedule,
            self.defaults,
            self.provenance,
        )

    def _misfits(self) -> list[str]:
        """Components that do not fit each other."""
        bridge, dit = self.bridge.module.config, self.dit.module.config
        vlm = self.vlm.module
        pairs = {
            "states of the VLM and think tokens": (vlm.width, bridge.llm_hidden_size),
            "context tokens of connector and transformer": (
                bridge.joint_attention_dim,
                dit.joint_attention_dim,
            ),
            "pooled vectors of connector and transformer": (
                bridge.pooled_projection_dim,
                dit.pooled_projection_dim,
            ),
            "latents of vae and transformer": (
                self.vae.module.config.latent_channels,
                dit.in_channels,
            ),
        }
        found = [
            f"{what} differ in width: {one} and {other}"
            for what, (one, other) in pairs.items()
            if one != other
        ]
        rows = len(vlm.embedding)
        if len(self.tokenizer) > rows:
            found.append(
                f"the tokenizer has {len(self.tokenizer)} tokens, but the VLM has {rows} embeddings"
            )
        elif (largest := max(self.tokenizer.get_vocab().values(), default=0)) >= rows:
            found.append(
                f"the tokenizer has a token of number {largest}, but the VLM has {rows} embeddings"
            )
        try:
            PromptTokenizer(self.tokenizer, self.template)
        except ValueError as cause:
            found.append(str(cause))
        return found
