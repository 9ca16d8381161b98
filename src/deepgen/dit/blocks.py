"""One block of the diffusion transformer: two streams joined in attention (MMDiT-X).

Source: SD3, section 4 and figure 2 (arXiv 2403.03206); the second attention of the first blocks is
SD3.5 Medium's. Names of modules are those of diffusers' ``SD3Transformer2DModel``, so that its
weights load unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from deepgen.config.model import DiTConfig
from deepgen.nn.linear import Linear
from deepgen.nn.norm import rms_norm

Tokens = Float[Tensor, "batch _tokens width"]
Heads = Float[Tensor, "batch _tokens heads head_channels"]
Modulation = Float[Tensor, "_parts batch 1 width"]
KeyBias = Float[Tensor, "batch 1 1 _keys"]

PadCounts = Sequence[int]
"""Number of padding tokens at the end of each row."""

EPSILON = 1e-6


def layer_norm(tokens: Tokens) -> Tokens:
    """Normalise each token over its channels; the affine part comes from the modulation."""
    return F.layer_norm(tokens, tokens.shape[-1:], eps=EPSILON)


def modulate(
    normed: Tokens,
    shift: Float[Tensor, "batch 1 width"],
    gain: Float[Tensor, "batch 1 width"],
) -> Tokens:
    """``normed * gain + shift``, with ``gain = 1 + scale``."""
    return torch.addcmul(shift, normed, gain)


class ModulationLinear(nn.Module):
    """adaLN: from the embedding of time and prompt to shifts, gains and gates of one stream.

    Args:
        width: Channels of the stream.
        parts: Number of vectors.
        scales: Indices of those that are scales, to which 1 is added here instead of at every use.
    """

    def __init__(self, width: int, parts: int, scales: tuple[int, ...]) -> None:
        super().__init__()
        self.linear = Linear(width, parts * width)
        self.parts = parts
        self.scales = scales

    def forward(self, activated: Float[Tensor, "rows width"]) -> Float[Tensor, "rows parts width"]:
        """All parts for every row of ``SiLU(embedding)`` (SD3, figure 2b)."""
        parts: Tensor = self.linear(activated).unflatten(-1, (self.parts, -1))
        one = torch.zeros(self.parts, 1, dtype=parts.dtype, device=parts.device)
        for scale in self.scales:
            # Not as a list: its copy to a GPU would wait for all earlier work.
            one[scale] = 1
        return parts + one


class RMSNorm(nn.Module):
    """Root-mean-square norm of each head's queries or keys (QK norm; SD3, section 5.3.2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, heads: Heads) -> Heads:
        """Normalise over the head's channels."""
        return rms_norm(heads, self.weight, EPSILON)


def attend(
    query: Heads,
    key: Heads,
    value: Heads,
    key_bias: KeyBias | None = None,
) -> Tokens:
    """Scaled dot-product attention; the result has the heads concatenated.

    Args:
        query: Of the tokens that attend.
        key: Of the tokens attended to.
        value: Of the same.
        key_bias: Added to the logits of each key.
    """
    query, key, value = (each.transpose(1, 2) for each in (query, key, value))
    if query.is_cpu and torch.is_autocast_enabled("cpu"):
        # torch's backward kernel is slow in bfloat16 there; without gradients the same is computed.
        with torch.autocast("cpu", enabled=False):
            mixed = F.scaled_dot_product_attention(
                query.float(),
                key.float(),
                value.float(),
                attn_mask=None if key_bias is None else key_bias.float(),
            )
    else:
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=key_bias)
    return mixed.transpose(1, 2).flatten(2)


