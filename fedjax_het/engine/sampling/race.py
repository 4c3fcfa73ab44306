"""Coins in 32 bits, and races: a weighted draw without replacement that sorts nothing but its winners."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fedjax_het.typing import Array, Key

__all__ = ["below", "coins", "lowest", "race"]

_BELOW_ONE = 1 - 2.0**-24
"""The largest float32 below 1, so that a chance of 1 always comes true."""


def below(bits: Array) -> Array:
    """Random words as numbers in (0, 1), uint32 to float32; small ones come in steps of 2**-32."""
    return jnp.minimum((bits.astype(jnp.float32) + 0.5) * jnp.float32(2.0**-32), jnp.float32(_BELOW_ONE))


def coins(key: Key, num_clients: int) -> Array:
    """A number in (0, 1) for each client, float32 [N]; the same in single and in double precision."""
    return below(jax.random.bits(key, (num_clients,), "uint32"))


def lowest(values: Array, size: int) -> Array:
    """Clients with the lowest values, lowest first; N once only infinity is left.

    The N values are read once and never sorted.

    Args:
        values: float [N].
        size: how many, at most N.

    Returns:
        int32 [size].
    """
    found, ids = jax.lax.top_k(-values, size)
    return jnp.where(found > -jnp.inf, ids, values.shape[0]).astype(jnp.int32)


def race(key: Key, pace: Array, size: int) -> Array:
    """The first `size` clients home when client k takes Exp(1)/pace_k, in the order of arrival.

    The next one home is k with probability pace_k over the sum of those still under way: draws without
    replacement in proportion to `pace`, one after the other.

    Args:
        key: consumed.
        pace: non-negative; a client of pace 0 never arrives, float [N].
        size: how many, at most N.

    Returns:
        int32 [size]; N once nobody is left who would arrive.

    Reference: Efraimidis and Spirakis, "Weighted random sampling with a reservoir", Information Processing
    Letters 2006 (exponents of uniforms; here their negative logarithms).
    """
    pace = pace.astype(jnp.float32)
    arrival = -jnp.log1p(-coins(key, pace.shape[0])) / jnp.where(pace > 0, pace, 1)
    return lowest(jnp.where(pace > 0, arrival, jnp.inf), size)
