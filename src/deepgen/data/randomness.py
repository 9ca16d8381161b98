"""Randomness that can be asked for by name, in any order, on any machine.

Nothing here has a state: a number is a function of a key, and a key of what it is for. Keys are
made with BLAKE2b and not with Python's ``hash``, which differs from run to run.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]

ROUNDS = 6
"""Of the Feistel network. Four are proven to look random where round functions are; ours is a
multiplicative mixer, so there are two more."""


def key_of(*parts: int | str) -> int:
    """A 64-bit key for what the parts name."""
    text = "\0".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def sample_generator(seed: int, sid: int, epoch: int, purpose: str) -> np.random.Generator:
    """The random numbers of one visit to one sample, for one purpose.

    By Philox (Salmon et al. 2011), a generator that counts; so rank, batch and order never matter.

    Args:
        seed: Of the run.
        sid: 64-bit number of the sample.
        epoch: How often it was visited before.
        purpose: What they are for; those of one purpose never depend on another.
    """
    key = np.array([key_of(seed, purpose), sid], dtype=np.uint64)
    counter = np.array([0, 0, 0, epoch], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def permuted(positions: npt.NDArray[np.int64], size: int, key: int) -> npt.NDArray[np.int64]:
    """Where a keyed permutation of ``range(size)`` puts the positions.

    A Feistel network permutes the smallest power of four that holds ``size``; what lands outside
    is sent through again until it lands inside (cycle walking), three rounds on average at most.
    No list of the whole permutation is ever made.
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
