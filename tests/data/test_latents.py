from __future__ import annotations

from pathlib import Path

import pytest
import torch

from deepgen.data.dataset import DataSet
from deepgen.data.latents import LatentCache, PosteriorParameters, build_cache, weights_hash
from deepgen.data.loader import Loader, LoaderOptions, TaskPlan
from deepgen.data.mixture import open_data
from deepgen.errors import DataError
from deepgen.vae import LatentCodec
from tests.checkpoint.models import tiny_autoencoder
from tests.data.sets import batches_of, content, edits, fill_the_disk, imported
from tests.data.test_loader import damage

SIDE = 64
OPTIONS = LoaderOptions(
    tasks={"edit": TaskPlan(microbatch_size=2, microbatches=3)}, seed=0, side=SIDE, workers=2
)


@pytest.fixture(scope="module")
def codec() -> LatentCodec:
    return LatentCodec(tiny_autoencoder().eval().requires_grad_(False))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataSet:
    """Seven edits, and files of posteriors so small that there are three."""
    monkeypatch.setattr("deepgen.data.latents.ROWS_PER_FILE", 3)
    return imported(edits(tmp_path / "source", 7), tmp_path / "data")


def built(data: DataSet, codec: LatentCodec, batch_size: int = 2) -> LatentCache:
    build_cache(
        data,
        codec.posterior_parameters,
        vae_hash=weights_hash(codec),
        side=SIDE,
        batch_size=batch_size,
    )
    return LatentCache.open(data, vae_hash=weights_hash(codec), side=SIDE)


def loader(data: DataSet, latent_cache: LatentCache | None = None) -> Loader:
    return Loader(data, OPTIONS, latent_cache=latent_cache)


def test_cached_posteriors_are_those_of_the_pixels_that_would_have_been_loaded(
    data: DataSet, codec: LatentCodec
) -> None:
    cached, plain = loader(data, built(data, codec)), loader(data)
    for step in range(3):
        for mine, other in zip(batches_of(cached, step), batches_of(plain, step), strict=True):
            assert mine.sample_ids == other.sample_ids
            for sample, loaded in zip(mine.samples, other.samples, strict=True):
                assert loaded.target is not None
                assert sample.target is None
                assert sample.posteriors is not None
                pixels = [loaded.target, *loaded.prompt.references]
                for parameters, each in zip(sample.posteriors, pixels, strict=True):
                    # float16 keeps eleven bits.
                    expected: PosteriorParameters = codec.posterior_parameters(each[None])[0]
                    assert torch.allclose(parameters, expected, rtol=1e-3, atol=1e-4)


def test_a_cache_cut_off_goes_on_and_is_no_cache_until_then(
    data: DataSet, codec: LatentCodec
) -> None:
    whole = content(built(data, codec).folder)
    for path in list(data.folder.glob("latents/*/*"))[1:]:
        path.unlink()
    with pytest.raises(DataError, match="2 of 3 files of posteriors are missing"):
        LatentCache.open(data, vae_hash=weights_hash(codec), side=SIDE)
    calls = []
    encode = codec.posterior_parameters

    def counted(pixels: torch.Tensor) -> torch.Tensor:
        calls.append(len(pixels))
        return encode(pixels)

    cache = build_cache(data, counted, vae_hash=weights_hash(codec), side=SIDE, batch_size=2)
    assert content(cache.folder) == whole
    assert 0 < sum(calls) < sum(len(data.record(row).images) for row in range(len(data)))


def test_a_full_disk_leaves_finished_files_of_posteriors_and_no_others(
    data: DataSet, codec: LatentCodec
) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(OSError, match="No space left"):
        fill_the_disk(patch, "000001.safetensors.part")
        built(data, codec)
    assert [path.name for path in data.folder.glob("latents/*/*")] == ["000000.safetensors"]
    assert built(data, codec).files == 3


def test_another_autoencoder_or_side_has_no_cache(data: DataSet, codec: LatentCodec) -> None:
    cache = built(data, codec)
    with pytest.raises(DataError, match="missing"):
        LatentCache.open(data, vae_hash=weights_hash(codec), side=SIDE + 32)
    other = LatentCodec(tiny_autoencoder())
    with torch.no_grad():
        next(other.parameters()).view(-1)[0] += 1e-3
    assert weights_hash(other) != weights_hash(codec)
    with pytest.raises(ValueError, match="latents for side 64"):
        Loader(
            data,
            LoaderOptions(tasks=loader(data).options.tasks, seed=0, side=96),
            latent_cache=cache,
        )


def test_posteriors_of_other_data_are_never_used(data: DataSet, codec: LatentCodec) -> None:
    cache = built(data, codec)
    again = imported(
        data.folder.parent / "source" / "edits.jsonl", data.folder.parent / "more", licence="other"
    )
    cache.folder.parent.rename(again.folder / "latents")
    moved = LatentCache.open(again, vae_hash=weights_hash(codec), side=SIDE)
    with pytest.raises(DataError, match="belongs to other data"):
        moved.posterior_parameters(0, 0)


def test_images_that_could_not_be_encoded_are_replaced_in_training(
    data: DataSet, codec: LatentCodec
) -> None:
    lost = damage(data, 1)
    found = loader(data, built(data, codec))
    ids = [
        name for step in range(4) for batch in batches_of(found, step) for name in batch.sample_ids
    ]
    assert lost not in ids
    assert {each.sample_id for each in found.replacements} == {lost}


def test_a_mixture_reads_the_caches_of_its_members(
    tmp_path: Path, codec: LatentCodec, data: DataSet
) -> None:
    other = imported(edits(tmp_path / "more", 4), tmp_path / "other", name="other")
    (tmp_path / "mix.yaml").write_text("sources: [{data: data}, {data: other}]")
    mixed, vae_hash = open_data(tmp_path / "mix.yaml"), weights_hash(codec)
    first = built(data, codec)
    with pytest.raises(DataError, match=r"data cache .*other"):
        LatentCache.open(mixed, vae_hash=vae_hash, side=SIDE)
    second = built(other, codec)
    joined = LatentCache.open(mixed, vae_hash=vae_hash, side=SIDE)
    for row in range(len(mixed)):
        own, place = (first, row) if row < len(data) else (second, row - len(data))
        assert torch.equal(joined.posterior_parameters(row, 1), own.posterior_parameters(place, 1))
