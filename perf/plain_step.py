"""A training step as published, written with the libraries' models.

Sequences are padded on the left to the longest prompt, and padding is computed like any token. All
layers of the VLM and its final norm run with autograd through whole sequences, all with adapters.
Only the weights are those of our model, under the libraries' names.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from diffusers import SD3Transformer2DModel
from diffusers.models.attention_processor import JointAttnProcessor2_0
from torch import Tensor, nn
from transformers import SiglipVisionConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLTextModel
from transformers.models.siglip.modeling_siglip import SiglipEncoder

from deepgen.config.train import LoraConfig
from deepgen.model import DeepGen
from deepgen.nn.lora import add_lora
from deepgen.train.optim import AdamW
from deepgen.train.sample_rng import Purpose, SampleKey, SampleRng

BETAS = (0.9, 0.95)
WEIGHT_DECAY = 0.05
MAX_GRAD_NORM = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainBatch:
    """A batch: prompts, and images or latents of one size."""

    token_ids: Sequence[Sequence[int]]
    pixels: Tensor | None
    """Encoded in every step; None where latents are given."""
    latents: Tensor
    keys: Sequence[SampleKey]
    rng: SampleRng
    sigmas: Tensor
    """The noise levels of training."""


class PlainStep:
    """The published training step.

    Args:
        model: Ours, made ready for a stage; its parameters are used, not copied.
        layers: Of the whole VLM.
        lora: Adapters of the VLM; None where it is frozen.
        masks: Give every attention of the DiT a mask of all tokens with all, as the published
            training does even where nothing is hidden.
    """

    def __init__(
        self, model: DeepGen, layers: int, lora: LoraConfig | None, *, masks: bool = False
    ) -> None:
        vlm, bridge = model.conditioner.vlm, model.conditioner.bridge
        self.text = _text_model(vlm.language_model, layers, lora)
        self.selected_layers = list(range(layers - 1, -1, -(layers // 6)))
        self.bridge = bridge
        config = bridge.config
        sizes = SiglipVisionConfig(
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_hidden_layers,
            num_attention_heads=config.num_attention_heads,
            layer_norm_eps=config.layer_norm_eps,
            hidden_act="gelu_pytorch_tanh",
        )
        sizes._attn_implementation = "sdpa"
        with torch.device("meta"):
            self.connector = SiglipEncoder(sizes)
            self.transformer = SD3Transformer2DModel(**asdict(model.dit.config))
        for mine, other in (
            (self.connector, bridge.connector),
            (self.transformer, model.dit),
        ):
            _lend(mine, other.state_dict(keep_vars=True))
        if masks:
            self.transformer.set_attn_processor(MaskedJointAttention())
        self.vae = model.vae.autoencoder
        self.padding_id = model.conditioner.tokenize.padding_id
        trained = [value for value in model.parameters() if value.requires_grad]
        self.trained = trained
        groups: list[dict[str, Any]] = [
            {"params": [value for value in trained if value.ndim >= 2]},
            {"params": [value for value in trained if value.ndim < 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, betas=BETAS, weight_decay=WEIGHT_DECAY)

    def share_moments(self, optimizer: AdamW) -> None:
        """Use the other side's moments; there is not enough memory for two."""
        self.optimizer.state = optimizer._adamw.state

    def step(self, batch: PlainBatch) -> tuple[float, float]:
        """Make a step; returns loss and gradient norm."""
        loss = self.loss(batch)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.trained, MAX_GRAD_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item(), norm.item()

    def loss(self, batch: PlainBatch) -> Tensor:
        """Mean squared error of the velocity."""
        latents = batch.latents if batch.pixels is None else self._encode(batch.pixels, batch)
        noise = self._normal(batch, Purpose.NOISE, latents)
        shares = [batch.rng.uniform(key, Purpose.LEVEL) for key in batch.keys]
        sigmas = batch.sigmas[(torch.tensor(shares) * len(batch.sigmas)).long()]
        level = sigmas[:, None, None, None]
        features = self._read(batch.token_ids)
        tokens = self.connector(self.bridge.projector_1(features)).last_hidden_state
        (predicted,) = self.transformer(
            (1 - level) * latents + level * noise,
            encoder_hidden_states=self.bridge.projector_3(tokens),
            pooled_projections=self.bridge.projector_2(tokens.mean(dim=1)),
            timestep=1000 * sigmas,
            return_dict=False,
        )
        errors = (predicted - (noise - latents)).square()
        return cast(Tensor, errors.flatten(1).mean(dim=1).mean())

    def _read(self, token_ids: Sequence[Sequence[int]]) -> Tensor:
        """Selected hidden states of padded sequences, concatenated along the channels."""
        think = self.bridge.meta_queries
        longest = max(map(len, token_ids))
        ids = torch.full((len(token_ids), longest), self.padding_id)
        mask = torch.zeros(len(token_ids), longest + len(think), dtype=torch.long)
        for row, mask_row, own in zip(ids, mask, token_ids, strict=True):
            row[longest - len(own) :] = torch.tensor(own)
            mask_row[longest - len(own) :] = 1
        embeddings = torch.cat(
            [self.text.embed_tokens(ids), think.expand(len(token_ids), -1, -1)], dim=1
        )
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        states = self.text(
            inputs_embeds=embeddings,
            attention_mask=mask,
            position_ids=positions.expand(3, -1, -1),
            output_hidden_states=True,
            use_cache=False,
        ).hidden_states
        return torch.cat([states[layer] for layer in self.selected_layers], dim=-1)

    @torch.no_grad()
    def _encode(self, pixels: Tensor, batch: PlainBatch) -> Tensor:
        """Latents of images, one after the other."""
        posteriors = [self.vae.encode(each[None]).latent_dist for each in pixels]
        mean = torch.cat([each.mean for each in posteriors])
        std = torch.cat([each.std for each in posteriors])
        drawn = mean + std * self._normal(batch, Purpose.TARGET_POSTERIOR, mean)
        config = self.vae.config
        return cast(Tensor, (drawn - config.shift_factor) * config.scaling_factor)

    def _normal(self, batch: PlainBatch, purpose: Purpose, like: Tensor) -> Tensor:
        return torch.stack([batch.rng.normal(v, purpose, like.shape[1:]) for v in batch.keys])


