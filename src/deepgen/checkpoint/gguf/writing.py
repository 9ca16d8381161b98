"""Model folders to GGUF files: ``dit.gguf``, ``vlm.gguf`` and ``mmproj-vlm.gguf``.

One tensor is in memory at a time. What is not quantized follows what ComfyUI-GGUF and llama.cpp do:
biases, norms and other vectors are float32, and float16 whatever has no rows of whole blocks (for
q4_k those of q8_0 come first), the convolutions, and the DiT's embedders and last layer, which are
small and change the image most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from deepgen.checkpoint.files import ModelFolder
from deepgen.checkpoint.folder import load_on_meta
from deepgen.checkpoint.gguf import q4_k
from deepgen.checkpoint.gguf.headers import require_gguf
from deepgen.checkpoint.gguf.names import Link, dit_links, language_links, vision_links
from deepgen.checkpoint.gguf.reading import their_shape
from deepgen.checkpoint.headers import StoredTensor
from deepgen.checkpoint.vlm_merging import vlm_weights
from deepgen.checkpoint.weights import TensorReader
from deepgen.checkpoint.writing import atomic_folder
from deepgen.conditioning.vision import MEAN, STD
from deepgen.errors import CheckpointError, shown

GGUFType = Literal["f16", "q8_0", "q4_k"]
TYPES: tuple[GGUFType, ...] = ("f16", "q8_0", "q4_k")

DIT_FILE = "dit.gguf"
LANGUAGE_FILE = "vlm.gguf"
VISION_FILE = "mmproj-vlm.gguf"
"""ComfyUI-GGUF finds it beside the language model's by these two parts of its name."""

PRECISE = (
    "final_layer.",
    "context_embedder.",
    "t_embedder.",
    "y_embedder.",
    "x_embedder.",
    "pos_embed",
    "v.patch_embd.",
)
"""Beginnings of names that are never quantized."""

FILE_TYPES = {"f16": "MOSTLY_F16", "q8_0": "MOSTLY_Q8_0", "q4_k": "MOSTLY_Q4_K_S"}

IMAGE_SIZE = 560
"""What llama.cpp's converter writes where the configuration has none, as Qwen2.5-VL's has not."""
VISION_EPS = 1e-6

CHUNK_VALUES = 1 << 18
"""Values that are quantized at a time: what the processor's cache holds."""


@dataclass(frozen=True, slots=True)
class GGUFExport:
    """What was written."""

    tensors: Mapping[str, int]
    """Number of tensors by file."""
    types: Mapping[str, int]
    """Number of tensors by type."""
    fallen_back: Mapping[str, int]
    """Of them, matrices that should have had the type asked for and whose rows are no whole blocks
    of it, by the type that they have instead."""


