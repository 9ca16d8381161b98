"""The language model of Qwen2.5-VL as an encoder: the hidden states of several layers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface, DynamicCache, Qwen2_5_VLConfig
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionTransformerPretrainedModel as VisionTower,
)
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLTextModel as TextModel

from deepgen.conditioning.prompts import TokenRow
from deepgen.conditioning.vision import VisionRotary, build_vision_tower, encode_references
from deepgen.conditioning.vlm_layers import selected_layers, used_layers
from deepgen.config.model import BridgeConfig, RopePrecision
from deepgen.devices import send
from deepgen.nn.checkpointing import run_layer
from deepgen.nn.linear import use_onednn_linear
from deepgen.nn.rows import pad_sequences
from deepgen.types import Pixels

PACKED_ATTENTION = "deepgen_packed_sdpa"
"""Name of :func:`attend_packed` among transformers' attentions."""


class TextRotary(nn.Module):
    """Rotary embedding over time, height and width, in the precision a model was trained with.

    The public implementation casts the model to bfloat16 as a whole, which rounds the frequencies
    to 8 bits (``bf16``); angles, cosines and sines are float32 all the same. Frequencies are kept
    outside the module's buffers: those change with every ``.to(dtype)``, and stay empty on the
    meta device.
    """

    def __init__(self, config: Any, precision: RopePrecision) -> None:
        super().__init__()
        rope = config.rope_parameters
        if rope["rope_type"] != "default":
            raise ValueError(f"rope_type must be default, got {rope['rope_type']!r}")
        head_dim = config.hidden_size // config.num_attention_heads
        exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device="cpu") / head_dim
        frequencies = 1 / rope["rope_theta"] ** exponents
        self.frequencies = frequencies.bfloat16().float() if precision == "bf16" else frequencies
        # Each frequency turns with one axis: the first section with time, and so on.
        if sum(rope["mrope_section"]) != len(frequencies) or min(rope["mrope_section"]) < 0:
            raise ValueError(
                f"mrope_section must share {len(frequencies)} frequencies, got "
                f"{rope['mrope_section']}"
            )
        sections = torch.tensor(rope["mrope_section"], device="cpu")
        self.axes = torch.arange(3, device="cpu").repeat_interleave(sections)

    def forward(
        self,
        hidden_states: Float[Tensor, "batch tokens channels"],
        position_ids: Int[Tensor, "3 batch tokens"],
    ) -> tuple[Float[Tensor, "batch tokens head_dim"], Float[Tensor, "batch tokens head_dim"]]:
        """Cosines and sines of the angles of each token, in the dtype of the states."""
        device, dtype = hidden_states.device, hidden_states.dtype
        positions = position_ids.float()[send(self.axes, device)].movedim(0, -1)
        angles = positions * send(self.frequencies, device)
        angles = torch.cat([angles, angles], dim=-1)
        return angles.cos().to(dtype), angles.sin().to(dtype)


