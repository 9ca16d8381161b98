"""The parts of a pipeline, under the names that diffusers' users know them by."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler

from deepgen.checkpoint.adapters import adapters_of
from deepgen.checkpoint.configs import read_schedule, write_schedule
from deepgen.checkpoint.folder import save_folder
from deepgen.conditioning.bridge import Bridge
from deepgen.conditioning.encoder import Conditioner
from deepgen.conditioning.prompts import PromptTemplate
from deepgen.conditioning.vlm import VisionLanguageModel
from deepgen.config.model import GenerationDefaults
from deepgen.dit.model import DiT
from deepgen.errors import CheckpointError
from deepgen.model import DeepGen
from deepgen.nn.quantizing import is_any_quantized
from deepgen.pipeline.keywords import check_keywords, parse_bytes
from deepgen.pipeline.turns import turn
from deepgen.vae import LatentCodec

PART_CLASSES: Mapping[str, type] = {
    "transformer": DiT,
    "vae": AutoencoderKL,
    "vlm": VisionLanguageModel,
    "connector": Bridge,
    "scheduler": FlowMatchEulerDiscreteScheduler,
    "tokenizer": object,
}


@dataclass(frozen=True, slots=True)
class _Settings:
    """What a model has besides its parts."""

    template: PromptTemplate
    compat: bool
    defaults: GenerationDefaults
    provenance: Mapping[str, str]
    model: weakref.ref[DeepGen]


# A model that is put together again from its parts keeps its settings; they go with the DiT.
_settings: weakref.WeakKeyDictionary[DiT, _Settings] = weakref.WeakKeyDictionary()


def parts_of(model: DeepGen) -> dict[str, Any]:
    """The parts of a model by name; the scheduler is made anew from the noise schedule."""
    tokenize = model.conditioner.tokenize
    _settings[model.dit] = _Settings(
        tokenize.template,
        tokenize.compat,
        model.defaults,
        model.provenance,
        weakref.ref(model),
    )
    return {
        "transformer": model.dit,
        "vae": model.vae.autoencoder,
        "vlm": model.conditioner.vlm,
        "connector": model.conditioner.bridge,
        "scheduler": FlowMatchEulerDiscreteScheduler.from_config(write_schedule(model.schedule)),
        "tokenizer": tokenize.tokenizer,
    }


def model_of(parts: Mapping[str, Any]) -> DeepGen:
    """The model of these parts: the one they were taken from, if they all come from one.

    Prompt template, default settings and provenance are those of the transformer's model.

    Raises:
        ValueError: A part is missing, of another class, or does not fit the others.
    """
    for name, expected in PART_CLASSES.items():
        part = parts.get(name)
        if part is None or not isinstance(part, expected):
            raise ValueError(
                f"{name} must be of class {expected.__name__}, got {type(part).__name__}; take the "
                "parts from pipe.components"
            )
    try:
        schedule = read_schedule(dict(parts["scheduler"].config))
    except CheckpointError as cause:
        raise ValueError(f"this scheduler cannot be used: {cause}") from None
    dit, known = parts["transformer"], _settings.get(parts["transformer"])
    model = known.model() if known else None
    if model is not None and model.schedule == schedule:
        own = parts_of(model)
        if all(own[name] is parts[name] for name in PART_CLASSES if name != "scheduler"):
            return model
    conditioner = Conditioner(
        parts["vlm"],
        parts["connector"],
        parts["tokenizer"],
        known.template if known else None,
        compat=known.compat if known else False,
    )
    if parts["vae"].config.latent_channels != dit.config.in_channels:
        raise ValueError(
            f"the transformer needs latents of {dit.config.in_channels} channels, but the vae has "
            f"{parts['vae'].config.latent_channels}"
        )
    return DeepGen(
        conditioner,
        dit,
        LatentCodec(parts["vae"]),
        schedule,
        known.defaults if known else GenerationDefaults(),
        known.provenance if known else None,
    ).eval()


class PartMethods:
    """Parts as attributes: replacing one gives this pipeline, and no other, a model with it."""

    model: DeepGen
    scheduler: FlowMatchEulerDiscreteScheduler
    vae: AutoencoderKL

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        safe_serialization: bool = True,
        variant: str | None = None,
        max_shard_size: int | str | None = None,
        *,
        overwrite: bool = False,
        **others: Any,
    ) -> None:
        """Write the model folder; it appears complete or not at all.

        Args:
            save_directory: The folder, which must not exist.
            safe_serialization: Always; False is refused.
            variant: A word in the names of the weight files, such as ``fp16``; nothing is cast.
            max_shard_size: Of a weight file: bytes, or a text such as ``5GB``.
            overwrite: Replace an existing model folder.
            others: As of other pipelines of diffusers; refused where they would have an effect.

        Raises:
            CheckpointError: The folder exists, or cannot be written.
            ValueError: An argument cannot be used, or the weights are quantized.
        """
        check_keywords("save_pretrained", {"safe_serialization": safe_serialization, **others})
        if is_any_quantized(self.model):
            raise ValueError("quantized weights are not saved; load the model without quantize")
        size = None if max_shard_size is None else parse_bytes("max_shard_size", max_shard_size)
        with turn(self.model):
            save_folder(
                self.model,
                Path(save_directory),
                overwrite=overwrite,
                shard_bytes=size,
                variant=variant,
            )

    @property
    def components(self) -> dict[str, Any]:
        """All parts by name; ``DeepGenPipeline(**pipe.components)`` is a pipeline of the same."""
        return {**parts_of(self.model), "scheduler": self.scheduler}

    def _replaced(self, name: str, part: Any) -> DeepGen:
        """The model with another part.

        Raises:
            ValueError: It does not fit, or adapters are loaded.
        """
        loaded = adapters_of(self.model).names
        if loaded:
            raise ValueError(f"adapters {loaded} are loaded; unload them before replacing {name}")
        return model_of({**self.components, name: part})

    def enable_vae_tiling(self) -> None:
        """Decode large images in tiles, which saves memory and changes them slightly."""
        self.vae.enable_tiling()

    def disable_vae_tiling(self) -> None:
        """Decode every image as a whole."""
        self.vae.disable_tiling()

    def enable_vae_slicing(self) -> None:
        """Decode one image at a time, which saves memory."""
        self.vae.enable_slicing()

    def disable_vae_slicing(self) -> None:
        """Decode images of one size together."""
        self.vae.disable_slicing()
