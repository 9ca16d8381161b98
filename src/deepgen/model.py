"""The whole model: conditioner, DiT and VAE (DeepGen, arXiv 2602.12205, section 3)."""

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
    """DeepGen 1.0 of any size; it holds the parts and runs no loops.

    Args:
        conditioner: From prompts and references to conditions.
        dit: Predicts velocities.
        vae: Between latents and pixels.
        schedule: The noise levels the DiT was trained with.
        defaults: Settings of a call that the user does not give.
        provenance: The training that each component comes from, by its name in a model folder.
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
        """The DiT's device."""
        return self.dit.proj_out.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What the DiT computes in."""
        return self.dit.dtype

    def checkpoint_activations(self, checkpointing: bool = True) -> None:
        """Recompute activations of DiT, connector and VLM layers in the backward pass."""
        self.dit.checkpointing = checkpointing
        self.conditioner.bridge.connector.checkpointing = checkpointing
        self.conditioner.vlm.checkpointing = checkpointing

    def pack(self, packing: bool = True, *, attention_by_row: bool = False) -> None:
        """Pack rows of different length end to end, or pad them.

        Args:
            packing: Of rows in VLM and connector.
            attention_by_row: Attend row by row in the DiT, instead of with a mask.
        """
        self.conditioner.vlm.packing = packing
        self.conditioner.bridge.packing = packing
        self.dit.attention_by_row = attention_by_row

    @property
    def max_side(self) -> int:
        """Longest side of an image in pixels that the DiT has positions for."""
        config = self.dit.config
        return LATENT_SCALE * config.patch_size * config.pos_embed_max_size
