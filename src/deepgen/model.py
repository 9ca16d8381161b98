"""The whole model: conditioner, DiT and VAE. It holds parts and runs no loops."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from deepgen.conditioning.encoder import Conditioner
from deepgen.config.model import GenerationDefaults, ScheduleConfig
from deepgen.config.sizes import LATENT_SCALE
from deepgen.dit.model import DiT
from deepgen.vae import LatentCodec


class DeepGen(nn.Module):
    """DeepGen 1.0 (arXiv 2602.12205), of any size.

    Args:
        conditioner: Reads prompts and references.
        dit: Predicts velocities.
        vae: Turns latents into pixels and back.
        schedule: The noise levels the DiT was trained with.
        defaults: What a call uses where the user says nothing.
        provenance: Which training each component comes from, by its name in a model folder.
    """

    def __init__(
        self,
        conditioner: Conditioner,
        dit: DiT,
        vae: LatentCodec,
        schedule: ScheduleConfig,
        defaults: GenerationDefaults,
        provenance: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.conditioner = conditioner
        self.dit = dit
        self.vae = vae
        self.schedule = schedule
        self.defaults = defaults
        self.provenance = dict(provenance or {})

    @property
    def device(self) -> torch.device:
        """Where the DiT lives."""
        return self.dit.proj_out.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What the DiT computes in."""
        return self.dit.dtype

    def checkpoint_activations(self, checkpointing: bool = True) -> None:
        """Keep no activations inside DiT blocks, connector layers and VLM layers in training."""
        self.dit.checkpointing = checkpointing
        self.conditioner.bridge.connector.checkpointing = checkpointing
        self.conditioner.vlm.checkpointing = checkpointing

    def pack(self, packing: bool = True, *, attention_by_row: bool = False) -> None:
        """Have rows of different length computed end to end, or (False) filled up.

        Args:
            packing: In VLM and connector.
            attention_by_row: Also let each row of the DiT attend by itself instead of with a mask.
        """
        self.conditioner.vlm.packing = packing
        self.conditioner.bridge.packing = packing
        self.dit.attention_by_row = attention_by_row

    @property
    def max_side(self) -> int:
        """Longest side of an image in pixels that the DiT has positions for."""
        config = self.dit.config
        return LATENT_SCALE * config.patch_size * config.pos_embed_max_size
