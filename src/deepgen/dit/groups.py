"""Rows of the DiT that are computed together, since they have one shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from deepgen.devices import send
from deepgen.dit.blocks import KeyBias, Modulation, PadCounts, Tokens

Modulations = list[Modulation]
"""Two per block (image, context), then that of the output."""


@dataclass(kw_only=True, slots=True)
class Group:
    """Rows of one shape, and what is the same in all steps."""

    members: list[int]
    """Their indices among all rows."""
    rows: int
    """Patches of the target along its height."""
    columns: int
    context: Tokens
    """Embedded context tokens."""
    key_bias: KeyBias | None
    padding: PadCounts | None
    """Instead of the bias, where rows attend one by one."""
    references: Tokens | None
    """Embedded reference tokens."""
    pooled: Float[Tensor, "batch width"]
    """Embedded pooled vectors."""
    timesteps: Float[Tensor, "steps batch"]
    steps_at_once: int
    """For how many steps modulations are computed together."""
    is_idle: bool = False
    """A copy that is only run because other processes have more groups; its result is not used."""
    first_step: int = -1
    """First step of the cached modulations."""
    modulations: list[Modulations] = field(default_factory=list)
    parts: Sequence[Group] = ()
    """Of a joined group: those that it was made of, in the order of its rows."""


def key_bias(
    contexts: Sequence[Float[Tensor, "_tokens context_width"]],
    counts: Sequence[int],
    image_tokens: int,
) -> KeyBias | None:
    """A bias that gives a counted padding token its weight, and masks padding after contexts.

    None where no row has either.
    """
    longest = max(len(context) for context in contexts)
    if all(
        len(each) == longest and count <= 1 for each, count in zip(contexts, counts, strict=True)
    ):
        return None
    bias = torch.zeros(len(contexts), 1, 1, image_tokens + longest)
    for row, context, count in zip(bias[:, 0, 0], contexts, counts, strict=True):
        row[image_tokens] = math.log(max(count, 1))
        row[image_tokens + len(context) :] = -math.inf
    return send(bias.to(contexts[0].dtype), contexts[0].device)


def image_tokens_of(group: Group) -> int:
    """Tokens of the image stream, references included."""
    references = 0 if group.references is None else group.references.shape[1]
    return group.rows * group.columns + references


def joined_group(numbered: Sequence[tuple[int, Group]], *, by_row: bool) -> Group:
    """One group of several of equal shape, whose contexts may differ in length.

    Args:
        numbered: The groups, each with the number of the first row of its set.
        by_row: Let rows attend one by one, rather than with a bias.
    """
    parts = [part for _, part in numbered]
    image_tokens = image_tokens_of(parts[0])
    contexts = [part.context for part in parts]
    longest = max(each.shape[1] for each in contexts)
    missing = [longest - each.shape[1] for each in contexts]
    padding = bias = None
    if any(part.key_bias is not None for part in parts) or (any(missing) and not by_row):
        bias = torch.cat([_padded_bias(part, image_tokens, longest) for part in parts])
    elif any(missing) or any(part.padding for part in parts):
        padding = [
            count + more
            for part, more in zip(parts, missing, strict=True)
            for count in part.padding or [0] * len(part.members)
        ]
    references = [part.references for part in parts if part.references is not None]
    members = [offset + index for offset, part in numbered for index in part.members]
    return replace(
        parts[0],
        members=members,
        context=torch.cat(
            [F.pad(each, (0, 0, 0, more)) for each, more in zip(contexts, missing, strict=True)]
        ),
        key_bias=bias,
        padding=padding,
        references=torch.cat(references) if references else None,
        pooled=torch.cat([part.pooled for part in parts]),
        # Modulations are the parts' own.
        timesteps=parts[0].timesteps.new_empty(0, len(members)),
        modulations=[],
        first_step=-1,
        parts=parts,
    )


def _padded_bias(part: Group, image_tokens: int, longest: int) -> KeyBias:
    """The bias of a group over contexts of the longest length."""
    length = part.context.shape[1]
    bias = part.key_bias
    if bias is None:
        bias = part.context.new_zeros(len(part.members), 1, 1, image_tokens + length)
    return F.pad(bias, (0, longest - length), value=-math.inf)
