"""Names of GGUF files for the tensors of a model folder.

The DiT has the names of SD3's original code (``joint_blocks...``), which stable-diffusion.cpp and
ComfyUI-GGUF expect of the architecture ``sd3``; queries, keys and values are one matrix, and scale
and shift of the last norms the other way round. The VLM has llama.cpp's names (``blk...`` of the
architecture ``qwen2vl``, ``v.blk...`` of ``clip``), by the table of the ``gguf`` package; there the
vision tower's queries, keys and values are three matrices, and its patch convolution is two, one a
frame.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from deepgen.checkpoint.gguf.headers import require_gguf
from deepgen.checkpoint.original_names import original_layers, original_norms
from deepgen.conditioning.vlm_layers import LAYER_KEY

ARCHITECTURES = {"sd3": "transformer", "qwen2vl": "vlm", "clip": "vlm"}
"""Which component a file has a part of, by ``general.architecture``."""

DIT_PREFIX = "model.diffusion_model."
"""Before the names of the DiT in files that hold more than it."""

LANGUAGE, VISION = "language_model.", "visual."
HEAD = "lm_head.weight"
PATCHES = "visual.patch_embed.proj.weight"

BLOCK_OF_OURS = "transformer_blocks."

SMALLEST_TABLE = 3
"""Blocks that the package's table is asked for: it numbers the layers of the merger as blocks."""


@dataclass(frozen=True, slots=True)
class Link:
    """Tensors of a folder and those of a GGUF file that hold the same values.

    At least one side is one tensor. Where a side has several, they are its equal parts: along the
    rows, or, of a convolution, one a frame.
    """

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    is_swapped: bool = False
    """Whether the halves of the rows are the other way round."""
    has_frames: bool = False


def dit_links(names: Collection[str]) -> list[Link]:
    """All links of a DiT.

    Args:
        names: Of its tensors, in diffusers' names.
    """
    blocks = {int(name.split(".")[1]) for name in names if name.startswith(BLOCK_OF_OURS)}
    dual = {int(name.split(".")[1]) for name in names if ".attn2." in name}
    links = []
    for layer in (*original_layers(len(blocks), dual), *original_norms(len(blocks), dual)):
        for end in ("weight", "bias"):
            ours = tuple(f"{own}.{end}" for own in layer.own)
            # Norms have no biases, and models without norms have neither.
            if all(name in names for name in ours):
                links.append(Link(ours, (f"{layer.name}.{end}",), layer.is_swapped))
    links += [
        Link((f"pos_embed.proj.{end}",), (f"x_embedder.proj.{end}",)) for end in ("weight", "bias")
    ]
    return [*links, Link(("pos_embed.pos_embed",), ("pos_embed",))]


def language_links(names: Collection[str]) -> list[Link]:
    """All links of the language model.

    Args:
        names: Of its tensors, as :func:`module_key` spells them.
    """
    gguf = require_gguf()
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2VL, _depth(names))
    return [
        Link((name,), (_their_name(table, _model_name(name)),))
        for name in names
        if not name.startswith(VISION)
    ]


def vision_links(names: Collection[str]) -> list[Link]:
    """All links of the vision tower, as :func:`language_links`."""
    gguf = require_gguf()
    numbers = [int(name.split(".")[2]) for name in names if name.startswith("visual.blocks.")]
    blocks = max(SMALLEST_TABLE, max(numbers, default=0) + 1)
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH.MMPROJ, blocks)
    return list(_vision(table, [name for name in names if name.startswith(VISION)]))


def _vision(table: Any, names: Collection[str]) -> Iterator[Link]:
    for name in names:
        if name == PATCHES:
            first = _their_name(table, name)
            yield Link((name,), (first, f"{first}.1"), has_frames=True)
        elif ".attn.qkv." in name:
            thirds = (name.replace(".qkv.", f".{each}.") for each in "qkv")
            yield Link((name,), tuple(_their_name(table, each) for each in thirds))
        else:
            yield Link((name,), (_their_name(table, name),))


def _model_name(name: str) -> str:
    """The name that transformers 4.56 wrote, and the package's table has."""
    return name if name == HEAD else f"model.{name.removeprefix(LANGUAGE)}"


def _their_name(table: Any, name: str) -> str:
    """A name by the package's table; the name itself where it has none."""
    found: str | None = table.get_name(name, (".weight", ".bias"))
    return name if found is None else found


def _depth(names: Collection[str]) -> int:
    """Decoder layers, from the names of their tensors."""
    numbers = [
        int(found[1])
        for name in names
        if name.startswith(LANGUAGE) and (found := LAYER_KEY.search(name))
    ]
    return max(numbers, default=0) + 1
