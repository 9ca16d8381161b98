"""Random models of the kinds that scorers use, small enough to be built in a test."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

SIDE = 16
STATED: dict[str, Any] = {
    "size": {"shortest_edge": SIDE},
    "crop_size": {"height": SIDE, "width": SIDE},
    "image_mean": [0.48, 0.45, 0.41],
    "image_std": [0.27, 0.26, 0.28],
}

# What the tiny BLIP can read and say.
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "yes", "no", "is", "it", "red", "?", "[DEC]"]


def save_clip(path: Path) -> None:
    """A CLIP that spells its words."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    names = [*letters, *(f"{letter}</w>" for letter in letters)]
    names += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {name: number for number, name in enumerate(names)}
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    text = {
        **sizes,
        "num_attention_heads": 2,
        "vocab_size": len(names),
        "max_position_embeddings": 24,
        "bos_token_id": len(names) - 2,
        "eos_token_id": len(names) - 1,
        "pad_token_id": len(names) - 1,
    }
    vision = {**sizes, "num_attention_heads": 2, "image_size": SIDE, "patch_size": 8}
    torch.manual_seed(0)
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    transformers.CLIPModel(config).save_pretrained(path)
    transformers.CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(path)
    (path / "preprocessor_config.json").write_text(json.dumps(STATED), encoding="utf-8")


def save_mask2former(path: Path, labels: Sequence[str]) -> None:
    """A Mask2Former with the named classes."""
    backbone = transformers.SwinConfig(
        image_size=32,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=2,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = transformers.Mask2FormerConfig(
        backbone_config=backbone,
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=16,
        dim_feedforward=16,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        num_queries=5,
        id2label=dict(enumerate(labels)),
    )
    torch.manual_seed(0)
    transformers.Mask2FormerForUniversalSegmentation(config).save_pretrained(path)
    processor = transformers.Mask2FormerImageProcessorPil(
        size={"shortest_edge": 48, "longest_edge": 96}, size_divisor=32
    )
    processor.save_pretrained(path)


def save_blip(path: Path) -> None:
    """A BLIP that answers questions with some of its words."""
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    text = {
        **sizes,
        "num_attention_heads": 2,
        "encoder_hidden_size": 16,
        "projection_dim": 16,
        "vocab_size": len(WORDS),
        "max_position_embeddings": 32,
        "bos_token_id": 11,
        "sep_token_id": 3,
        "eos_token_id": 3,
        "pad_token_id": 0,
    }
    vision = {**sizes, "num_attention_heads": 2, "image_size": 16, "patch_size": 8}
    torch.manual_seed(0)
    config = transformers.BlipConfig(text_config=text, vision_config=vision, projection_dim=16)
    transformers.BlipForQuestionAnswering(config).save_pretrained(path)
    transformers.BertTokenizer(vocab={w: i for i, w in enumerate(WORDS)}).save_pretrained(path)
    transformers.BlipImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(path)
