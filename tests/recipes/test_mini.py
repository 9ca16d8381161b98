from pathlib import Path

import pytest
import torch

from deepgen.pipeline.pipeline import DeepGenPipeline
from deepgen.recipes import mini
from deepgen.recipes.mini_data import CAPTION_DROP, LatentCache, autoencoder_batch, vocabulary_texts
from deepgen.recipes.mini_model import DEFAULTS, new_autoencoder
from deepgen.recipes.mini_tokenizer import SPECIAL_TOKENS, train_tokenizer


def test_the_vocabulary_writes_any_text_and_keeps_special_tokens_apart() -> None:
    tokenizer = train_tokenizer(vocabulary_texts(200), vocabulary=400)
    assert len(tokenizer) <= 400
    for text in ("a cat on a blue background", "把背景换成蓝色", "naïve 🌧️ café"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len(tokenizer("a cat on a blue background")["input_ids"]) <= 8
    ids = [tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS]
    assert len(set(ids)) == len(SPECIAL_TOKENS)
    assert tokenizer("".join(SPECIAL_TOKENS))["input_ids"] == ids


def test_batches_are_a_function_of_the_step(tmp_path: Path) -> None:
    assert torch.equal(autoencoder_batch(3, 2), autoencoder_batch(3, 2))
    assert not torch.equal(autoencoder_batch(3, 2), autoencoder_batch(4, 2))
    cache = LatentCache.build(new_autoencoder(0).eval(), 40)
    cache.save(tmp_path / "cache.pt")
    again = LatentCache.load(tmp_path / "cache.pt")
    first, second = cache.batch(7, 10), again.batch(7, 10)
    for mine, other in zip(first.latents, second.latents, strict=True):
        assert torch.equal(mine, other)
    assert [each.text for each in first.prompts] == [each.text for each in second.prompts]
    assert [len(each.references) for each in first.prompts] == [0] * 6 + [1] * 4
    assert [len(own) for own in first.reference_latents] == [0] * 6 + [1] * 4


def test_cached_latents_have_zero_mean_and_unit_variance() -> None:
    cache = LatentCache.build(new_autoencoder(0).eval(), 40)
    assert cache.targets.float().mean().abs() < 1e-2
    assert cache.targets.float().std() == pytest.approx(1, abs=1e-2)


def test_captions_are_dropped_as_often_as_said() -> None:
    cache = LatentCache.build(new_autoencoder(0).eval(), 40)
    texts = [each.text for step in range(60) for each in cache.batch(step, 20).prompts]
    assert texts.count("") / len(texts) == pytest.approx(CAPTION_DROP, abs=0.03)


def test_a_short_run_leaves_a_model_that_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mini, "FLOW_BATCH", 5)
    monkeypatch.setattr(mini, "SAMPLES", 40)
    monkeypatch.setattr(mini, "VOCABULARY", 400)
    arguments = [str(tmp_path), "--autoencoder-steps", "2", "--flow-steps", "2", "--threads", "1"]
    monkeypatch.setattr("sys.argv", ["mini", *arguments])
    mini.main()
    assert (tmp_path / "preview.png").exists()
    pipe = DeepGenPipeline.from_pretrained(tmp_path / "model")
    pipe.set_progress_bar_config(disable=True)
    assert pipe.model.defaults == DEFAULTS
    assert pipe("a cat", seed=0, num_inference_steps=1).images[0].size == (64, 64)