class MaskedJointAttention(JointAttnProcessor2_0):  # type: ignore[misc]  # Has no types.
    """diffusers' joint attention with a boolean mask that masks nothing."""

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """Attend."""
        stock = nn.functional.scaled_dot_product_attention

        def masked(query: Tensor, key: Tensor, value: Tensor, **given: Any) -> Tensor:
            rows = torch.ones(len(query), query.shape[2], dtype=torch.bool)
            columns = torch.ones(len(query), key.shape[2], dtype=torch.bool)
            mask = rows[:, None, :, None] & columns[:, None, None, :]
            return stock(query, key, value, attn_mask=mask, **given)

        nn.functional.scaled_dot_product_attention = masked  # type: ignore[assignment]
        try:
            return super().__call__(*inputs, **options)
        finally:
            nn.functional.scaled_dot_product_attention = stock


def _text_model(ours: Any, layers: int, lora: LoraConfig | None) -> Any:
    """transformers' language model with our weights.

    Ours has neither the last layer nor the norm, since no image depends on them. The layer before
    lends its weights.
    """
    config = copy.deepcopy(ours.config)
    config.num_hidden_layers = layers
    config.layer_types = ["full_attention"] * layers
    config._attn_implementation = "sdpa"
    with torch.device("meta"):
        text = Qwen2_5_VLTextModel(config)
        if lora is not None:
            add_lora(text, lora, seed=0)
    text.rotary_emb = type(text.rotary_emb)(config)
    known = ours.state_dict(keep_vars=True)
    last = f"layers.{layers - 1}."
    weights = {
        name: torch.ones(config.hidden_size)
        if name == "norm.weight"
        else known[name.replace(last, f"layers.{layers - 2}.")]
        for name in text.state_dict()
    }
    _lend(text, weights)
    return text


def _lend(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Share another module's weights, trained or frozen as they are there."""
    trained = {name: value.requires_grad for name, value in weights.items()}
    # This sets requires_grad as the module's own parameters have it.
    module.load_state_dict(weights, assign=True)
    for name, value in module.named_parameters():
        value.requires_grad_(trained[name])
    module.train()
