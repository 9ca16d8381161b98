"""Stage 0 of the mini, and all stages after one another at toy size."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deepgen.cli.main import main
from deepgen.conditioning.prompts import PromptTokenizer
from deepgen.config.codec import write_yaml
from deepgen.config.mini import MiniConfig, plan_mini
from deepgen.errors import TrainingError
from deepgen.mini.training.caption_pretraining import (
    CaptioningObjective,
    captioning_sample,
)
from deepgen.mini.training.dataset import SampleSource, vocabulary_texts, write_samples
from deepgen.mini.training.label_pretraining import (
    LabelBatch,
    LabelBatches,
    LabelConditioned,
    LatentBatches,
    word_numbers,
)
from deepgen.mini.training.model import BRIDGE, new_autoencoder, new_dit, new_language_model
from deepgen.mini.training.run import train_mini
from deepgen.mini.training.samples import SIDE, any_sample, labels
from deepgen.mini.training.tokenizer import SPECIAL_TOKENS, train_tokenizer
from deepgen.pipeline.pipeline import DeepGenPipeline
from deepgen.train.loop import LoopConfig
from deepgen.train.optim import MatrixOptimizer
from deepgen.train.stream import ByStep
from deepgen.train.trainer import Trainer
from deepgen.vae import LatentCodec

TOY = MiniConfig(
    samples=100,
    autoencoder_steps=1,
    captioning_steps=1,
    label_steps=1,
    pretrain_steps=1,
    sft_steps=1,
    clip_steps=1,
    rl_steps=1,
    rl_prompts=1,
    batch_size=4,
)


def test_without_a_compiler_it_says_so_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> str:
        raise RuntimeError

    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", missing)
    config = replace(TOY, compile=True, output=tmp_path / "run")
    with pytest.raises(TrainingError, match=r"needs a C\+\+ compiler"):
        train_mini(config, torch.device("cpu"))
    assert not config.output.exists()


def test_training_samples_become_a_data_set_of_images_and_edits(tmp_path: Path) -> None:
    data = write_samples(tmp_path / "data", 100)
    assert len(data) == 100
    record = data.record(7)
    own = any_sample(7)
    assert record.prompts[0].text == own.text
    assert len(record.references) == len(own.sources)
    assert (record.target.height, record.target.width) == (SIDE, SIDE)


def test_the_vocabulary_writes_any_text_and_keeps_special_tokens_apart() -> None:
    tokenizer = train_tokenizer(vocabulary_texts(200), vocabulary=400)
    assert len(tokenizer) <= 400
    for text in ("a cat on a blue background", "把背景换成蓝色", "naïve 🌧️ café"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len(tokenizer("a cat on a blue background")["input_ids"]) <= 8
    ids = [tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS]
    assert len(set(ids)) == len(SPECIAL_TOKENS)
    assert tokenizer("".join(SPECIAL_TOKENS))["input_ids"] == ids


def test_another_number_of_samples_is_another_source() -> None:
    assert SampleSource(100).revision() == SampleSource(100).revision()
    assert SampleSource(100).revision() != SampleSource(101).revision()


def test_captioning_samples_answer_with_the_labels_of_their_images() -> None:
    for number in range(60):
        asked = captioning_sample(number)
        own = any_sample(number)
        if asked.prompt.text == own.text:
            assert asked.answer in (labels(own.target), labels(own.target, places=False))
            assert len(asked.prompt.references) == len(own.sources)
        else:
            assert any(asked.answer in labels(each) for each in (own.target, *own.sources))


def test_captioning_pre_training_can_memorise_answers() -> None:
    tokenizer = train_tokenizer(vocabulary_texts(100), vocabulary=600)
    model = new_language_model(tokenizer, seed=0)
    tokenize = PromptTokenizer(tokenizer)
    found = map(captioning_sample, range(40))
    samples = [each for each in found if not each.prompt.references][:3]
    objective = CaptioningObjective(tokenize)

    def accuracy() -> float:
        return float(objective(model, samples, torch.Generator()).parts["accuracy"])

    trainer = Trainer(
        model,
        objective,
        ByStep(lambda step: [samples]),
        MatrixOptimizer(model.named_parameters(), lr=3e-3, adamw_names=("embed_tokens",)),
        LoopConfig(steps=40, schedule=lambda step: 1.0),
    )
    assert accuracy() < 0.1
    for _ in range(40):
        trainer.step()
    assert accuracy() == 1.0


def test_labels_differ_by_place_and_by_what_is_there() -> None:
    torch.manual_seed(0)
    model = LabelConditioned(new_dit(0), BRIDGE)
    texts = ["background pink; fox", "background pink; fox left", "background pink; word A C", ""]
    words = torch.tensor([word_numbers(each) for each in texts])
    fox, left, word, nothing = (each.prompt_embeds for each in model.conditions(words))
    assert torch.equal(fox[:2], left[:2])
    assert not torch.equal(fox[2], left[2])
    assert [int(each.any(dim=1).sum()) for each in (fox[1:], word[1:], nothing[1:])] == [2, 4, 0]


def test_latents_are_used_several_times_in_another_order() -> None:
    codec = LatentCodec(new_autoencoder(0))
    rendered: list[int] = []
    render = LabelBatches(sizes=(2, 1, 1), side=64)

    def counted(number: int) -> list[LabelBatch]:
        rendered.append(number)
        return render(number)

    def first_latents(batches: LatentBatches, step: int) -> torch.Tensor:
        return batches(step)[0].latents

    batches = LatentBatches(counted, codec, uses=3, block=2)
    steps = [first_latents(batches, step) for step in range(6)]
    assert rendered == [0, 1]
    for place in range(0, 6, 2):
        pair = steps[place : place + 2]
        assert any(torch.equal(pair[0], each) for each in steps[:2])
        assert not torch.equal(*pair)
    resumed = LatentBatches(render, codec, uses=3, block=2)
    assert torch.equal(first_latents(resumed, 5), steps[5])
    references = [each.references.shape[1] for each in batches(6)]
    assert references == [0, 1, 2]
    assert rendered == [0, 1, 2]


def test_all_stages_make_a_model_that_draws(tmp_path: Path) -> None:
    config = replace(TOY, output=tmp_path / "run")
    begun: list[str] = []

    def watch(stage: str) -> tuple[()]:
        begun.append(stage)
        return ()

    path = train_mini(config, torch.device("cpu"), watch)
    assert begun == list(plan_mini(config))
    assert begun[-3:] == ["sft", "clip", "rl"]
    pipe = DeepGenPipeline.from_pretrained(path)
    image = pipe("a fox", seed=0, num_inference_steps=2).images[0]
    assert image.size == (SIDE, SIDE)
    provenance = pipe.model.provenance
    assert (provenance["vlm"], provenance["transformer"]) == ("sft, 1 steps", "rl, 1 steps")
    told = json.loads((path / "model_card.json").read_text())
    assert [told["stage"], told["base_model"]["card"]["stage"]] == ["rl", "sft"]
    line = json.loads((config.output / "rl" / "metrics.jsonl").read_text().splitlines()[0])
    assert {"reward/scene", "reward/clip"} <= set(line)
    before = {each: each.read_bytes() for each in path.rglob("*.safetensors")}
    assert train_mini(config, torch.device("cpu")) == path
    assert before == {each: each.read_bytes() for each in path.rglob("*.safetensors")}


def test_a_run_resumes_only_with_the_settings_it_was_begun_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_yaml(tmp_path / "config.yaml", TOY)
    assert main(["train", "mini", "--output", str(tmp_path), "--samples", "200"]) == 2
    assert "samples 100, expected 200; use the same samples" in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["config.yaml"]
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["train", "mini", "--output", str(tmp_path)]) == 2
    assert "start it without torchrun" in capsys.readouterr().err


def test_the_plan_of_the_mini_counts_every_stage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = ["train", "mini", "--output", str(tmp_path / "run"), "--sft-steps", "7", "--dry-run"]
    assert main([*plan, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == [
        *("autoencoder", "captioning", "label-conditioned", "pretrain", "sft"),
        *("clip", "rl"),
    ]
    assert found["rl"] == {"steps": 200, "samples": 200 * 16 * 8}
    assert found["sft"] == {"steps": 7, "samples": 7 * 128}
    assert not (tmp_path / "run").exists()
    assert main(plan) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "896 samples" in lines[4]
    assert "reward of rl" in lines[5]


def test_a_reward_whose_package_is_missing_is_refused_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepgen.scoring.ocr.find_spec", lambda name: None)
    command = ["train", "mini", "--output", str(tmp_path / "run"), "--rl-rewards", "scene", "ocr"]
    assert main(command) != 0
    assert "the reward ocr needs rapidocr; pip install" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_without_reinforcement_learning_there_is_no_clip_either() -> None:
    assert list(plan_mini(replace(TOY, rl_steps=0)))[-1] == "sft"
    assert list(plan_mini(replace(TOY, rl_rewards=("scene",))))[-2:] == ["sft", "rl"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 3),
        ("sft_steps", 0),
        ("samples", 9),
        ("rl_steps", -1),
        ("rl_prompts", 0),
        ("rl_rewards", ("ocr",)),
    ],
)
def test_settings_that_make_no_sense_are_named(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        replace(TOY, **{name: value})
