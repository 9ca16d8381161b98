import torch

from deepgen.train.sample_rng import Purpose, SampleKey, SampleRng

SHAPE = torch.Size([16, 8, 8])


def test_draws_belong_to_the_visit_alone() -> None:
    key = SampleKey(sample="set/17", epoch=3)
    first = SampleRng(5, "sft").normal(key, Purpose.NOISE, SHAPE)
    rng = SampleRng(5, "sft")
    rng.normal(SampleKey(sample="set/18"), Purpose.NOISE, SHAPE)
    assert torch.equal(rng.normal(key, Purpose.NOISE, SHAPE), first)


def test_every_visit_purpose_stage_and_seed_has_numbers_of_its_own() -> None:
    key = SampleKey(sample="set/17")
    streams = [
        SampleRng(0, "sft").normal(key, Purpose.NOISE, SHAPE),
        SampleRng(1, "sft").normal(key, Purpose.NOISE, SHAPE),
        SampleRng(0, "pretrain").normal(key, Purpose.NOISE, SHAPE),
        SampleRng(0, "sft").normal(key, Purpose.TARGET_POSTERIOR, SHAPE),
        SampleRng(0, "sft").normal(SampleKey(sample="set/17", epoch=1), Purpose.NOISE, SHAPE),
        SampleRng(0, "sft").normal(SampleKey(sample="set/18"), Purpose.NOISE, SHAPE),
    ]
    flat = torch.stack([each.flatten() for each in streams])
    correlations = torch.corrcoef(flat) - torch.eye(len(flat))
    assert correlations.abs().max() < 0.15


def test_draws_are_distributed_as_said() -> None:
    rng = SampleRng(0, "sft")
    noise = rng.normal(SampleKey(sample="a"), Purpose.NOISE, torch.Size([200_000]))
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01
    uniform = torch.tensor(
        [rng.uniform(SampleKey(sample=str(index)), Purpose.LEVEL) for index in range(5000)]
    )
    assert 0 <= uniform.min() < 0.01
    assert 0.99 < uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 0.02
