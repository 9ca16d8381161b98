"""The diffusion transformer: noisy latents in, velocity out.

An SD3.5-Medium-type MMDiT-X (SD3, arXiv 2403.03206) that also attends to reference images: their
clean latents are embedded like the target's and follow it in the image stream (DeepGen paper,
arXiv 2602.12205, section 3.2). Weights, names and folder are those of diffusers'
``SD3Transformer2DModel``.

Rows are computed in groups of equal shape. Sampling on an accelerator therefore never needs an
attention mask, which keeps attention on its fastest kernels; on CPU a bias costs nothing, so
contexts of different length are batched there, and padding stays a counted token. What is the same
in all steps is computed once per image, in :meth:`DiT.prepare`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from deepgen.config.model import DiTConfig
from deepgen.dit import grouping
from deepgen.dit.blocks import (
    JointBlock,
    KeyBias,
    ModulationLinear,
    PadCounts,
    Tokens,
    layer_norm,
    modulate,
)
from deepgen.dit.graphs import BlockGraphs
from deepgen.dit.grouping import group_rows, rows_at_once
from deepgen.dit.groups import (
    Group,
    Modulations,
    image_tokens_of,
    joined_group,
    mixed_groups,
)
from deepgen.dit.patchify import PatchEmbed, unpatchify
from deepgen.dit.reuse import BlockReuse
from deepgen.nn.checkpointing import run_layer
from deepgen.nn.linear import Linear
from deepgen.types import Condition, Latents

Returned = TypeVar("Returned")

TIME_CHANNELS = 256

# Graphs that torch may compile of the blocks' code, which is the same for first, middle and last
# blocks, with and without a bias, with gradients and without; torch's default limit is 8.
COMPILED_KINDS = 64


class _Embedding(nn.Module):
    """Two linear layers with SiLU between them."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.linear_1 = Linear(inputs, width)
        self.linear_2 = Linear(width, width)

    def forward(self, inputs: Float[Tensor, "*rows inputs"]) -> Float[Tensor, "*rows width"]:
        out: Tensor = self.linear_2(F.silu(self.linear_1(inputs)))
        return out


