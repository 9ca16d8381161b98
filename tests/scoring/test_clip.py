from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from PIL import Image
from torch.nn.functional import cosine_similarity

from deepgen.errors import ScorerError
from deepgen.scoring.clip import Clip, ClipSimilarity, Preprocessing, clip_scores, load_clip
from deepgen.scoring.scorer import ScorerInput
from tests.scoring.tiny_models import SIDE, STATED, save_clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random CLIP that spells its words."""
    path = tmp_path_factory.mktemp("clip")
    save_clip(path)
    return path


@pytest.fixture(scope="module")
def clip(folder: Path) -> Clip:
    return load_clip(folder)


def image(seed: int, width: int = SIDE, height: int = SIDE) -> Image.Image:
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=generator)
    return Image.fromarray(levels.numpy())


def test_a_score_is_two_and_a_half_cosines_of_what_the_model_says(clip: Clip) -> None:
    images, texts = [image(1), image(2)], ["a red cat", "dogs"]
    pixels = torch.stack([clip.preprocessing(each) for each in images])
    tokens = clip.tokenizer(
        [f"A photo depicts {text}" for text in texts], padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        said = clip.model(pixel_values=pixels, **tokens)
    expected = 2.5 * cosine_similarity(said.image_embeds, said.text_embeds).clamp(min=0)
    assert clip.score(images, texts) == pytest.approx(expected.tolist(), abs=1e-6)
    assert expected.max() > 0


def test_opposite_directions_score_zero_and_equal_ones_the_weight() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    assert clip_scores(rows, torch.tensor([[1.0, 0.0]] * 3)).tolist() == [2.5, 0.0, 0.0]


def test_embeddings_are_unit_vectors_whatever_else_is_in_the_batch(clip: Clip) -> None:
    texts = ["cat", "a much longer text"]
    both = clip.embed_texts(texts)
    torch.testing.assert_close(both.norm(dim=-1), torch.ones(2))
    torch.testing.assert_close(both[:1], clip.embed_texts(texts[:1]))
    images = [image(1), image(2, 40, 24)]
    torch.testing.assert_close(clip.embed_images(images)[1:], clip.embed_images(images[1:]))


def test_a_text_is_cut_where_the_model_stops_reading(clip: Clip) -> None:
    longest = "a " * 22  # with start and end the 24 tokens that the tiny model reads
    cut, whole = clip.embed_texts([longest + "b c d", longest])
    torch.testing.assert_close(cut, whole)
    assert not torch.allclose(cut, clip.embed_texts(["b " * 22])[0])


@pytest.mark.parametrize(("width", "height"), [(16, 16), (40, 40), (64, 32), (24, 48), (10, 10)])
def test_images_are_prepared_as_transformers_does_it(width: int, height: int) -> None:
    processor = getattr(transformers, "CLIPImageProcessorPil", transformers.CLIPImageProcessor)
    expected = processor(**STATED)(image(5, width, height), return_tensors="pt")["pixel_values"]
    preprocessing = Preprocessing(
        side=SIDE, mean=tuple(STATED["image_mean"]), std=tuple(STATED["image_std"])
    )
    actual = preprocessing(image(5, width, height))
    torch.testing.assert_close(actual, torch.as_tensor(expected)[0], atol=1e-5, rtol=0)


def test_sizes_may_be_plain_numbers(tmp_path: Path) -> None:
    stated = {**STATED, "size": SIDE, "crop_size": SIDE}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated), encoding="utf-8")
    assert Preprocessing.from_folder(tmp_path).side == SIDE
    stated["crop_size"] = 8
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated), encoding="utf-8")
    with pytest.raises(ScorerError, match=r"crops \[8\] pixels from images resized to 16"):
        Preprocessing.from_folder(tmp_path)


def test_each_image_needs_its_text(clip: Clip) -> None:
    with pytest.raises(ValueError, match="2 images and 1 texts"):
        clip.score([image(1), image(2)], ["cat"])


def test_a_folder_without_a_clip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScorerError, match="no CLIP could be loaded from"):
        load_clip(tmp_path)


def test_a_similarity_is_the_cosine_with_the_prompt_alone(clip: Clip) -> None:
    scorer = ClipSimilarity(clip, {})
    inputs = [ScorerInput(image=image(seed), prompt="a red cat") for seed in (1, 2)]
    with torch.no_grad():
        tokens = clip.tokenizer(["a red cat"], return_tensors="pt")
        pixels = torch.stack([clip.preprocessing(each.image) for each in inputs])
        said = clip.model(pixel_values=pixels, **tokens)
    expected = cosine_similarity(said.image_embeds, said.text_embeds)
    answers = scorer.score(inputs)
    assert [each.value for each in answers] == pytest.approx(expected.tolist(), abs=1e-6)
    pair = cosine_similarity(said.image_embeds[:1], said.image_embeds[1:])
    assert scorer.take_metrics()["diversity"] == pytest.approx(1 - pair.item(), abs=1e-5)
    assert scorer.take_metrics() == {}


def test_equal_images_have_no_diversity_and_images_of_other_prompts_are_no_group(
    clip: Clip,
) -> None:
    scorer = ClipSimilarity(clip, {})
    scorer.score([ScorerInput(image=image(1), prompt="cat") for _ in range(3)])
    scorer.score([ScorerInput(image=image(seed), prompt=f"{seed}") for seed in (1, 2)])
    assert scorer.take_metrics()["diversity"] == pytest.approx(0, abs=1e-6)


def test_a_clip_that_sees_no_difference_is_found(clip: Clip) -> None:
    ClipSimilarity(clip, {}).check()

    class Blind(Clip):
        def embed_images(self, images: object) -> torch.Tensor:
            return torch.ones(len(images), 1)  # type: ignore[arg-type]

        def embed_texts(self, texts: object) -> torch.Tensor:
            return torch.ones(len(texts), 1)  # type: ignore[arg-type]

    blind = Blind(clip.model, clip.tokenizer, clip.preprocessing)
    with pytest.raises(ScorerError, match="expected two different ones"):
        ClipSimilarity(blind, {}).check()
