"""Latents and pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from deepgen.vae import LatentCodec
from tests.checkpoint.models import tiny_autoencoder
from tests.conditioning.models import golden_image
from tests.shared import error, golden

TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def recorded() -> dict[str, np.ndarray]:
    return dict(np.load(golden("vae/vae.npz")))


@pytest.fixture(scope="module")
def codec() -> LatentCodec:
    autoencoder = AutoencoderKL.from_pretrained(golden("model") / "vae")
    return LatentCodec(autoencoder.eval().requires_grad_(False))


def images(*sizes: tuple[int, int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(3, *size, generator=generator) * 2 - 1 for size in sizes]


def test_encoding_gives_the_recorded_posterior_mean(
    codec: LatentCodec, recorded: dict[str, np.ndarray]
) -> None:
    (latents,) = codec.encode([golden_image("r0")])
    assert error(latents[None], recorded["r0.latents_mode"]) <= TOLERANCE


def test_a_posterior_gives_the_recorded_sample_for_the_recorded_noise(
    codec: LatentCodec, recorded: dict[str, np.ndarray]
) -> None:
    (posterior,) = codec.posteriors([golden_image("r0")])
    latents = posterior.sample(torch.from_numpy(recorded["r0.eps"])[0])
    assert error(latents[None], recorded["r0.latents_sampled"]) <= TOLERANCE


def test_the_recorded_posterior_comes_out(
    codec: LatentCodec, recorded: dict[str, np.ndarray]
) -> None:
    parameters = codec.posterior_parameters(golden_image("r0")[None])
    mean, logvar = parameters.chunk(2, dim=1)
    assert error(mean, recorded["r0.mean"]) <= TOLERANCE
    assert error(logvar, recorded["r0.logvar"]) <= TOLERANCE
    assert error((logvar / 2).exp(), recorded["r0.std"]) <= TOLERANCE


def test_decoding_gives_the_recorded_pixels(
    codec: LatentCodec, recorded: dict[str, np.ndarray]
) -> None:
    (pixels,) = codec.decode(list(torch.from_numpy(recorded["r0.latents_mode"])))
    assert error(pixels[None], recorded["r0.decoded_from_latents_mode"]) <= TOLERANCE
    both = codec.decode(list(torch.from_numpy(recorded["rand.latents"])))
    assert error(torch.stack(both), recorded["rand.decoded"]) <= TOLERANCE


def test_images_of_different_sizes_go_together_in_any_order() -> None:
    tiny = LatentCodec(tiny_autoencoder())
    mixed = images((32, 64), (64, 32), (32, 64), (32, 32))
    with torch.no_grad():
        latents = tiny.encode(mixed)
        decoded = tiny.decode(latents)
        assert tiny.encode([]) == tiny.decode([]) == []
        for image, own, pixels in zip(mixed, latents, decoded, strict=True):
            assert own.shape == (16, image.shape[1] // 8, image.shape[2] // 8)
            assert pixels.shape == image.shape
            assert error(own, tiny.encode([image])[0]) <= TOLERANCE
            assert error(pixels, tiny.decode([own])[0]) <= TOLERANCE


def test_encoding_gives_the_posteriors_mean_and_draws_nothing() -> None:
    tiny = LatentCodec(tiny_autoencoder())
    (image,) = images((32, 32))
    with torch.no_grad():
        state = torch.get_rng_state()
        (posterior,) = tiny.posteriors([image])
        assert torch.equal(tiny.encode([image])[0], posterior.mean)
        assert torch.equal(torch.get_rng_state(), state)
        noise = torch.ones_like(posterior.mean)
        assert torch.allclose(posterior.sample(noise), posterior.mean + posterior.std)


def test_latents_are_shifted_and_scaled_by_the_autoencoders_own_values() -> None:
    autoencoder = tiny_autoencoder()
    tiny = LatentCodec(autoencoder)
    (image,) = images((32, 32))
    with torch.no_grad():
        mean = autoencoder.encode(image[None]).latent_dist.mean[0]
        assert torch.allclose(tiny.encode([image])[0], (mean - 0.25) * 1.5, atol=1e-6)
        assert torch.allclose(
            tiny.decode([(mean - 0.25) * 1.5])[0],
            autoencoder.decode(mean[None]).sample[0],
            atol=1e-5,
        )


def test_lower_precisions_still_return_float32() -> None:
    half = LatentCodec(tiny_autoencoder().bfloat16())
    with torch.no_grad():
        latents = half.encode(images((32, 32)))
        assert latents[0].dtype == torch.float32
        assert half.decode(latents)[0].dtype == torch.float32


def test_cached_posteriors_give_the_posterior(codec: LatentCodec) -> None:
    (pixels,) = images((64, 96))
    (posterior,) = codec.posteriors([pixels])
    again = codec.posterior(codec.posterior_parameters(pixels[None])[0])
    assert torch.allclose(again.mean, posterior.mean, atol=1e-6)
    assert torch.allclose(again.std, posterior.std, atol=1e-6)


def test_an_accelerator_gets_a_large_batch_in_parts() -> None:
    codec = LatentCodec(tiny_autoencoder()).to("meta")
    rows: list[int] = []
    codec.autoencoder.decoder.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    latents = [torch.empty(16, 64, 64, device="meta") for _ in range(6)]
    assert [each.shape for each in codec.decode(latents)] == [(3, 512, 512)] * 6
    assert rows == [4, 2]
