"""Stacked Channel Bridging: from the VLM's hidden states to the DiT's condition (DeepGen paper)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepgen.conditioning.connector import Connector, Counts, Tokens, pool
from deepgen.config.model import BridgeConfig
from deepgen.devices import send
from deepgen.nn.autocast import EXACT, product_dtype
from deepgen.nn.linear import Linear
from deepgen.nn.rows import pad_sequences
from deepgen.types import Condition


class Bridge(nn.Module):
    """Think tokens, and the projection of VLM features to the DiT's context.

    The features of a token are six hidden states, concatenated along the channels; tokens are
    those of prompt, images and padding, and the think tokens::

        tokens  = connector(projector_1(features))
        pooled  = projector_2(mean over tokens)
        context = projector_3(tokens)

    The state dict has exactly the names of the released checkpoints.
    """

    def __init__(self, config: BridgeConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size
        self.meta_queries = nn.Parameter(torch.empty(config.num_queries, config.llm_hidden_size))
        """The think tokens."""
        self.projector_1 = Linear(config.input_size, width)
        self.connector = Connector(config)
        self.projector_2 = Linear(width, config.pooled_projection_dim)
        self.projector_3 = Linear(width, config.joint_attention_dim)
        self.packing = True
        """Pack rows of different length end to end, instead of padding the shorter ones."""
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start with a condition of zeros for every prompt, so that a trained DiT is not disturbed.

        ``projector_1`` and the connector keep the initialization of their constructors.
        """
        nn.init.normal_(self.meta_queries, std=self.config.llm_hidden_size**-0.5)
        for head in (self.projector_2, self.projector_3):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def forward(
        self,
        rows: Sequence[Float[Tensor, "_ features"]],
        padding: Sequence[int],
        pad_feature: Float[Tensor, " features"] | None = None,
    ) -> list[Condition]:
        """Turn VLM features into conditions.

        Padding takes part in everything, as in training. In float32 a row's padding tokens are
        computed as one token that counts for all. Lower precisions, autocast's included, write
        them out, because the ln n of the count would be rounded (by up to 1.6 % of the padding's
        weight in bfloat16); padded rows of a batch are then equally long and need no mask.

        Args:
            rows: Features of the real tokens of each row.
            padding: Number of padding tokens in front of each row.
            pad_feature: Features of a padding token; required if any row is padded.

        Raises:
            ValueError: Rows are padded, and ``pad_feature`` is missing.
        """
        dtype = self.projector_1.weight.dtype
        exact = product_dtype(self.projector_1.weight) in EXACT
        written = [min(count, 1) if exact else count for count in padding]
        if any(written) and pad_feature is None:
            raise ValueError("padded rows need the feature of a padding token")
        features = [
            row if pad_feature is None else torch.cat([pad_feature.expand(copies, -1), row])
            for row, copies in zip(rows, written, strict=True)
        ]
        counts = [
            torch.ones(len(row), dtype=dtype).index_fill_(
                0, torch.arange(copies), count / max(copies, 1)
            )
            for row, count, copies in zip(features, padding, written, strict=True)
        ]
        contexts, pooled = self._project_rows([row.to(dtype) for row in features], counts)
        return [
            Condition(
                # Of several written padding tokens the last one stands for all.
                prompt_embeds=context[max(copies - 1, 0) :],
                pooled_prompt_embeds=pooled[index],
                padding=count,
            )
            for index, (context, count, copies) in enumerate(
                zip(contexts, padding, written, strict=True)
            )
        ]

    def _project_rows(
        self,
        rows: Sequence[Float[Tensor, "_ features"]],
        counts: Sequence[Float[Tensor, " _"]],
    ) -> tuple[list[Float[Tensor, "_ context"]], Float[Tensor, "batch pooled"]]:
        """Context tokens of each row, and pooled vectors."""
        lengths = [len(row) for row in rows]
        single = all(bool((each == 1).all()) for each in counts)
        device = rows[0].device
        if self.packing and len(set(lengths)) > 1:
            weights = None if single else send(torch.cat(list(counts))[None], device)
            context, pooled = self.project(torch.cat(list(rows))[None], weights, lengths)
            return list(context[0].split(lengths)), pooled
        weights = None
        if not single or len(set(lengths)) > 1:
            weights = send(pad_sequences(counts), device)
        context, pooled = self.project(pad_sequences(rows), weights)
        return [each[:length] for each, length in zip(context, lengths, strict=True)], pooled

    def project(
        self,
        features: Float[Tensor, "batch tokens features"],
        counts: Counts | None = None,
        lengths: Sequence[int] | None = None,
    ) -> tuple[Tokens, Float[Tensor, "rows pooled"]]:
        """Context tokens and pooled vectors; ``counts`` and ``lengths`` as in the connector."""
        tokens = self.connector(self.projector_1(features), counts, lengths)
        context: Tensor = self.projector_3(tokens)
        sizes = [tokens.shape[1]] if lengths is None else list(lengths)
        weights = [None] * len(sizes) if counts is None else counts.split(sizes, dim=1)
        means = [
            pool(row, count) for row, count in zip(tokens.split(sizes, dim=1), weights, strict=True)
        ]
        pooled: Tensor = self.projector_2(torch.cat(means))
        return context, pooled
