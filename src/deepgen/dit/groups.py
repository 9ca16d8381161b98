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
from deepgen.dit.reuse import BlockReuse

Modulations = list[Modulation]
"""Two per block (image, context), then that of the output."""

PASS_FLOPS = 3e8
"""What a pass through the blocks costs on a CPU besides its tokens (about 10 ms for the embedded
model, most of it calls of operations), in operations of its tokens: padding up to that is cheaper
than a pass of its own."""


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
    reuse: BlockReuse | None = None
    """Set by whoever wants blocks to be skipped."""
    parts: Sequence[Group] = ()
    """Of a joined group: those that it was made of, in the order of its rows."""
    shapes: Sequence[Group] = ()
    """Of a group whose rows differ in shape: its groups of equal shape, in the order of its rows.
    Their image tokens are padded to the longest."""
    image_bias: KeyBias | None = None
    """Masks that padding among image tokens alone."""

    @property
    def targets(self) -> int:
        """Target tokens of a row, of the largest where they differ."""
        return max((each.targets for each in self.shapes), default=self.rows * self.columns)


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


def mixed_groups(
    groups: Sequence[Group], *, token_flops: float, token_bytes: int, most_bytes: int
) -> list[Group]:
    """Put groups of different shape together where their padding costs less than another pass.

    Args:
        groups: Of equal shape each, as of :func:`joined_group`.
        token_flops: Operations that a token takes.
        token_bytes: Of the widest activation of an image token.
        most_bytes: Of the widest activation of a group.
    """
    found: list[Group] = []
    together: list[Group] = []
    for group in sorted(groups, key=image_tokens_of):
        candidate = [*together, group]
        saved = sum(_padded_tokens(each) for each in (together, [group]))
        padding = _padded_tokens(candidate) - saved
        rows = sum(len(each.members) for each in candidate)
        is_small = rows * image_tokens_of(group) * token_bytes <= most_bytes
        if together and not (is_small and padding * token_flops <= PASS_FLOPS):
            found.append(_mixed_group(together))
            candidate = [group]
        together = candidate
    return [*found, _mixed_group(together)]


def _padded_tokens(groups: Sequence[Group]) -> int:
    """Tokens of a pass of these groups, padding included."""
    rows = sum(len(each.members) for each in groups)
    longest = max((image_tokens_of(each) for each in groups), default=0)
    return rows * (longest + max((each.context.shape[1] for each in groups), default=0))


def _mixed_group(shapes: Sequence[Group]) -> Group:
    """One group of rows that differ in shape."""
    if len(shapes) == 1:
        return shapes[0]
    longest = max(image_tokens_of(each) for each in shapes)
    context = max(each.context.shape[1] for each in shapes)
    biases = []
    for each in shapes:
        own = image_tokens_of(each)
        bias = _padded_bias(each, own, context)
        image = F.pad(bias[..., :own], (0, longest - own), value=-math.inf)
        biases.append(torch.cat([image, bias[..., own:]], dim=3))
    bias = torch.cat(biases)
    members = [index for each in shapes for index in each.members]
    return replace(
        shapes[0],
        members=members,
        context=torch.cat(
            [F.pad(each.context, (0, 0, 0, context - each.context.shape[1])) for each in shapes]
        ),
        key_bias=bias,
        references=None,
        pooled=torch.cat([each.pooled for each in shapes]),
        timesteps=shapes[0].timesteps.new_empty(0, len(members)),
        modulations=[],
        first_step=-1,
        parts=[part for each in shapes for part in each.parts],
        shapes=shapes,
        image_bias=bias[..., :longest].contiguous(),
    )
