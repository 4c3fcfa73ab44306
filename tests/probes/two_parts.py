"""The best split of a graph in two, in fixed shape."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fedjax_het.typing import Array

__all__ = ["two_parts"]


def two_parts(similarity: Array, member: Array) -> tuple[Array, Array]:
    """The split of the members whose largest similarity across is smallest (Kruskal, stopped at two parts).

    Args:
        similarity: float [C, C], symmetric.
        member: bool [C].

    Returns:
        (the smaller part bool [C], the largest similarity across, scalar; -inf with fewer than two members).
    """
    count = member.shape[0]
    pairs = member[:, None] & member[None, :]

    def across(part: Array) -> Array:
        return jnp.where(pairs & (part[:, None] != part[None, :]), similarity, -jnp.inf)

    def merge(_: Array, part: Array) -> Array:
        nearest = jnp.argmax(across(part))
        return jnp.where(part == part[nearest % count], part[nearest // count], part)

    members = jnp.sum(member, dtype=jnp.int32)
    part = jax.lax.fori_loop(0, members - 2, merge, jnp.arange(count, dtype=jnp.int32))
    side = member & (part != part[jnp.argmax(member)])
    smaller = jnp.where(2 * jnp.sum(side, dtype=jnp.int32) > members, member & ~side, side)
    return smaller, jnp.max(across(part))
