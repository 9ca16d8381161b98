"""Names of the DiT's layers in the original code of SD3, where they differ from diffusers'."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OriginalLayer:
    """A layer of the original code, and what it is here."""

    name: str
    own: tuple[str, ...]
    """One layer, or the three that the original has as one matrix: queries, keys and values."""
    is_swapped: bool = False
    """Whether the halves of its rows are the other way round: scale and shift."""


def original_layers(blocks: int, dual_attention: Collection[int]) -> Iterator[OriginalLayer]:
    """All linear layers of the DiT.

    Args:
        blocks: Number of blocks.
        dual_attention: Those that have a second attention, of the image alone.
    """
    for number in range(blocks):
        yield from _block(number, is_last=number == blocks - 1, is_dual=number in dual_attention)
    embedders = {"t_embedder": "timestep_embedder", "y_embedder": "text_embedder"}
    for original, own in embedders.items():
        for place, linear in ((0, 1), (2, 2)):
            yield OriginalLayer(
                f"{original}.mlp.{place}", (f"time_text_embed.{own}.linear_{linear}",)
            )
    yield OriginalLayer("context_embedder", ("context_embedder",))
    yield OriginalLayer("final_layer.linear", ("proj_out",))
    yield OriginalLayer("final_layer.adaLN_modulation.1", ("norm_out.linear",), is_swapped=True)


def original_norms(blocks: int, dual_attention: Collection[int]) -> Iterator[OriginalLayer]:
    """The norms of queries and keys; adapters never change them."""
    for number in range(blocks):
        block = f"transformer_blocks.{number}"
        image, text = (f"joint_blocks.{number}.{each}_block" for each in ("x", "context"))
        for side in "qk":
            yield OriginalLayer(f"{image}.attn.ln_{side}", (f"{block}.attn.norm_{side}",))
            yield OriginalLayer(f"{text}.attn.ln_{side}", (f"{block}.attn.norm_added_{side}",))
            if number in dual_attention:
                yield OriginalLayer(f"{image}.attn2.ln_{side}", (f"{block}.attn2.norm_{side}",))


def _block(number: int, *, is_last: bool, is_dual: bool) -> Iterator[OriginalLayer]:
    block = f"transformer_blocks.{number}"
    image, text = (f"joint_blocks.{number}.{each}_block" for each in ("x", "context"))

    def three(pattern: str) -> tuple[str, ...]:
        return tuple(f"{block}.{pattern.format(each)}" for each in "qkv")

    yield OriginalLayer(f"{image}.attn.qkv", three("attn.to_{}"))
    yield OriginalLayer(f"{text}.attn.qkv", three("attn.add_{}_proj"))
    yield OriginalLayer(f"{image}.attn.proj", (f"{block}.attn.to_out.0",))
    if is_dual:
        yield OriginalLayer(f"{image}.attn2.qkv", three("attn2.to_{}"))
        yield OriginalLayer(f"{image}.attn2.proj", (f"{block}.attn2.to_out.0",))
    yield OriginalLayer(f"{image}.adaLN_modulation.1", (f"{block}.norm1.linear",))
    # The last block's text ends there, with a scale and a shift in the other order.
    yield OriginalLayer(
        f"{text}.adaLN_modulation.1", (f"{block}.norm1_context.linear",), is_swapped=is_last
    )
    streams = [(image, "ff")] if is_last else [(image, "ff"), (text, "ff_context")]
    for stream, own in streams:
        yield OriginalLayer(f"{stream}.mlp.fc1", (f"{block}.{own}.net.0.proj",))
        yield OriginalLayer(f"{stream}.mlp.fc2", (f"{block}.{own}.net.2",))
    if not is_last:
        yield OriginalLayer(f"{text}.attn.proj", (f"{block}.attn.to_add_out",))
