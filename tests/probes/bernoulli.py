"""A sampler of random cohort size: every client by its own coin, in a declared number of slots."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het.check import number, positive_int
from fedjax_het.engine.sampling import Draw, full
from fedjax_het.typing import Array, Key, PyTree, static

__all__ = ["Bernoulli", "bernoulli"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Bernoulli:
    """See `bernoulli`."""

    chance: Array
    slots: int = static()

    def init(self, num_clients: int) -> PyTree:
        """Nothing to remember."""
        return ()

    def draw(
        self, state: PyTree, key: Key, round_: Array, sizes: Array, last_loss: Array
    ) -> tuple[Draw, PyTree]:
        """Lowest coins first, so a full house leaves out clients at random."""
        coins = jax.random.uniform(key, sizes.shape, last_loss.dtype)
        picked = jnp.argsort(coins)[: self.slots]
        ids = jnp.where(coins[picked] < self.chance, picked, sizes.shape[0])
        return full(jnp.sort(ids)), state


def bernoulli(slots: int, *, chance: Any = 0.4) -> Bernoulli:
    """Every client with probability `chance` (a leaf), at most `slots` of them; the cohort may be empty."""
    return Bernoulli(number("chance", chance, least=0, most=1), positive_int("slots", slots))
