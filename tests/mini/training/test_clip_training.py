"""A CLIP of the mini's world: batches, loss, and the folder that the reward reads."""

from pathlib import Path

import pytest
import torch
from transformers import CLIPTokenizer

from deepgen.config.mini import MiniConfig
from deepgen.mini.training.clip_training import (
    ClipBatch,
    ClipBatches,
    ClipObjective,
    new_clip,
    save_clip,
    train_clip_tokenizer,
)
from deepgen.mini.training.parts import clip_part
from deepgen.mini.training.samples import SIDE, training_sample
from deepgen.mini.world.drawing import draw
from deepgen.rl.rewards.registry import create_reward
from deepgen.scoring.scorer import ScorerInput


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    texts = [training_sample(number, 0).text for number in range(300)]
    return train_clip_tokenizer(texts, vocabulary=700)


def test_the_vocabulary_has_words_of_the_world_and_spells_all_others(
    tokenizer: CLIPTokenizer,
) -> None:
    assert len(tokenizer) <= 700
    assert tokenizer.tokenize("a background") == ["a</w>", "background</w>"]
    odd = tokenizer("zwölf 🌧️ 猫", add_special_tokens=False)["input_ids"]
    assert not {tokenizer.unk_token_id, tokenizer.bos_token_id} & set(odd)
    ids = tokenizer("a cat")["input_ids"]
    assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)


def test_a_batch_depends_on_its_step_alone_and_says_what_images_show() -> None:
    (first,), (again,), (other,) = (ClipBatches(batch_size=4)(step) for step in (0, 0, 1))
    assert torch.equal(first.images, again.images) and first.texts == again.texts
    assert first.texts != other.texts
    assert first.images.shape == (4, SIDE, SIDE, 3)
    assert all(each.startswith("background ") for each in first.contents)


def test_images_of_the_same_content_are_no_negatives(tokenizer: CLIPTokenizer) -> None:
    images = torch.zeros(2, SIDE, SIDE, 3, dtype=torch.uint8)
    objective = ClipObjective(tokenizer)
    model = new_clip(tokenizer, seed=0)
    losses = [
        objective(
            model,
            ClipBatch(images=images, texts=["a cat", "two dogs"], contents=contents),
            torch.Generator().manual_seed(0),
        )
        for contents in (["a", "a"], ["a", "b"])
    ]
    assert losses[0].total == 0 and losses[0].parts["accuracy"] == 1
    assert losses[1].total > 0.3


def test_a_step_lowers_the_loss_of_its_batch(tokenizer: CLIPTokenizer) -> None:
    part = clip_part(tokenizer, MiniConfig(batch_size=8), torch.device("cpu"))
    (batch,) = part.batches(0)
    optimizer = torch.optim.Adam(part.model.parameters(), lr=1e-3)
    losses = []
    for _ in range(6):
        loss = part.objective(part.model, batch, torch.Generator().manual_seed(0)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_the_reward_reads_what_was_saved(tokenizer: CLIPTokenizer, tmp_path: Path) -> None:
    model = new_clip(tokenizer, seed=0)
    save_clip(model, tokenizer, tmp_path / "clip")
    reward = create_reward("clip", weights=str(tmp_path / "clip"))
    reward.check()
    (batch,) = ClipBatches(batch_size=2)(0)
    own = [training_sample(number, 0, split="clip") for number in range(2)]
    scored = reward.scorer.score(
        [ScorerInput(image=draw(each.target), prompt=each.text) for each in own]
    )
    pixels = batch.images.permute(0, 3, 1, 2).float() / 127.5 - 1
    tokens = tokenizer(list(batch.texts), padding=True, return_tensors="pt")
    with torch.no_grad():
        found = model.eval()(pixel_values=pixels, **tokens)
        cosines = (found.image_embeds * found.text_embeds).sum(dim=-1)
    assert [each.value for each in scored] == pytest.approx(cosines.tolist(), abs=1e-5)