def folder_to_gguf(
    source: Path, target: Path, *, type: GGUFType = "f16", overwrite: bool = False
) -> GGUFExport:
    """Make GGUF files of a model folder's DiT and VLM.

    The bridge, the VAE and the tokenizer have no place in the format.

    Args:
        source: The model folder.
        target: The folder of files; it appears complete or not at all.
        type: Of the matrices that may be quantized.
        overwrite: Replace an existing folder of such files.

    Raises:
        CheckpointError: The package ``gguf`` is missing, the folder is unusable, or has values
            beyond the range of float16.
    """
    require_gguf()
    vlm = load_on_meta(source).conditioner.vlm
    dit = ModelFolder(source).stored("transformer")
    language = vlm_weights(source / "vlm")
    # In the order of the folder's own files, so that each is read once from beginning to end.
    plans = {
        DIT_FILE: _Plan("sd3", dit, dit_links(dit), type),
        LANGUAGE_FILE: _Plan("qwen2vl", language, language_links(language), type),
        VISION_FILE: _Plan("clip", language, vision_links(language), type),
    }
    text, vision = vlm.config.text_config, vlm.config.vision_config
    kept = sum(name.endswith(".input_layernorm.weight") for name in language)
    with atomic_folder(target, overwrite=overwrite, marker=DIT_FILE) as folder:
        for name, plan in plans.items():
            writer = plan.writer()
            if name == LANGUAGE_FILE:
                _describe_language(writer, text, kept)
            elif name == VISION_FILE:
                _describe_vision(writer, vision)
            plan.write(writer, folder / name)
    kinds = [kind for plan in plans.values() for kind in plan.kinds.values()]
    others = Counter(kind for plan in plans.values() for kind in plan.fallen_back)
    return GGUFExport(
        {name: len(plan.kinds) for name, plan in plans.items()},
        {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
        dict(others),
    )


class _Plan:
    """The tensors of one file."""

    def __init__(
        self,
        architecture: str,
        stored: Mapping[str, StoredTensor],
        links: Sequence[Link],
        type: GGUFType,
    ) -> None:
        self.architecture, self.stored, self.type = architecture, stored, type
        # The table of positions may be missing: it is computed.
        self.links = [link for link in links if all(name in stored for name in link.ours)]
        self.shapes = {
            name: their_shape(link, stored[link.ours[0]].shape)
            for link in self.links
            for name in link.theirs
        }
        self.kinds = {name: self._kind(name, shape) for name, shape in self.shapes.items()}

    def _kind(self, name: str, shape: tuple[int, ...]) -> str:
        """Type of a tensor, as ggml spells it."""
        if len(shape) == 1:
            return "F32"
        if len(shape) != 2 or name.startswith(PRECISE):
            return "F16"
        sizes = require_gguf().GGML_QUANT_SIZES
        wanted = self.type.upper()
        # Rows of no whole blocks of 256 mostly are of blocks of 32, and readers take each tensor's
        # type from its own header.
        for kind in ("Q4_K", "Q8_0") if wanted == "Q4_K" else (wanted,):
            if shape[-1] % sizes[_ggml_type(kind)][0] == 0:
                return kind
        return "F16"

    @property
    def fallen_back(self) -> list[str]:
        """Types of matrices that would have the type asked for but for the length of their rows."""
        return [
            kind
            for name, kind in self.kinds.items()
            if len(self.shapes[name]) == 2
            and not name.startswith(PRECISE)
            and kind != self.type.upper()
        ]

    def writer(self) -> Any:
        """The package's writer, with what every file says of itself."""
        gguf = require_gguf()
        writer = gguf.GGUFWriter(None, self.architecture)
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        writer.add_file_type(gguf.LlamaFileType[FILE_TYPES[self.type]])
        return writer

    def write(self, writer: Any, path: Path) -> None:
        """Write the file, tensor by tensor."""
        sizes = require_gguf().GGML_QUANT_SIZES
        for name, shape in self.shapes.items():
            kind = _ggml_type(self.kinds[name])
            values, size = sizes[kind]
            count = int(np.prod(shape)) // values * size
            writer.add_tensor_info(name, shape, np.dtype(np.float32), count, raw_dtype=kind)
        try:
            writer.write_header_to_file(path)
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for name, value in self._values():
                writer.write_tensor_data(_encoded(name, value, self.kinds[name]))
        finally:
            if writer.fout is not None:
                writer.close()

    def _values(self) -> Iterator[tuple[str, Tensor]]:
        """Tensors of the file by name, in order."""
        read = TensorReader()
        for link in self.links:
            values = [read(self.stored[name]) for name in link.ours]
            if link.is_swapped:
                values = [torch.cat(values[0].chunk(2)[::-1])]
            whole = values[0] if len(values) == 1 else torch.cat(values)
            if link.has_frames:
                yield from zip(link.theirs, whole.unbind(2), strict=True)
            else:
                yield from zip(link.theirs, whole.chunk(len(link.theirs)), strict=True)


def _encoded(name: str, value: Tensor, kind: str) -> Any:
    """A tensor as bytes or numbers of a type.

    Raises:
        CheckpointError: Values are not finite, or exceed the range of float16.
    """
    if kind == "F32":
        return value.float().contiguous().numpy()
    largest = float(torch.stack(torch.aminmax(value)).abs().max()) if value.numel() else 0.0
    # As scales, too, are float16; the comparison is false of NaN.
    if not largest <= torch.finfo(torch.float16).max:
        raise CheckpointError(
            f"{shown(name)} has values up to {largest:.3g}, which float16 cannot hold, and GGUF's "
            "blocks have float16 scales"
        )
    if kind == "F16":
        return value.half().contiguous().numpy()
    gguf = require_gguf()
    values, size = gguf.GGML_QUANT_SIZES[_ggml_type(kind)]
    rows, columns = value.shape
    found = np.empty((rows, columns // values * size), np.uint8)
    step = max(1, CHUNK_VALUES // columns)
    for start in range(0, rows, step):
        numbers = value[start : start + step].float().numpy()
        found[start : start + step] = (
            q4_k.quantize(numbers)
            if kind == "Q4_K"
            else gguf.quants.quantize(numbers, _ggml_type(kind))
        )
    return found


def _ggml_type(kind: str) -> Any:
    return require_gguf().GGMLQuantizationType[kind]


def _describe_language(writer: Any, text: Any, layers: int) -> None:
    """Sizes of the language model, by llama.cpp's keys for ``qwen2vl``.

    The vocabulary is not among them: stable-diffusion.cpp and ComfyUI have their own.
    """
    rope = text.rope_parameters
    writer.add_context_length(text.max_position_embeddings)
    writer.add_embedding_length(text.hidden_size)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(text.intermediate_size)
    writer.add_head_count(text.num_attention_heads)
    writer.add_head_count_kv(text.num_key_value_heads)
    writer.add_layer_norm_rms_eps(text.rms_norm_eps)
    writer.add_rope_freq_base(rope["rope_theta"])
    # Four axes in llama.cpp, of which Qwen2.5-VL has three.
    writer.add_rope_dimension_sections([*rope["mrope_section"], 0])
    writer.add_vocab_size(text.vocab_size)


def _describe_vision(writer: Any, vision: Any) -> None:
    """Sizes of the vision tower, by llama.cpp's keys for ``clip``."""
    gguf = require_gguf()
    writer.add_type(gguf.GGUFType.MMPROJ)
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type(gguf.VisionProjectorType.QWEN25VL)
    writer.add_vision_use_silu(True)
    writer.add_vision_image_size(IMAGE_SIZE)
    writer.add_vision_patch_size(vision.patch_size)
    writer.add_vision_spatial_merge_size(vision.spatial_merge_size)
    writer.add_vision_embedding_length(vision.hidden_size)
    writer.add_vision_feed_forward_length(vision.intermediate_size)
    writer.add_vision_projection_dim(vision.out_hidden_size)
    writer.add_vision_block_count(vision.depth)
    writer.add_vision_head_count(vision.num_heads)
    writer.add_vision_attention_layernorm_eps(VISION_EPS)
    writer.add_vision_image_mean(MEAN)
    writer.add_vision_image_std(STD)
    # Every so many blocks attend to the whole image, the others to windows.
    whole = list(vision.fullatt_block_indexes)
    if whole:
        writer.add_vision_n_wa_pattern(whole[0] + 1)
