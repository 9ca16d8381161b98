"""Latent posteriors of all images, computed once instead of in every epoch.

Mean and log-variance are stored, so that training still samples the posterior anew in every epoch.
Each entry has 2 x 16 channels at an eighth of the sides, in float16.
"""

from __future__ import annotations

import json
import threading
from bisect import bisect_right
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from deepgen.config.sizes import Size, fix_pixels
from deepgen.data.dataset import DataSet
from deepgen.data.records import ImageRef, Record, content_hash
from deepgen.data.shards import write_atomically
from deepgen.data.transforms import decode_at
from deepgen.errors import DataError, ImageError
from deepgen.locks import locked
from deepgen.types import Pixels

PosteriorParameters = Float[Tensor, "parameter_channels _height _width"]
"""Mean and log-variance of one image's latents, stacked; before shift and scale."""

Encode = Callable[
    [Float[Tensor, "batch 3 height width"]],
    Float[Tensor, "batch parameter_channels latent_height latent_width"],
]

FOLDER = "latents"

ROWS_PER_FILE = 256
"""67 MB for text-to-image at 512 x 512; also what an interrupted run repeats at most."""

OPEN_FILES = 64
"""Files kept open; beyond it the least recently used one is closed."""


class LatentCache:
    """The posteriors of one data set under one VAE; :meth:`open` finds them."""

    def __init__(self, data: DataSet, *, vae_hash: str, side: int) -> None:
        self.folder = data.folder / FOLDER / f"{vae_hash[:16]}-{side}"
        self.side = side
        key = {"data": data.manifest.identity, "vae": vae_hash, "side": side}
        # One entry: safetensors writes several in any order, and equal caches must be equal files.
        self.metadata = {"posteriors": json.dumps(key)}
        self.files = -(-len(data) // ROWS_PER_FILE)
        self._opened = lru_cache(maxsize=OPEN_FILES)(self._open_file)
        # Two threads that miss at the same time would both open the file.
        self._lock = threading.Lock()

    @classmethod
    def open(cls, data: DataSet, *, vae_hash: str, side: int) -> LatentCache:
        """The finished cache of a data set for a VAE, at about ``side * side`` pixels an image.

        Raises:
            DataError: There is none for this VAE and side, or it is unfinished.
        """
        members = data.parts
        if members[0][0] is not data:
            return JoinedLatentCache(data, vae_hash=vae_hash, side=side)
        cache = cls(data, vae_hash=vae_hash, side=side)
        missing = sum(not cache.path(number).exists() for number in range(cache.files))
        if missing:
            raise DataError(
                f"{missing} of {cache.files} files of posteriors are missing in {cache.folder}; "
                f"run deepgen data cache {data.folder} --side {side} with the same model"
            )
        return cache

    def path(self, number: int) -> Path:
        """The file of a block of rows."""
        return self.folder / f"{number:06d}.safetensors"

    def posterior_parameters(self, row: int, image: int) -> PosteriorParameters:
        """Mean and log-variance of an image of a row (0 is the target, 1 the first reference), in
        float32.

        Raises:
            DataError: The file belongs to other data or another VAE, or is damaged.
            ImageError: The image could not be decoded when the cache was made.
        """
        path = self.path(row // ROWS_PER_FILE)
        with self._lock:
            file = self._opened(row // ROWS_PER_FILE)
        try:
            stored: Tensor = file.get_tensor(f"{row}.{image}")
        except SafetensorError:
            raise ImageError(f"{path} has no posterior of image {image} of row {row}") from None
        return stored.float()

    def _open_file(self, number: int) -> Any:
        path = self.path(number)
        try:
            file: Any = safe_open(path, framework="pt")
            found = file.metadata()
        except (OSError, SafetensorError) as error:
            raise DataError(f"{path} is damaged ({error}); delete it and cache again") from None
        if found != self.metadata:
            raise DataError(f"{path} belongs to other data or another model; delete {self.folder}")
        return file


class JoinedLatentCache(LatentCache):
    """The caches of all data sets of a mixture; rows are numbered as in the mixture.

    Raises:
        DataError: One of them has none.
    """

    def __init__(self, data: DataSet, *, vae_hash: str, side: int) -> None:
        self.side = side
        self.caches = [
            LatentCache.open(each, vae_hash=vae_hash, side=side) for each, _ in data.parts
        ]
        self.first_rows = [first for _, first in data.parts]
        self.folder = self.caches[0].folder
        self.files = sum(each.files for each in self.caches)

    def posterior_parameters(self, row: int, image: int) -> PosteriorParameters:
        """See :meth:`LatentCache.posterior_parameters`."""
        member = bisect_right(self.first_rows, row) - 1
        own = row - self.first_rows[member]
        found: PosteriorParameters = self.caches[member].posterior_parameters(own, image)
        return found


def build_cache(
    data: DataSet,
    encode: Encode,
    *,
    vae_hash: str,
    side: int,
    batch_size: int = 8,
    watch: Callable[[], None] = lambda: None,
) -> LatentCache:
    """Encode all images of a data set, or resume where that was interrupted.

    Images that cannot be decoded are skipped; the loader replaces them, as without a cache.

    Args:
        encode: The encoder of the VAE: pixels to mean and log-variance.
        batch_size: Images of one size that are encoded together.
        watch: Called after each block of rows.

    Raises:
        FolderInUseError: Another process is writing the same cache.
        OSError: The disk is full or fails; finished files stay.
    """
    cache = LatentCache(data, vae_hash=vae_hash, side=side)
    with locked(cache.folder):
        cache.folder.mkdir(parents=True, exist_ok=True)
        for leftover in cache.folder.glob("*.part"):
            leftover.unlink()
        for number in range(cache.files):
            path = cache.path(number)
            if not path.exists():
                first = number * ROWS_PER_FILE
                rows = range(first, min(first + ROWS_PER_FILE, len(data)))
                tensors = _encoded(data, rows, encode, side, batch_size)
                write_atomically(path, [save(tensors, metadata=cache.metadata)])
            watch()
    return cache


def weights_hash(module: nn.Module) -> str:
    """Hash of a module's weights by names and values, independent of how files store them."""
    digest = blake2b(digest_size=16)
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)}\0".encode())
        digest.update(value.float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def read_pixels(data: DataSet, record: Record, image: ImageRef, side: int) -> Pixels:
    """An image at the size of its bucket, checked against the hash of its import.

    Raises:
        ImageError: It changed since then, or cannot be decoded.
        OSError: The shard cannot be read.
    """
    name = f"an image of {record.sample_id}"
    content = data.read(image)
    if content_hash(content) != image.hash:
        raise ImageError(f"{name} has changed since its import")
    return decode_at(content, fix_pixels(image.height, image.width, side), name=name)


def _encoded(
    data: DataSet, rows: range, encode: Encode, side: int, batch_size: int
) -> dict[str, Tensor]:
    """The posteriors of some rows by their names in the file."""
    groups: dict[Size, list[tuple[str, Record, ImageRef]]] = {}
    for row in rows:
        record = data.record(row)
        for number, image in enumerate(record.images):
            size = fix_pixels(image.height, image.width, side)
            groups.setdefault(size, []).append((f"{row}.{number}", record, image))
    tensors: dict[str, Tensor] = {}
    for group in groups.values():
        for first in range(0, len(group), batch_size):
            names, pixels = [], []
            for name, record, image in group[first : first + batch_size]:
                try:
                    pixels.append(read_pixels(data, record, image, side))
                except ImageError:
                    continue
                names.append(name)
            if names:
                posteriors = encode(torch.stack(pixels)).to("cpu", torch.float16)
                for name, each in zip(names, posteriors, strict=True):
                    # A copy, since the rows of a batch share memory and those of a file must not.
                    tensors[name] = each.clone(memory_format=torch.contiguous_format)
    return tensors
