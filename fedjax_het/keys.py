"""Named key streams: run -> round -> client.

Nothing is keyed by a slot, a position or a count of calls, so the order of a cohort, chunking and sharding
cannot change a draw, and a new stream leaves the others as they were.
"""

from __future__ import annotations

import zlib

import jax

from fedjax_het.typing import Array, Key

__all__ = ["client", "round_", "seed", "stream"]


def stream(key: Key, name: str) -> Key:
    """The stream called `name` under `key`."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def round_(key: Key, number: Array) -> Key:
    """The key of round `number` (int32 scalar) of the run `key`."""
    return jax.random.fold_in(key, number)


def client(key: Key, identity: Array) -> Key:
    """The key of the client `identity` (int32 scalar) under `key`."""
    return jax.random.fold_in(key, identity)


def seed(key: Key) -> Array:
    """Two 32-bit words, uint32 [2], for cheap inline hashing (`permutation`)."""
    return jax.random.bits(key, (2,), "uint32")
