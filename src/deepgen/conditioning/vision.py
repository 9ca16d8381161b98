"""Reference images through the VLM's vision tower (Qwen2.5-VL)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import Qwen2_5_VLConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionTransformerPretrainedModel as VisionTower,
)
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VLVisionAttention,
    apply_rotary_pos_emb_vision,
)

from deepgen.config.model import SIZE_UNIT, RopePrecision
from deepgen.devices import send
from deepgen.types import Pixels

PATCH = 14
MERGE = 2
"""Patches per side that the tower merges into one token."""
MAX_WINDOW = 1 << 16
"""Pixels; the released tower attends within 112."""
FRAMES = 2
"""Frames per patch: the tower reads video, and an image is one frame repeated."""
# A token of 2 x 2 patches of 14 pixels covers 32 pixels of the image, so that the VLM and the DiT
# (VAE by 8, patch 2, merged by 2) use the same grid.
SHRINK = MERGE * PATCH / SIZE_UNIT

# Statistics of CLIP's training images (Radford et al. 2021), which Qwen2.5-VL was trained with.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

ROPE_THETA = 10_000.0

Patches = Float[Tensor, "patches 1176"]
"""Pixels of one patch each: channel, frame, row, column; 3 x 2 x 14 x 14."""


def shrink(pixels: Pixels) -> Pixels:
    """Scale an image by 28/32: bilinear, without antialiasing, as DeepGen was trained."""
    return F.interpolate(
        pixels[None], scale_factor=SHRINK, mode="bilinear", align_corners=False, antialias=False
    )[0]


def to_patches(pixels: Pixels) -> Patches:
    """Normalise a shrunk image and cut it into patches, with the four of a token adjacent.

    All in the dtype of the pixels, the constants too: bfloat16 models were trained on statistics
    rounded to bfloat16.
    """
    mean, std = (
        send(torch.tensor(values, dtype=pixels.dtype), pixels.device)[:, None, None]
        for values in (MEAN, STD)
    )
    normalized = ((pixels + 1) / 2 - mean) / std
    channels, height, width = normalized.shape
    cells = normalized.view(
        channels, height // (MERGE * PATCH), MERGE, PATCH, width // (MERGE * PATCH), MERGE, PATCH
    )
    # channel, cell row, row in cell, y, cell column, column in cell, x
    patches = cells.permute(1, 4, 2, 5, 0, 3, 6).unsqueeze(5)
    return patches.expand(-1, -1, -1, -1, -1, FRAMES, -1, -1).flatten(4).flatten(0, 3)


class VisionRotary(nn.Module):
    """Rotary embedding of the vision tower, in the precision that a model was trained with.

    The public implementation casts the tower to bfloat16 as a whole, so that frequencies, angles,
    cosines and sines are all rounded (``bf16``). Frequencies are kept outside the module's
    buffers: those change with every ``.to(dtype)``, and stay empty on the meta device.
    """

    def __init__(self, head_dim: int, precision: RopePrecision) -> None:
        super().__init__()
        half = head_dim // 2
        exponents = torch.arange(0, half, 2, dtype=torch.float32, device="cpu") / half
        self.frequencies = 1 / ROPE_THETA**exponents
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32

    def forward(
        self, hidden_states: Tensor, position_ids: Int[Tensor, "patches 2"]
    ) -> tuple[Float[Tensor, "patches head_dim"], Float[Tensor, "patches head_dim"]]:
        """Cosines and sines of the angles of each patch, laid out row, column, row, column."""
        frequencies = self.frequencies.to(hidden_states.device, self.dtype)
        angles = (position_ids.to(self.dtype)[..., None] * frequencies).flatten(1)
        angles = torch.cat([angles, angles], dim=-1)
        return angles.cos(), angles.sin()


class WindowAttention(Qwen2_5_VLVisionAttention):  # type: ignore[misc]  # Has no types.
    """The tower's attention, with equally long neighbouring windows or images as one batch.

    transformers calls the kernel once per window, 16 times per layer for an image of 512 px, and
    waits for the device in every layer to learn how long the windows are.
    """

    def forward(
        self,
        hidden_states: Float[Tensor, "patches width"],
        cu_seqlens: Int[Tensor, " windows_and_end"],
        position_embeddings: Any = None,
        **options: Any,
    ) -> Float[Tensor, "patches width"]:
        """Attention of each patch to its window.

        Args:
            hidden_states: Patches, window after window.
            cu_seqlens: Where windows begin, and the end of the last.
            position_embeddings: Cosines and sines.
            options: What transformers passes on to other kernels.
        """
        split = self.qkv(hidden_states).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = split.unbind(1)
        query, key = apply_rotary_pos_emb_vision(query, key, *position_embeddings)
        outputs, begin = [], 0
        for length, count in _runs(cu_seqlens):
            own_query, own_key, own_value = (
                each[begin : begin + count * length].unflatten(0, (count, length)).transpose(1, 2)
                for each in (query, key, value)
            )
            mixed = F.scaled_dot_product_attention(
                own_query, own_key, own_value, scale=self.scaling
            )
            outputs.append(mixed.transpose(1, 2).flatten(0, 1))
            begin += count * length
        out: Tensor = self.proj(torch.cat(outputs).flatten(1))
        return out


def _runs(boundaries: Int[Tensor, " windows_and_end"]) -> list[tuple[int, int]]:
    """Lengths between boundaries, and how many equal ones follow each other.

    They are kept with the tensor, which is the same in all layers, since reading it waits for the
    device.
    """
    known: list[tuple[int, int]] | None = getattr(boundaries, "runs", None)
    if known is None:
        places = boundaries.tolist()
        lengths = [end - start for start, end in pairwise(places)]
        known = [(length, len(list(equal))) for length, equal in groupby(lengths)]
        boundaries.runs = known  # type: ignore[attr-defined]
    return known


def build_vision_tower(config: Qwen2_5_VLConfig) -> VisionTower:
    """The vision tower of a Qwen2.5-VL configuration, on torch's current default device."""
    vision: Any = config.vision_config
    expected = {"patch_size": PATCH, "spatial_merge_size": MERGE, "temporal_patch_size": FRAMES}
    found = {name: getattr(vision, name) for name in expected}
    if found != expected:
        raise ValueError(f"the vision tower must have {expected}, got {found}")
    if not PATCH * MERGE <= vision.window_size <= MAX_WINDOW:
        raise ValueError(
            f"window_size must be from {PATCH * MERGE} to {MAX_WINDOW}, got {vision.window_size}"
        )
    vision = copy.deepcopy(vision)
    vision._attn_implementation = "sdpa"
    tower = VisionTower(vision)
    for block in tower.blocks:
        block.attn.__class__ = WindowAttention
    return tower


# The released model learned with image features as constants; nothing trains the tower.
@torch.no_grad()
def encode_references(
    tower: VisionTower, references: Sequence[Pixels]
) -> list[Float[Tensor, "_ channels"]]:
    """Image tokens of each reference, in raster order, from one forward pass.

    Attention never crosses images, so each is encoded as it would be alone.
    """
    weight: Tensor = tower.patch_embed.proj.weight
    shrunk = [shrink(send(pixels, weight.device).to(weight.dtype)) for pixels in references]
    grids = [(1, pixels.shape[1] // PATCH, pixels.shape[2] // PATCH) for pixels in shrunk]
    output = tower(
        torch.cat([to_patches(pixels) for pixels in shrunk]),
        grid_thw=torch.tensor(grids, device=weight.device),
    )
    tokens = [rows * columns // MERGE**2 for _, rows, columns in grids]
    return list(output.pooler_output.split(tokens))
