"""Clients that are available by a coin each round: as told, or by how much they hold."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het.check import number
from fedjax_het.engine.sampling.available import Available, available
from fedjax_het.engine.sampling.fits import each, expect_each
from fedjax_het.engine.sampling.race import coins
from fedjax_het.typing import Array, Key, PyTree

__all__ = ["BySize", "Coins", "by_size", "intermittent"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Coins:
    """See `intermittent`; `chance` is a scalar or float [N]."""

    chance: Array

    def init(self, num_clients: int) -> PyTree:
        """Nothing to remember.

        Raises:
            ValueError: not one chance a client.
        """
        expect_each("chance", self.chance, num_clients)
        return ()

    def on(self, state: PyTree, key: Key, round_: Array, sizes: Array) -> tuple[Array, PyTree]:
        """See `Pattern`."""
        num_clients = sizes.shape[0]
        return coins(key, num_clients) < each(self.chance, num_clients).astype(jnp.float32), state


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BySize:
    """See `by_size`."""

    exponent: Array

    def init(self, num_clients: int) -> PyTree:
        """Nothing to remember."""
        return ()

    def chances(self, sizes: Array) -> Array:
        """How likely each client is to be available, float [N]; 0 for an empty one."""
        holds = sizes > 0
        logs = self.exponent * jnp.log(jnp.where(holds, sizes, 1).astype(self.exponent.dtype))
        most = jnp.max(jnp.where(holds, logs, -jnp.inf))
        return jnp.where(holds, jnp.exp(logs - most), 0)

    def on(self, state: PyTree, key: Key, round_: Array, sizes: Array) -> tuple[Array, PyTree]:
        """See `Pattern`."""
        return coins(key, sizes.shape[0]) < self.chances(sizes).astype(jnp.float32), state


def intermittent(size: int, chance: Any) -> Available:
    """`size` clients a round from those available, each by its own coin, anew in every round.

    Args:
        size: clients of a cohort.
        chance: how likely a client is to be available, in [0, 1]; a number, or one for each, [N]. What clients
            hold may decide: see `label_chances`.

    Raises:
        TypeError: not numbers.
        ValueError: chances outside [0, 1]; `size` below 1.
    """
    return available(size, Coins(number("chance", chance, least=0, most=1, remedy="it is a probability")))


def by_size(size: int, *, exponent: Any = 1.0) -> Available:
    """`size` clients a round from those available, of whom the larger (or the smaller) are so more often.

    Client k is available with probability n_k^exponent over the largest of these numbers, by its own coin in
    every round; an empty client never. Sizes are those of the round's phase.

    Args:
        size: clients of a cohort.
        exponent: above 0 more data first, below 0 less data first, 0 everybody always; a leaf.

    Raises:
        TypeError, ValueError: not a number; `size` below 1.

    Reference: Wang et al., "FedGS: Federated Graph-based Sampling with Arbitrary Client Availability", AAAI
    2023, modes MoreDataFirst and LessDataFirst.

    Departures: the authors' comments speak of tanh and of (1 - beta)^-n; this is what their code computes. Its
    default for more data first, 1e-5, leaves practically everybody available; here it is 1.
    """
    return available(size, BySize(number("exponent", exponent)))
