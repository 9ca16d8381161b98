"""Per-sample random numbers and keyed shuffling, without any state.

Every number is a function of a key, and a key of its purpose, so neither order nor machine nor the
number of processes matters. Keys are BLAKE2b hashes: Python's ``hash`` differs from run to run.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]

ROUNDS = 6
"""Rounds of the Feistel network. Four suffice with pseudorandom round functions (Luby and Rackoff
1988); ours is only a multiplicative mixer, so there are two more."""


def key_of(*parts: int | str) -> int:
    """A 64-bit key: a hash of the parts and their types."""
    text = "\0".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def sample_generator(seed: int, sid: int, epoch: int, purpose: str) -> np.random.Generator:
    """The per-sample RNG: independent of rank, batch and order.

    Philox (Salmon et al. 2011), a counter-based generator, keyed by the arguments: the
    run's seed, the sample's 64-bit key, the epochs before this occurrence of it, and a purpose.
    """
    key = np.array([key_of(seed, purpose), sid], dtype=np.uint64)
    counter = np.array([0, 0, 0, epoch], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def permuted(positions: npt.NDArray[np.int64], size: int, key: int) -> npt.NDArray[np.int64]:
    """The images of positions under a keyed permutation of ``range(size)``.

    A Feistel network permutes ``range`` of the smallest power of four that is at least ``size``;
    results outside are permuted again until they are inside (cycle walking), at most three rounds
    on average. The whole permutation is never stored.
    """
    half = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    values = positions.astype(np.uint64)
    outside = np.ones(len(values), dtype=bool)
    while outside.any():
        values[outside] = _feistel(values[outside], half, key)
        outside = values >= size
    return values.astype(np.int64)


def _feistel(values: Words, half: int, key: int) -> Words:
    mask = np.uint64((1 << half) - 1)
    left, right = values >> np.uint64(half), values & mask
    for number in range(ROUNDS):
        round_key = np.uint64(key_of(key, number))
        left, right = right, left ^ (_mixed(right ^ round_key) & mask)
    return left << np.uint64(half) | right


def _mixed(words: Words) -> Words:
    """Every bit of the result depends on every bit of the word (the finaliser of SplitMix64)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
