"""The connector: a small bidirectional transformer between the VLM and the DiT."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from deepgen.config.model import BridgeConfig
from deepgen.nn.checkpointing import run_layer
from deepgen.nn.linear import Linear

Tokens = Float[Tensor, "batch tokens channels"]
Heads = Float[Tensor, "batch heads tokens head_channels"]
Counts = Float[Tensor, "batch tokens"]
"""How many equal tokens each token represents: 1, the length of a padding, or 0 for none."""


class SelfAttention(nn.Module):
    """Multi-head attention among all tokens of a row, without positions."""

    def __init__(self, config: BridgeConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.q_proj = Linear(width, width)
        self.k_proj = Linear(width, width)
        self.v_proj = Linear(width, width)
        self.out_proj = Linear(width, width)
        for linear in (self.q_proj, self.k_proj, self.v_proj, self.out_proj):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self,
        tokens: Tokens,
        key_bias: Float[Tensor, "batch 1 1 tokens"] | None,
        lengths: Sequence[int] | None = None,
    ) -> Tokens:
        """Attend; ``key_bias`` is added to the logits of each key, ``lengths`` as in Connector."""
        query, key, value = (
            projection(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = _attend(query, key, value, key_bias, lengths)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return out


def _attend(
    query: Heads,
    key: Heads,
    value: Heads,
    key_bias: Float[Tensor, "batch 1 1 tokens"] | None,
    lengths: Sequence[int] | None,
) -> Heads:
    """Attention among the tokens of each row."""
    if lengths is None:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=key_bias)
    sizes = list(lengths)
    rows = zip(
        *(each.split(sizes, dim=2) for each in (query, key, value)),
        [None] * len(sizes) if key_bias is None else key_bias.split(sizes, dim=3),
        strict=True,
    )
    return torch.cat(
        [F.scaled_dot_product_attention(q, k, v, attn_mask=bias) for q, k, v, bias in rows], dim=2
    )


class MLP(nn.Module):
    """Two linear layers around a tanh-approximated GELU."""

    def __init__(self, config: BridgeConfig) -> None:
        super().__init__()
        self.fc1 = Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = Linear(config.intermediate_size, config.hidden_size)
        for linear in (self.fc1, self.fc2):
            nn.init.xavier_uniform_(linear.weight)
            # Not zero in the published training, though nothing depends on it.
            nn.init.normal_(linear.bias, std=1e-6)

    def forward(self, tokens: Tokens) -> Tokens:
        """Transform each token independently."""
        out: Tensor = self.fc2(F.gelu(self.fc1(tokens), approximate="tanh"))
        return out


class ConnectorLayer(nn.Module):
    """A pre-norm residual layer: attention, then MLP."""

    def __init__(self, config: BridgeConfig) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.self_attn = SelfAttention(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = MLP(config)

    def forward(
        self,
        tokens: Tokens,
        key_bias: Float[Tensor, "batch 1 1 tokens"] | None,
        lengths: Sequence[int] | None = None,
    ) -> Tokens:
        """``x = tokens + attention(norm(tokens))``, then ``x + mlp(norm(x))``."""
        attended: Tensor = tokens + self.self_attn(self.layer_norm1(tokens), key_bias, lengths)
        out: Tensor = attended + self.mlp(self.layer_norm2(attended))
        return out


class Connector(nn.Module):
    """A stack of layers without final norm or positions: permuting tokens permutes the result."""

    def __init__(self, config: BridgeConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ConnectorLayer(config) for _ in range(config.num_hidden_layers))
        self.checkpointing = False
        """Recompute layers in the backward pass instead of keeping their activations."""

    def forward(
        self, tokens: Tokens, counts: Counts | None = None, lengths: Sequence[int] | None = None
    ) -> Tokens:
        """Full attention among the tokens of each row.

        Args:
            tokens: Rows of projected features.
            counts: How many equal tokens each one stands for, None where all are single. Attention
                over n equal keys is attention over one whose logit is larger by ln n.
            lengths: Of the rows, where they are packed end to end into one.
        """
        key_bias = None if counts is None else counts.log()[:, None, None]
        for layer in self.layers:
            tokens = run_layer(layer, tokens, key_bias, lengths, checkpointing=self.checkpointing)
        return tokens


def pool(tokens: Tokens, counts: Counts | None) -> Float[Tensor, "batch channels"]:
    """Mean over all tokens of a row, each with its count; summed in float32 at least."""
    if counts is None:
        return tokens.mean(dim=1)
    wide = torch.promote_types(tokens.dtype, torch.float32)
    weights = counts.to(wide)
    total = torch.einsum("btc,bt->bc", tokens.to(wide), weights)
    return (total / weights.sum(dim=1, keepdim=True)).to(tokens.dtype)
