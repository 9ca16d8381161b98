"""Rows of a call in groups of equal shape, with what is the same in all steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from deepgen.config.memory import MODULATION_ROWS
from deepgen.devices import send
from deepgen.dit.blocks import Tokens
from deepgen.dit.groups import Group, key_bias
from deepgen.nn.autocast import EXACT, product_dtype
from deepgen.nn.rows import pad_sequences
from deepgen.types import Condition, Latents

if TYPE_CHECKING:
    from deepgen.dit.model import DiT

# On CPU a few rows at a time keep activations in the cache, and the widest of them below the 32 MiB
# above which glibc maps new pages for every tensor, which takes longer than most operations.
CPU_ACTIVATION_BYTES = 2**25


def group_rows(
    dit: DiT,
    conditions: Sequence[Condition],
    sizes: Sequence[tuple[int, int]],
    timesteps: Float[Tensor, "steps batch"],
    references: Sequence[Sequence[Latents]],
    *,
    ragged: bool,
) -> list[Group]:
    """Group rows by shape and embed what is the same in all steps.

    ``ragged`` puts contexts of different lengths into one group, with a bias that masks their
    padding: in training every prompt has its own length, and a group each would be slow.
    """
    # Lower precisions would round the ln n of a count, by up to 1.6 % of the padding's weight.
    counted = ragged and product_dtype(dit.proj_out.weight) in EXACT
    contexts = [each.prompt_embeds if counted else each.expanded() for each in conditions]
    counts = [each.padding if counted else 0 for each in conditions]
    groups: dict[tuple[object, ...], list[int]] = {}
    for index, (context, size, own) in enumerate(zip(contexts, sizes, references, strict=True)):
        shape = (size, tuple(each.shape for each in own), None if ragged else len(context))
        groups.setdefault(shape, []).append(index)
    result = []
    for group in groups.values():
        height, width = sizes[group[0]]
        patch = dit.config.patch_size
        for tall, wide in [sizes[group[0]], *(e.shape[1:] for e in references[group[0]])]:
            if tall % patch or wide % patch:
                raise ValueError(f"latents of {tall} x {wide} cannot be cut into {patch} x {patch}")
        cells = height * width + sum(each.shape[1] * each.shape[2] for each in references[group[0]])
        image_tokens = cells // patch**2
        at_once = rows_at_once(dit, image_tokens, len(group))
        for start in range(0, len(group), at_once):
            members = group[start : start + at_once]
            own = [contexts[index].to(dit.dtype) for index in members]
            numbers = [counts[index] for index in members]
            padding = _padding(dit, own, numbers)
            bias = None if padding else key_bias(own, numbers, image_tokens)
            pooled = torch.stack([conditions[index].pooled_prompt_embeds for index in members])
            result.append(
                Group(
                    members=members,
                    rows=height // patch,
                    columns=width // patch,
                    context=dit.context_embedder(pad_sequences(own)),
                    key_bias=bias,
                    padding=padding,
                    references=_embed_references(dit, [references[index] for index in members]),
                    pooled=dit.time_text_embed.text_embedder(pooled.to(dit.dtype)),
                    timesteps=send(timesteps[:, members], own[0].device),
                    steps_at_once=max(1, MODULATION_ROWS // len(conditions)),
                )
            )
    return result


def rows_at_once(dit: DiT, image_tokens: int, rows: int) -> int:
    """How many rows of a shape go through the blocks together."""
    weight = dit.proj_out.weight
    if not weight.is_cpu:
        return rows
    widest = image_tokens * 4 * dit.config.width * weight.element_size()
    return max(1, CPU_ACTIVATION_BYTES // widest)


def _padding(
    dit: DiT, contexts: Sequence[Float[Tensor, "_tokens context_width"]], counts: Sequence[int]
) -> list[int] | None:
    """Padding of each row; None where lengths are equal, or counted padding needs a bias."""
    longest = max(map(len, contexts))
    padding = [longest - len(each) for each in contexts]
    if not dit.attention_by_row or not any(padding) or max(counts) > 1:
        return None
    return padding


def _embed_references(dit: DiT, references: Sequence[Sequence[Latents]]) -> Tokens | None:
    """Tokens of the references of equally shaped rows, or None without references."""
    if not references[0]:
        return None
    # Both branches of guidance have the same tensors; each is embedded once.
    known: dict[int, Tokens] = {}
    for own in references:
        for each in own:
            if id(each) not in known:
                known[id(each)] = dit.pos_embed(each[None].to(dit.dtype))
    rows = [torch.cat([known[id(each)] for each in own], dim=1) for own in references]
    return torch.cat(rows)