class VisionLanguageModel(nn.Module):
    """The part of Qwen2.5-VL that conditions images.

    Built from transformers' modules and with their names of weights (``language_model.*``,
    ``visual.*``), without the parts that no image depends on: the language head, and for the
    stacked bridge the last decoder layer and the final norm. Built on torch's current default
    device, the meta device included.

    Args:
        config: Configuration of the whole Qwen2.5-VL, as stored.
        bridge: What reads the states.
        rope_precision: ``bf16`` as DeepGen was trained, or ``fp32``; see :class:`TextRotary`.
        with_vision: Build the vision tower; without it, it must be attached before an edit.
    """

    def __init__(
        self,
        config: Qwen2_5_VLConfig | Mapping[str, Any],
        bridge: BridgeConfig,
        *,
        rope_precision: RopePrecision = "bf16",
        with_vision: bool = True,
    ) -> None:
        super().__init__()
        if isinstance(config, Mapping):
            config = Qwen2_5_VLConfig.from_dict(copy.deepcopy(dict(config)))
        self.config = config
        self.rope_precision = rope_precision
        self.detach_prompts = True
        """Run prompts without autograd if none of these weights is trained: gradients are equal."""
        self.checkpointing = False
        """Recompute layers in the backward pass instead of keeping their activations."""
        self.packing = True
        """Pack rows of different length end to end, instead of padding the shorter ones."""
        self.load_vision: Callable[[], VisionTower] | None = None
        """Loads the vision tower, at the first reference."""
        depth = config.text_config.num_hidden_layers
        stacked = bridge.kind == "stacked"
        self.selected_layers = selected_layers(depth, bridge.num_selected_layers) if stacked else ()
        """States the bridge stacks; empty where it reads the normalised last one instead."""

        text = copy.deepcopy(config.text_config)
        text.num_hidden_layers = used_layers(depth, bridge.kind, bridge.num_selected_layers)
        text.layer_types = text.layer_types[: text.num_hidden_layers]
        # This is SDPA; without a mask, for causal attention, it may use its causal kernels.
        AttentionInterface.register(PACKED_ATTENTION, attend_packed)
        text._attn_implementation = PACKED_ATTENTION
        self.language_model = TextModel(text)
        use_onednn_linear(self.language_model)
        self.language_model.rotary_emb = TextRotary(text, rope_precision)
        if stacked:
            self.language_model.norm = nn.Identity()
        self.visual: VisionTower | None = None
        if with_vision:
            self.attach_vision(build_vision_tower(config))

    @property
    def width(self) -> int:
        """Channels of one hidden state."""
        return int(self.language_model.config.hidden_size)

    @property
    def embedding(self) -> Float[Tensor, "vocabulary channels"]:
        """Weights of the token embedding; their device and dtype are those of the model."""
        weight: Tensor = self.language_model.embed_tokens.weight
        return weight

    def attach_vision(self, tower: VisionTower) -> None:
        """Add the vision tower, with its rotary embedding in this model's precision."""
        vision: Any = tower.config
        tower.rotary_pos_emb = VisionRotary(
            vision.hidden_size // vision.num_heads, self.rope_precision
        )
        self.visual = tower

    def require_vision(self) -> VisionTower:
        """The vision tower, which is loaded on first use.

        Raises:
            RuntimeError: The model was built without a tower and without ``load_vision``.
        """
        if self.visual is None:
            if self.load_vision is None:
                raise RuntimeError("this model was built without its vision tower; attach it first")
            tower = self.load_vision()
            # First attached, then moved: the stock rotary embedding has buffers that no file fills,
            # which could not leave the meta device.
            self.attach_vision(tower)
            tower.to(self.embedding.device, self.embedding.dtype)
        assert self.visual is not None
        return self.visual

    def encode_references(self, references: Sequence[Pixels]) -> list[Float[Tensor, "_ channels"]]:
        """Image features of each reference, one per image token, in the width of the embeddings."""
        return encode_references(self.require_vision(), references)

    def forward(
        self,
        rows: Sequence[TokenRow],
        image_features: Sequence[Sequence[Float[Tensor, "_ channels"]]],
        think_tokens: Float[Tensor, "think channels"],
    ) -> list[Float[Tensor, "_ features"]]:
        """Features of prompts and the think tokens after them, by causal attention.

        One forward pass, or two with :attr:`detach_prompts`. Rows of different length are packed
        end to end, each attending only to itself, or without :attr:`packing` padded on the right,
        which causal attention ignores. Either way a row gets the features it would get alone.

        Args:
            rows: Prompts.
            image_features: Image tokens of each row's references, in order.
            think_tokens: Learned embeddings, appended to each prompt.

        Returns:
            Per row, features of prompt and think tokens: the selected hidden states concatenated
            along the channels, deepest first, or the normalised last state.
        """
        think = think_tokens.to(self.embedding.dtype)
        prompts = [
            self._embed(row, features) for row, features in zip(rows, image_features, strict=True)
        ]
        device = self.embedding.device
        positions = [send(row.position_ids(len(think)), device) for row in rows]
        if self.detach_prompts and torch.is_grad_enabled() and not self._is_trained():
            return self._read_prompts_first(prompts, think, positions)
        return self._read_rows([torch.cat([each, think]) for each in prompts], positions)

    def _is_trained(self) -> bool:
        return any(each.requires_grad for each in self.language_model.parameters())

    def _read_rows(
        self,
        rows: Sequence[Float[Tensor, "_ channels"]],
        positions: Sequence[Int[Tensor, "3 _"]],
        cache: DynamicCache | None = None,
    ) -> list[Float[Tensor, "_ features"]]:
        """Features of rows of embeddings; rows of ``cache`` are padded on the right in any case."""
        lengths = [len(row) for row in rows]
        if self.packing and len(set(lengths)) > 1:
            packed = None if cache is None else DynamicCache()
            places = torch.cat(list(positions), dim=1)[:, None]
            features = self._read(torch.cat(list(rows))[None], places, packed, lengths=lengths)
            if cache is not None and packed is not None:
                _unpack(cache, packed, lengths)
            return list(features[0].split(lengths))
        features = self._read(
            pad_sequences(rows),
            pad_sequences([each.T for each in positions]).permute(2, 0, 1),
            cache,
        )
        return [each[:length] for each, length in zip(features, lengths, strict=True)]

    def _read_prompts_first(
        self,
        prompts: Sequence[Float[Tensor, "_ channels"]],
        think: Float[Tensor, "think channels"],
        positions: Sequence[Int[Tensor, "3 _"]],
    ) -> list[Float[Tensor, "_ features"]]:
        """Prompts without autograd, then the think tokens with it.

        Attention is causal and these weights are frozen, so the states of a prompt depend on no
        trained weight: their derivatives are zero, and the think tokens attend to constant keys
        and values.
        """
        lengths = [len(each) for each in prompts]
        cache = DynamicCache()
        with torch.no_grad():
            before = self._read_rows(
                prompts,
                [each[:, :length] for each, length in zip(positions, lengths, strict=True)],
                cache,
            )
        if not len(think):
            return before
        mask = torch.ones(
            len(prompts), 1, len(think), max(lengths) + len(think), dtype=torch.bool
        ).tril(max(lengths))
        for row, length in zip(mask, lengths, strict=True):
            row[..., length : max(lengths)] = False
        think_features = self._read(
            think.expand(len(prompts), -1, -1),
            torch.stack(
                [each[:, length:] for each, length in zip(positions, lengths, strict=True)], 1
            ),
            cache,
            send(mask, self.embedding.device),
        )
        return [torch.cat(pair) for pair in zip(before, think_features, strict=True)]

    def pad_feature(self, padding_id: int) -> Float[Tensor, " features"]:
        """Features of a padding token, the same at every position of every prompt.

        Padding attends to nothing and the attention's output has no bias, so only the MLPs
        change it: ``p[l + 1] = p[l] + MLP(norm(p[l]))``.
        """
        token = send(torch.tensor([padding_id]), self.embedding.device)
        hidden_states: Tensor = self.language_model.embed_tokens(token)
        states = [hidden_states]
        for layer in self.language_model.layers:
            hidden_states = hidden_states + layer.mlp(layer.post_attention_layernorm(hidden_states))
            states.append(hidden_states)
        return self._select(states)[0]

    def _embed(
        self, row: TokenRow, image_features: Sequence[Float[Tensor, "_ channels"]]
    ) -> Float[Tensor, "tokens channels"]:
        """Token embeddings, with image features in place of the image tokens."""
        ids = send(torch.tensor(row.token_ids), self.embedding.device)
        embeddings: Tensor = self.language_model.embed_tokens(ids)
        parts = []
        end = 0
        for image, features in zip(row.images, image_features, strict=True):
            parts += [embeddings[end : image.start], features.to(embeddings.dtype)]
            end = image.start + image.length
        return torch.cat([*parts, embeddings[end:]])

    def _read(
        self,
        embeddings: Float[Tensor, "batch tokens channels"],
        position_ids: Int[Tensor, "3 batch tokens"],
        cache: DynamicCache | None = None,
        mask: Bool[Tensor, "batch 1 tokens all_tokens"] | None = None,
        lengths: Sequence[int] | None = None,
    ) -> Float[Tensor, "batch tokens features"]:
        """One forward pass.

        Args:
            embeddings: Of the tokens.
            position_ids: Their M-RoPE positions.
            cache: Keys and values of earlier tokens, to which those of these are added; None where
                there are neither earlier nor later tokens.
            mask: True where a token attends to another; None is causal attention.
            lengths: Of rows that are packed end to end into one; None where each has its own.
        """
        position_embeddings = self.language_model.rotary_emb(embeddings, position_ids)
        states = [embeddings]
        for layer in self.language_model.layers:
            states.append(
                run_layer(
                    layer,
                    states[-1],
                    position_embeddings=position_embeddings,
                    attention_mask=mask,
                    past_key_values=cache,
                    lengths=lengths,
                    # Recomputation would add to the cache again.
                    checkpointing=self.checkpointing and cache is None,
                )
            )
        return self._select(states)

    def _select(
        self, states: Sequence[Float[Tensor, "*rows channels"]]
    ) -> Float[Tensor, "*rows features"]:
        """The features that the bridge reads: some of the hidden states."""
        if self.selected_layers:
            return torch.cat([states[layer] for layer in self.selected_layers], dim=-1)
        normalized: Tensor = self.language_model.norm(states[-1])
        return normalized


