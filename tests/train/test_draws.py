import torch

from deepgen.train.draws import Purpose, Visit, VisitDraws

SHAPE = torch.Size([16, 8, 8])


def test_draws_belong_to_the_visit_alone() -> None:
    visit = Visit(sample="set/17", epoch=3)
    first = VisitDraws(5, "sft").normal(visit, Purpose.NOISE, SHAPE)
    draws = VisitDraws(5, "sft")
    draws.normal(Visit(sample="set/18"), Purpose.NOISE, SHAPE)
    assert torch.equal(draws.normal(visit, Purpose.NOISE, SHAPE), first)


def test_every_visit_purpose_stage_and_seed_has_numbers_of_its_own() -> None:
    visit = Visit(sample="set/17")
    streams = [
        VisitDraws(0, "sft").normal(visit, Purpose.NOISE, SHAPE),
        VisitDraws(1, "sft").normal(visit, Purpose.NOISE, SHAPE),
        VisitDraws(0, "pretrain").normal(visit, Purpose.NOISE, SHAPE),
        VisitDraws(0, "sft").normal(visit, Purpose.TARGET_POSTERIOR, SHAPE),
        VisitDraws(0, "sft").normal(Visit(sample="set/17", epoch=1), Purpose.NOISE, SHAPE),
        VisitDraws(0, "sft").normal(Visit(sample="set/18"), Purpose.NOISE, SHAPE),
    ]
    flat = torch.stack([each.flatten() for each in streams])
    correlations = torch.corrcoef(flat) - torch.eye(len(flat))
    assert correlations.abs().max() < 0.15


def test_draws_are_distributed_as_said() -> None:
    draws = VisitDraws(0, "sft")
    noise = draws.normal(Visit(sample="a"), Purpose.NOISE, torch.Size([200_000]))
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01
    uniform = torch.tensor(
        [draws.uniform(Visit(sample=str(index)), Purpose.LEVEL) for index in range(5000)]
    )
    assert 0 <= uniform.min() < 0.01
    assert 0.99 < uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 0.02
