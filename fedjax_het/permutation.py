"""A keyed random permutation of {0, ..., size - 1}, evaluated index by index.

No sort, no storage, and `size` may be traced: minibatches of ragged clients and cohorts out of millions draw
from it alike.

Reference: Hoang, Morris, Rogaway, "An enciphering scheme based on a card shuffle" (swap-or-not), CRYPTO 2012.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fedjax_het.typing import Array

__all__ = ["ROUNDS", "permute", "scramble"]

ROUNDS = 24
"""Swap-or-not rounds; an element is left untouched by all of them with probability 2**-24."""

_GOLDEN = 0x9E3779B9


def scramble(word: Array) -> Array:
    """An invertible mixing of 32-bit words, uint32 to uint32 (Wellons' `lowbias32` constants)."""
    word = word ^ (word >> 16)
    word = word * jnp.uint32(0x7FEB352D)
    word = word ^ (word >> 15)
    word = word * jnp.uint32(0x846CA68B)
    return word ^ (word >> 16)


def permute(positions: Array, size: Array, seed: Array) -> Array:
    """Where a random permutation sends `positions`.

    Round r pairs x with (K_r - x) mod size and swaps the two when a bit hashed from the pair's larger
    member says so; every round is its own inverse, so the composition is a permutation.

    Args:
        positions: int32 [...], each in [0, size); others map to some int32, harmlessly.
        size: int32 scalar, 0 < size < 2**31 (0 is treated as 1).
        seed: uint32 [2], see `keys.seed`.

    Returns:
        int32 [...].
    """
    size = jnp.maximum(jnp.asarray(size), 1).astype(jnp.uint32)
    counter = jnp.arange(1, ROUNDS + 1, dtype=jnp.uint32) * jnp.uint32(_GOLDEN)
    shifts = scramble(scramble(counter + seed[0]) ^ seed[1]) % size
    words = scramble(scramble(counter ^ seed[1]) + seed[0])

    def swap(r: Array, x: Array) -> Array:
        partner = shifts[r] + jnp.where(x > shifts[r], size, jnp.uint32(0)) - x
        coin = scramble(jnp.maximum(x, partner) + words[r]) >> 31
        return jnp.where(coin == 1, partner, x)

    # a loop, since unrolled code would be fused again into every gather that uses the result
    x = jnp.asarray(positions).astype(jnp.uint32)
    return jax.lax.fori_loop(0, ROUNDS, swap, x, unroll=6).astype(jnp.int32)