def attend_by_row(
    query: Heads, key: Heads, value: Heads, padding: PadCounts, *, pads_queries: bool
) -> Tokens:
    """Attention of each row by itself, without the padding at its end, so without a mask.

    Args:
        query: Of the tokens that attend.
        key: Of the tokens attended to.
        value: Of the same.
        padding: See :data:`PadCounts`.
        pads_queries: The queries end with padding too; its outputs are zero.
    """
    rows = []
    for row, count in enumerate(padding):
        real = key.shape[1] - count
        own = query[row : row + 1, : query.shape[1] - (count if pads_queries else 0)]
        mixed = attend(own, key[row : row + 1, :real], value[row : row + 1, :real])
        rows.append(F.pad(mixed, (0, 0, 0, query.shape[1] - mixed.shape[1])))
    return torch.cat(rows)


class SelfAttention(nn.Module):
    """Attention among image tokens alone (``attn2``)."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.num_attention_heads
        self.to_q = Linear(width, width)
        self.to_k = Linear(width, width)
        self.to_v = Linear(width, width)
        self.to_out = nn.ModuleList([Linear(width, width)])
        self.norm_q, self.norm_k = _query_key_norms(config)

    def project(self, tokens: Tokens, queries: int) -> tuple[Heads, Heads, Heads]:
        """Queries of the first ``queries`` tokens, keys and values of all."""
        return (
            self.norm_q(self.to_q(tokens[:, :queries]).unflatten(-1, (self.heads, -1))),
            self.norm_k(self.to_k(tokens).unflatten(-1, (self.heads, -1))),
            self.to_v(tokens).unflatten(-1, (self.heads, -1)),
        )

    def forward(self, tokens: Tokens, queries: int, key_bias: KeyBias | None = None) -> Tokens:
        """Outputs of the first ``queries`` tokens, which attend to all."""
        out: Tensor = self.to_out[0](attend(*self.project(tokens, queries), key_bias))
        return out


class JointAttention(SelfAttention):
    """Attention among image and context tokens together, with projections for each stream.

    Args:
        config: Sizes.
        reads_context_only: In the last block the context only has keys and values, since its output
            is not used. Its query weights exist all the same, as in checkpoints.
    """

    def __init__(self, config: DiTConfig, *, reads_context_only: bool) -> None:
        super().__init__(config)
        width = config.width
        self.add_q_proj = Linear(width, width)
        self.add_k_proj = Linear(width, width)
        self.add_v_proj = Linear(width, width)
        self.norm_added_q, self.norm_added_k = _query_key_norms(config)
        self.to_add_out = None if reads_context_only else Linear(width, width)

    def joint(
        self,
        image: Tokens,
        context: Tokens,
        queries: int,
        key_bias: KeyBias | None,
        padding: PadCounts | None = None,
    ) -> tuple[Tokens, Tokens | None]:
        """Joint attention over the sequence of image, then context tokens.

        Args:
            image: Modulated image tokens.
            context: Modulated context tokens.
            queries: How many of the first image tokens attend.
            key_bias: Added to the logits of each key.
            padding: Of the contexts, where rows attend one by one.

        Returns:
            Outputs of the first ``queries`` image tokens, and of the context tokens; None for the
            latter in the last block.
        """
        query, key, value = self.project(image, queries)
        key = torch.cat([key, self.norm_added_k(self._split(self.add_k_proj(context)))], dim=1)
        value = torch.cat([value, self._split(self.add_v_proj(context))], dim=1)
        if self.to_add_out is None:
            if padding is not None:
                mixed = attend_by_row(query, key, value, padding, pads_queries=False)
                return self.to_out[0](mixed), None
            return self.to_out[0](attend(query, key, value, key_bias)), None
        context_query = self.norm_added_q(self._split(self.add_q_proj(context)))
        query = torch.cat([query, context_query], dim=1)
        if padding is None:
            mixed = attend(query, key, value, key_bias)
        else:
            mixed = attend_by_row(query, key, value, padding, pads_queries=True)
        return self.to_out[0](mixed[:, :queries]), self.to_add_out(mixed[:, queries:])

    def _split(self, tokens: Tokens) -> Heads:
        heads: Tensor = tokens.unflatten(-1, (self.heads, -1))
        return heads


class GELUProjection(nn.Module):
    """Linear layer and tanh-approximated GELU."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.proj = Linear(width, inner)

    def forward(self, tokens: Tokens) -> Float[Tensor, "batch _tokens inner"]:
        """Project and activate."""
        return F.gelu(self.proj(tokens), approximate="tanh")


