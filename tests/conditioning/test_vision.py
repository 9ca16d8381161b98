from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLVisionAttention

from deepgen.conditioning.vision import (
    MEAN,
    PATCH,
    STD,
    VisionRotary,
    build_vision_tower,
    encode_references,
    shrink,
    to_patches,
)
from tests.conditioning.models import (
    golden_image,
    golden_vlm,
    image,
    random_vlm,
    take_over,
    tiny_config,
)
from tests.shared import error, golden

TOLERANCE = 2e-5


def test_golden_preprocessing():
    arrays = np.load(golden("vision/vision.npz"))
    pixels = golden_image("r0")
    assert error(pixels, arrays["r0.pixels"]) == 0
    assert error(shrink(pixels), arrays["r0.resized"]) <= TOLERANCE
    assert error(to_patches(shrink(pixels)), arrays["r0.patches"]) <= TOLERANCE
    assert tuple(shrink(golden_image("big")).shape[1:]) == tuple(arrays["big.resized"][2:])


def test_golden_image_tokens_of_images_read_together():
    arrays = np.load(golden("vision/vision.npz"))
    names = ("r0", "big")
    features = golden_vlm().encode_references([golden_image(name) for name in names])
    for name, each in zip(names, features, strict=True):
        assert error(each, arrays[f"{name}.image_embeds"]) <= TOLERANCE
        height, width = shrink(golden_image(name)).shape[1:]
        assert arrays[f"{name}.grid_thw"].tolist() == [[1, height // PATCH, width // PATCH]]


def test_images_read_together_do_not_notice_each_other():
    vlm = take_over(random_vlm())
    images = [image(0, 64, 96), image(1, 160, 32), image(2, 64, 96)]
    together = vlm.encode_references(images)
    for pixels, features in zip(images, together, strict=True):
        (alone,) = vlm.encode_references([pixels])
        assert error(features, alone) <= 1e-6


@pytest.mark.parametrize("side", [32, 512, 1056, 2048])
def test_shrinking_gives_28_pixels_for_every_32(side):
    assert shrink(torch.zeros(3, side, 32)).shape == (3, side // 32 * 28, 28)


def test_bfloat16_images_are_normalised_with_bfloat16_statistics():
    pixels = image(0, 28, 28).bfloat16()
    mean, std = (torch.tensor(each).bfloat16()[:, None, None] for each in (MEAN, STD))
    expected = to_patches(pixels.float())
    ours = to_patches(pixels)
    assert ours.dtype == torch.bfloat16
    first = (((pixels + 1) / 2 - mean) / std)[:, :14, :14]
    assert torch.equal(ours[0].view(3, 2, 14, 14), first[:, None].expand(-1, 2, -1, -1))
    assert 0 < error(ours.float(), expected) < 0.02


def test_both_frames_of_a_patch_are_the_same():
    patches = to_patches(image(0, 56, 84)).view(24, 3, 2, 14, 14)
    assert torch.equal(patches[:, :, 0], patches[:, :, 1])


def test_the_vision_tower_is_never_trained():
    vlm = take_over(random_vlm())
    (features,) = vlm.encode_references([image(0)])
    assert not features.requires_grad


def test_float32_angles_are_those_of_the_stock_tower():
    tower = build_vision_tower(tiny_config())
    positions = torch.randint(0, 60, (50, 2), generator=torch.Generator().manual_seed(0))
    states = torch.zeros(50, 32)
    stock = tower.rotary_pos_emb(states, positions)
    ours = VisionRotary(16, "fp32")(states, positions)
    for ours_part, stock_part in zip(ours, stock, strict=True):
        assert error(ours_part, stock_part) <= 1e-6


def test_bfloat16_angles_are_rounded_at_every_step():
    positions = torch.tensor([[37, 5]])
    cos, sin = VisionRotary(16, "bf16")(torch.zeros(1, 32), positions)
    frequencies = (1 / 10_000.0 ** (torch.arange(0, 8, 2) / 8)).bfloat16()
    rows = torch.tensor(37.0).bfloat16() * frequencies
    columns = torch.tensor(5.0).bfloat16() * frequencies
    angles = torch.cat([rows, columns, rows, columns])
    assert cos.dtype == torch.bfloat16
    assert torch.equal(cos[0], angles.cos())
    assert torch.equal(sin[0], angles.sin())


def test_the_precision_of_angles_changes_image_tokens():
    model, pixels = random_vlm(), image(0, 96, 96)
    fp32, bf16 = (
        take_over(model, rope_precision=precision).encode_references([pixels])[0]
        for precision in ("fp32", "bf16")
    )
    assert 1e-5 < error(bf16, fp32) < 0.2


def test_casting_the_tower_leaves_its_angles_alone():
    vlm = take_over(random_vlm())
    (before,) = vlm.encode_references([image(0)])
    # Weights that bfloat16 can hold, so that only the angles could change.
    for weight in vlm.parameters():
        weight.data = weight.data.bfloat16().float()
    (rounded,) = vlm.encode_references([image(0)])
    (after,) = vlm.to(torch.bfloat16).to(torch.float32).encode_references([image(0)])
    assert torch.equal(after, rounded)
    assert not torch.equal(after, before)


def test_a_tower_with_other_patches_is_refused():
    config = tiny_config()
    config.vision_config.patch_size = 16
    with pytest.raises(ValueError, match="'patch_size': 16"):
        build_vision_tower(config)


def test_a_tower_can_be_used_by_itself():
    tower = build_vision_tower(tiny_config())
    (features,) = encode_references(tower, [image(0, 64, 96)])
    assert features.shape == (6, 32)


def test_neighbouring_windows_of_one_length_are_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    tower = take_over(random_vlm()).require_vision()
    # Windows of 8 x 8 patches: four whole ones, and an image of less than one.
    references = [image(0, 256, 256), image(1, 32, 64)]
    batches: list[int] = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def counted(query: Tensor, *others: Tensor, **options: Any) -> Tensor:
        batches.append(len(query))
        return attend(query, *others, **options)

    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", counted)
    mine = encode_references(tower, references)
    # One layer of windows, one of whole images.
    assert batches == [4, 1, 1, 1]
    for block in tower.blocks:
        block.attn.__class__ = Qwen2_5_VLVisionAttention
    stock = encode_references(tower, references)
    assert all(torch.equal(one, other) for one, other in zip(mine, stock, strict=True))