def attend_packed(
    module: nn.Module,
    query: Float[Tensor, "batch heads tokens head_channels"],
    key: Float[Tensor, "batch key_heads all_tokens head_channels"],
    value: Float[Tensor, "batch key_heads all_tokens head_channels"],
    attention_mask: Bool[Tensor, "batch 1 tokens all_tokens"] | None,
    *,
    lengths: Sequence[int] | None = None,
    **options: Any,
) -> tuple[Float[Tensor, "batch tokens heads head_channels"], None]:
    """Attention as transformers' layers call it, causal within each of several packed rows."""
    if lengths is None:
        mixed, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return mixed, None
    rows = zip(*(each.split(list(lengths), dim=2) for each in (query, key, value)), strict=True)
    parts = [sdpa_attention_forward(module, *row, None, **options)[0] for row in rows]
    return torch.cat(parts, dim=1), None


def _unpack(cache: DynamicCache, packed: DynamicCache, lengths: Sequence[int]) -> None:
    """Copy keys and values of packed rows into a cache that has a row for each."""
    for index, layer in enumerate(packed.layers):
        keys, values = (
            pad_sequences([row.transpose(0, 1) for row in states[0].split(list(lengths), dim=1)])
            for states in (layer.keys, layer.values)
        )
        cache.update(keys.transpose(1, 2), values.transpose(1, 2), index)