class _TimeTextEmbedding(nn.Module):
    """The embeddings of timestep and pooled prompt, to be added."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.timestep_embedder = _Embedding(TIME_CHANNELS, config.width)
        self.text_embedder = _Embedding(config.pooled_projection_dim, config.width)


class DiT(nn.Module):
    """Predicts the velocity ``noise - latents`` of noisy latents.

    Args:
        config: Sizes; the defaults are those of the released model.
    """

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        self.pos_embed = PatchEmbed(config)
        self.time_text_embed = _TimeTextEmbedding(config)
        self.context_embedder = Linear(config.joint_attention_dim, config.width)
        self.transformer_blocks = nn.ModuleList(
            JointBlock(config, index) for index in range(config.num_layers)
        )
        # Of the output, too, the first part is the scale.
        self.norm_out = ModulationLinear(config.width, 2, (0,))
        self.proj_out = Linear(config.width, config.patch_size**2 * config.out_channels)
        self.checkpointing = False
        """Recompute blocks in the backward pass instead of storing their activations."""
        self.attention_by_row = False
        """Where contexts differ in length, let rows attend one by one instead of with a bias."""
        self._run: Callable[..., Tensor] = self.run_blocks
        self.max_over_processes: Callable[[int], int] | None = None
        """The largest of a number over all processes, where they shard this model's weights: each
        then has to run every block equally often."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights, in which the blocks compute."""
        return self.proj_out.weight.dtype

    def forward(
        self,
        latents: Sequence[Latents],
        timesteps: Float[Tensor, " batch"],
        conditions: Sequence[Condition],
        references: Sequence[Sequence[Latents]],
    ) -> list[Latents]:
        """Velocity of each row at a timestep of its own.

        Args:
            latents: Noisy latents, [channels, height, width] each; sizes may differ.
            timesteps: ``1000 * sigma`` per row.
            conditions: Of each row.
            references: Clean latents that each row attends to, of any number and size.

        Returns:
            Velocities in float32, shaped like ``latents``.

        Raises:
            ValueError: A size is not a multiple of the patch size, or larger than the table of
                positions.
        """
        sizes = [(each.shape[1], each.shape[2]) for each in latents]
        groups = group_rows(self, conditions, sizes, timesteps[None], references, ragged=True)
        # Before the blocks are run, since the others may wait for the number.
        missing = self._missing(len(groups))
        self._modulate_together(groups)
        idle = replace(groups[0], is_idle=True)
        return self._velocities(latents, [0] * len(latents), [*groups, *[idle] * missing])

    def prepare(
        self,
        conditions: Sequence[Condition],
        sizes: Sequence[tuple[int, int]],
        timesteps: Float[Tensor, " steps"],
        references: Sequence[Sequence[Latents]],
    ) -> list[Group]:
        """Compute what is the same in all steps: context, references, and (lazily) modulations.

        Args:
            conditions: Of each row.
            sizes: (height, width) of each row's latents.
            timesteps: ``1000 * sigma`` of every step.
            references: Clean latents that each row attends to.

        Returns:
            For :meth:`velocity`; gradients flow through it. Where the weights are sharded among
            processes, all of them have to prepare, and to run the same number of steps.

        Raises:
            ValueError: As :meth:`forward`.
        """
        return self.enter(lambda: self._prepared(conditions, sizes, timesteps, references))

    def join(self, sets: Sequence[Sequence[Group]]) -> list[Group]:
        """Put sets of rows together that were prepared one by one, for steps of their own.

        Rows of equal shape become one group, so that a weight is read once for all of them. Their
        contexts may differ in length on a CPU, and elsewhere with ``attention_by_row``. On a CPU
        rows of different shape may, too, where their padding costs less than a pass of their own.

        Args:
            sets: What :meth:`prepare` returned for each. Their rows are numbered on, set by set.

        Returns:
            For :meth:`velocity`, with a step for every row.
        """
        ragged = self.proj_out.weight.is_cpu or self.attention_by_row
        shapes: dict[tuple[object, ...], list[tuple[int, Group]]] = {}
        offset = 0
        for groups in sets:
            for group in groups:
                references = 0 if group.references is None else group.references.shape[1]
                length = None if ragged else group.context.shape[1]
                shape = (group.rows, group.columns, references, length)
                shapes.setdefault(shape, []).append((offset, group))
            offset += sum(len(group.members) for group in groups)
        joined = []
        for parts in shapes.values():
            at_once = rows_at_once(self, image_tokens_of(parts[0][1]), offset)
            while parts:
                count, rows = 1, len(parts[0][1].members)
                while count < len(parts) and rows + len(parts[count][1].members) <= at_once:
                    rows += len(parts[count][1].members)
                    count += 1
                joined.append(joined_group(parts[:count], by_row=self.attention_by_row))
                parts = parts[count:]
        if not self.proj_out.weight.is_cpu or self.attention_by_row:
            return joined
        width = self.config.width
        return mixed_groups(
            joined,
            # Of a multiply and an add per weight: attention's four products and the MLP's two.
            token_flops=24.0 * width**2 * self.config.num_layers,
            token_bytes=4 * width * self.proj_out.weight.element_size(),
            most_bytes=grouping.CPU_ACTIVATION_BYTES,
        )

    def velocity(
        self, latents: Sequence[Latents], step: int | Sequence[int], prepared: Sequence[Group]
    ) -> list[Latents]:
        """Velocity of every row at a step, in float32.

        Args:
            latents: Noisy latents, of the prepared sizes, in the same order.
            step: Index into the prepared timesteps; after :meth:`join` one for every row.
            prepared: What :meth:`prepare` or :meth:`join` returned.
        """
        steps = [step] * len(latents) if isinstance(step, int) else step
        return self.enter(lambda: self._velocities(latents, steps, prepared))

    def enter(self, call: Callable[[], Returned]) -> Returned:
        """Call a function of this model that is not :meth:`forward`.

        Where the weights are sharded among processes, this is a forward method for FSDP, which
        gathers the DiT's own weights; blocks are gathered one by one. The arguments of ``call`` are
        hidden from FSDP on purpose: once it had the gradients of such inputs, it would free the
        weights, which the backward pass of earlier steps still needs.
        """
        return call()

    def _prepared(
        self,
        conditions: Sequence[Condition],
        sizes: Sequence[tuple[int, int]],
        timesteps: Float[Tensor, " steps"],
        references: Sequence[Sequence[Latents]],
    ) -> list[Group]:
        every = timesteps[:, None].expand(-1, len(conditions))
        ragged = self.proj_out.weight.is_cpu
        groups = group_rows(self, conditions, sizes, every, references, ragged=ragged)
        if self.max_over_processes is not None:
            # Modulations are of sharded weights, too: all compute them at the same steps.
            at_once = -self.max_over_processes(-groups[0].steps_at_once)
            groups = [replace(each, steps_at_once=at_once) for each in groups]
        missing = self._missing(len(groups))
        return [*groups, *(replace(groups[0], is_idle=True) for _ in range(missing))]

    def _missing(self, groups: int) -> int:
        """How many groups this process has fewer than the one with most."""
        return 0 if self.max_over_processes is None else self.max_over_processes(groups) - groups

    def _velocities(
        self, latents: Sequence[Latents], steps: Sequence[int], prepared: Sequence[Group]
    ) -> list[Latents]:
        result: dict[int, Latents] = {}
        for group in prepared:
            image = self._image_tokens(group, latents)
            modulations = self._modulations(group, [steps[index] for index in group.members])
            if group.reuse is not None and len(self.transformer_blocks) > 1:
                tokens = self._run_reusing(group, group.reuse, image, modulations)
            else:
                tokens = self._run(
                    image,
                    group.context,
                    modulations,
                    group.targets,
                    group.key_bias,
                    group.padding,
                    group.image_bias,
                )
            velocities = self._unpatchified(group, tokens)
            if group.is_idle:
                first = group.members[0]
                result[first] = result[first] + 0 * velocities[0]
                continue
            result.update(zip(group.members, velocities, strict=True))
        return [result[index] for index in range(len(latents))]

    def _image_tokens(self, group: Group, latents: Sequence[Latents]) -> Tokens:
        """Embedded targets with the references after them, padded to the longest row."""
        if group.shapes:
            every = [self._image_tokens(each, latents) for each in group.shapes]
            longest = max(each.shape[1] for each in every)
            return torch.cat([F.pad(each, (0, 0, 0, longest - each.shape[1])) for each in every])
        noisy = torch.stack([latents[index] for index in group.members])
        image: Tokens = self.pos_embed(noisy.to(self.dtype))
        return image if group.references is None else torch.cat([image, group.references], dim=1)

    def _unpatchified(
        self, group: Group, tokens: Float[Tensor, "batch targets patch_values"]
    ) -> list[Latents]:
        """Velocities of a group's rows, in float32."""
        if group.shapes:
            every = tokens.split([len(each.members) for each in group.shapes])
            pairs = zip(group.shapes, every, strict=True)
            return [row for each, own in pairs for row in self._unpatchified(each, own)]
        own = tokens[:, : group.targets]
        return list(unpatchify(own, group.rows, group.columns, self.config.patch_size).float())

    def run_blocks(
        self,
        image: Tokens,
        context: Tokens,
        modulations: Modulations,
        targets: int,
        key_bias: KeyBias | None,
        padding: PadCounts | None = None,
        image_bias: KeyBias | None = None,
    ) -> Float[Tensor, "batch targets patch_values"]:
        """The network between embedded tokens and the output tokens of the target.

        Args:
            image: Target tokens, then reference tokens.
            context: Embedded context tokens.
            modulations: See :data:`Modulations`.
            targets: Number of target tokens.
            key_bias: Added to the logits of each key, where rows of a group differ.
            padding: Of each row's context, where rows attend one by one.
            image_bias: Added to the logits of each key among image tokens alone.
        """
        every = range(len(self.transformer_blocks))
        image, _ = self._blocks(
            every, image, context, modulations, targets, key_bias, padding, image_bias
        )
        return self._output(image, modulations)

    def _run_reusing(
        self, group: Group, reuse: BlockReuse, image: Tokens, modulations: Modulations
    ) -> Float[Tensor, "batch targets patch_values"]:
        """As :meth:`run_blocks`, where rows may reuse what the blocks after the first added."""
        targets = group.targets
        before, context = self._blocks(
            range(1),
            image,
            group.context,
            modulations,
            targets,
            group.key_bias,
            group.padding,
            group.image_bias,
        )
        first = before - image
        rows = reuse.stale(first)
        after = before[:0, :targets]
        if rows:
            index = torch.tensor(rows, device=image.device)
            after, _ = self._blocks(
                range(1, len(self.transformer_blocks)),
                before[index],
                context[index],
                [each[:, index] for each in modulations],
                targets,
                None if group.key_bias is None else group.key_bias[index],
                None if group.padding is None else [group.padding[row] for row in rows],
                None if group.image_bias is None else group.image_bias[index],
            )
        return self._output(reuse.keep(rows, first, before[:, :targets], after), modulations)

    def _blocks(
        self,
        numbers: range,
        image: Tokens,
        context: Tokens,
        modulations: Modulations,
        targets: int,
        key_bias: KeyBias | None,
        padding: PadCounts | None,
        image_bias: KeyBias | None,
    ) -> tuple[Tokens, Tokens]:
        """Both streams after some of the blocks."""
        for index in numbers:
            image, context = run_layer(
                self.transformer_blocks[index],
                image,
                context,
                modulations[2 * index],
                modulations[2 * index + 1],
                targets,
                key_bias,
                padding,
                image_bias,
                checkpointing=self.checkpointing,
            )
        return image, context

    def _output(
        self, image: Tokens, modulations: Modulations
    ) -> Float[Tensor, "batch targets patch_values"]:
        """The values of the target's patches."""
        gain, shift = modulations[-1]
        out: Tensor = self.proj_out(modulate(layer_norm(image), shift, gain))
        return out

    def compile_each_block(self, *, dynamic: bool | None = True, **options: object) -> None:
        """Compile every block by itself with ``torch.compile``.

        Blocks of one kind share a graph, so this takes a fraction of the time of
        :meth:`compile_blocks`, and blocks may be checkpointed one by one. What exceeds the limit of
        graphs runs uncompiled.

        Args:
            dynamic: One graph for all shapes, since in training every bucket has its own; False
                makes faster ones where shapes stay the same, None until they change.
            options: Of ``torch.compile``.
        """
        from torch._dynamo import config

        config.recompile_limit = max(config.recompile_limit, COMPILED_KINDS)
        for block in self.transformer_blocks:
            block.compile(dynamic=dynamic, **options)

    def compile_blocks(self, **options: object) -> None:
        """Compile all blocks as one graph; ``options`` are those of ``torch.compile``."""
        self._run = torch.compile(self.run_blocks, fullgraph=True, **options)  # type: ignore[call-overload]

    def compile_for_sampling(self, *, graphs: bool, **options: object) -> None:
        """Compile every block, and replay all of them as one CUDA graph for each shape.

        The second length of a context that is met makes graphs for all lengths.

        Args:
            graphs: Replay; needs a GPU, and weights that stay where they are.
            options: Of ``torch.compile``.
        """
        self.compile_each_block(**{"dynamic": None, **options})  # type: ignore[arg-type]
        if graphs:
            self._run = BlockGraphs(self.run_blocks, self)

    def drop_graphs(self, *, for_good: bool = False) -> None:
        """Have no CUDA graphs of weights that move; ``for_good`` where they move in every step."""
        if isinstance(self._run, BlockGraphs):
            self._run.drop()
            if for_good:
                self._run = self.run_blocks

    def _modulations(self, group: Group, steps: Sequence[int]) -> Modulations:
        """adaLN parts of all blocks at the steps of a group's rows, computed for many at once."""
        if group.parts:
            rows = iter(steps)
            own = [
                self._modulations(part, [next(rows) for _ in part.members]) for part in group.parts
            ]
            return [torch.cat(parts, dim=1) for parts in zip(*own, strict=True)]
        # Rows that were prepared together are at the same step.
        step = steps[0]
        first = step - step % group.steps_at_once
        if first != group.first_step:
            timesteps = group.timesteps[first : first + group.steps_at_once]
            group.modulations = self._modulate_steps(timesteps, group.pooled)
            group.first_step = first
        return group.modulations[step - first]

    def _modulate_together(self, groups: Sequence[Group]) -> None:
        """Compute the first step's modulations of all groups, reading every matrix only once."""
        timesteps = torch.cat([group.timesteps[:1] for group in groups], dim=1)
        (every,) = self._modulate_steps(timesteps, torch.cat([group.pooled for group in groups]))
        sizes = [len(group.members) for group in groups]
        split = [part.split(sizes, dim=1) for part in every]
        for group, own in zip(groups, zip(*split, strict=True), strict=True):
            # Copies, since torch.compile would make other graphs for views.
            group.modulations = [[part.clone() for part in own]]
            group.first_step = 0

    def _modulate_steps(
        self, timesteps: Float[Tensor, "steps batch"], pooled: Float[Tensor, "batch width"]
    ) -> list[Modulations]:
        """adaLN parts of all blocks, for each of some steps."""
        time = timestep_sinusoid(timesteps.flatten()).to(self.dtype)
        embedding = self.time_text_embed.timestep_embedder(time).unflatten(0, timesteps.shape)
        activated = F.silu(embedding + pooled).flatten(0, 1)
        layers: list[nn.Module] = []
        for block in self.transformer_blocks.children():
            layers += [block.get_submodule("norm1"), block.get_submodule("norm1_context")]
        parts = [
            layer(activated).unflatten(0, timesteps.shape).transpose(1, 2).unsqueeze(3)
            for layer in (*layers, self.norm_out)
        ]
        return [[each[step] for each in parts] for step in range(len(timesteps))]


def timestep_sinusoid(timesteps: Float[Tensor, " rows"]) -> Float[Tensor, "rows time_channels"]:
    """128 cosines, then 128 sines, of timesteps from 0 to 1000 (Vaswani et al., arXiv 1706.03762).

    In float32.
    """
    half = TIME_CHANNELS // 2
    exponents = torch.arange(half, dtype=torch.float32, device=timesteps.device) / half
    angles = timesteps.float()[:, None] * torch.exp(-math.log(10000) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=1)