class FeedForward(nn.Module):
    """The MLP of a stream; ``net.1`` is a dropout in diffusers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            GELUProjection(width, 4 * width), nn.Identity(), Linear(4 * width, width)
        )

    def forward(self, tokens: Tokens) -> Tokens:
        """Transform each token."""
        out: Tensor = self.net(tokens)
        return out


class JointBlock(nn.Module):
    """Joint attention, in the first blocks image self-attention, and an MLP per stream.

    Args:
        config: Sizes.
        index: Number of the block, on which its second attention and its unused parts depend.
    """

    def __init__(self, config: DiTConfig, index: int) -> None:
        super().__init__()
        width = config.width
        self.is_dual = index in config.dual_attention_layers
        self.is_last = index == config.num_layers - 1
        # Parts: shift, scale, gate of the attention; of the MLP; and of the second attention.
        self.norm1 = ModulationLinear(
            width, 9 if self.is_dual else 6, (1, 4, 7) if self.is_dual else (1, 4)
        )
        # The last block's context modulation is scale, then shift; all others begin with shift.
        self.norm1_context = ModulationLinear(
            width, 2 if self.is_last else 6, (0,) if self.is_last else (1, 4)
        )
        self.attn = JointAttention(config, reads_context_only=self.is_last)
        self.attn2 = SelfAttention(config) if self.is_dual else None
        self.ff = FeedForward(width)
        self.ff_context = None if self.is_last else FeedForward(width)

    def forward(
        self,
        image: Tokens,
        context: Tokens,
        image_modulation: Modulation,
        context_modulation: Modulation,
        targets: int,
        key_bias: KeyBias | None,
        padding: PadCounts | None = None,
        image_bias: KeyBias | None = None,
    ) -> tuple[Tokens, Tokens]:
        """Both streams after this block.

        Args:
            image: Target tokens, then reference tokens.
            context: Context tokens.
            image_modulation: 6 or 9 parts.
            context_modulation: 6 parts, 2 in the last block.
            targets: Number of target tokens; the last block computes and returns only those.
            key_bias: Added to the logits of each key of the joint attention.
            padding: Of the contexts, where rows attend one by one.
            image_bias: Added to the logits of each key among image tokens alone.
        """
        keep = targets if self.is_last else image.shape[1]
        shift, gain, gate, mlp_shift, mlp_gain, mlp_gate = image_modulation[:6]
        normed = layer_norm(image)
        if self.is_last:
            context_gain, context_shift = context_modulation
        else:
            context_shift, context_gain = context_modulation[:2]
        attended, context_attended = self.attn.joint(
            modulate(normed, shift, gain),
            modulate(layer_norm(context), context_shift, context_gain),
            keep,
            key_bias,
            padding,
        )
        image = torch.addcmul(image[:, :keep], gate, attended)
        if self.attn2 is not None:
            second_shift, second_gain, second_gate = image_modulation[6:]
            second = self.attn2(modulate(normed, second_shift, second_gain), keep, image_bias)
            image = torch.addcmul(image, second_gate, second)
        moved = self.ff(modulate(layer_norm(image), mlp_shift, mlp_gain))
        image = torch.addcmul(image, mlp_gate, moved)
        if context_attended is not None and self.ff_context is not None:
            gate, mlp_shift, mlp_gain, mlp_gate = context_modulation[2:]
            context = torch.addcmul(context, gate, context_attended)
            moved = self.ff_context(modulate(layer_norm(context), mlp_shift, mlp_gain))
            context = torch.addcmul(context, mlp_gate, moved)
        return image, context


def _query_key_norms(config: DiTConfig) -> tuple[nn.Module, nn.Module]:
    if config.qk_norm is None:
        return nn.Identity(), nn.Identity()
    return RMSNorm(config.attention_head_dim), RMSNorm(config.attention_head_dim)
