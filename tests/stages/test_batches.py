"""What the objective learns from, encoded on the way or beforehand."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from deepgen.data.latents import LatentCache, build_cache, weights_hash
from deepgen.data.loader import Loader, LoaderOptions, TaskPlan
from deepgen.stages.batches import FlowBatches
from deepgen.vae import LatentCodec
from tests.data.sets import edits, imported
from tests.train.test_cheaper import ready, values, worst

SIDE = 64


class RoundingCodec(LatentCodec):
    """Rounds posteriors as the cache does."""

    def posterior_parameters(self, pixels: Tensor) -> Tensor:
        return super().posterior_parameters(pixels).half().float()


def test_cached_posteriors_give_the_loss_and_gradients_of_encoding(tmp_path: Path) -> None:
    data = imported(edits(tmp_path / "source", 5), tmp_path / "data")
    model = ready("sft")
    codec = RoundingCodec(model.vae.autoencoder)
    build_cache(data, codec.posterior_parameters, vae_hash=weights_hash(codec), side=SIDE)
    cache = LatentCache.open(data, vae_hash=weights_hash(codec), side=SIDE)
    tasks = TaskPlan(microbatch_size=2, microbatches=2)
    options = LoaderOptions(tasks={"edit": tasks}, seed=0, side=SIDE, workers=1)
    # In its second epoch, so that the draws of its epochs are no longer those of the first.
    encoded, cached = (
        FlowBatches(Loader(data, options, latent_cache=each), codec)(3) for each in (None, cache)
    )
    true, _ = values(model, *encoded)
    mine, _ = values(model, *cached)
    assert worst(mine, true) <= 1e-5


def test_each_visit_of_a_cached_image_draws_its_own_latents(tmp_path: Path) -> None:
    data = imported(edits(tmp_path / "source", 1), tmp_path / "data")
    model = ready("sft")
    build_cache(data, model.vae.posterior_parameters, vae_hash=weights_hash(model.vae), side=SIDE)
    cache = LatentCache.open(data, vae_hash=weights_hash(model.vae), side=SIDE)
    tasks = TaskPlan(microbatch_size=1, microbatches=1)
    options = LoaderOptions(tasks={"edit": tasks}, seed=0, side=SIDE, workers=1)
    batches = FlowBatches(Loader(data, options, latent_cache=cache), model.vae)
    losses = [values(model, *batches(step))[0]["loss"] for step in (0, 0, 1)]
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])
