"""Cohorts drawn from the clients that are available at the time."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import jax
import jax.numpy as jnp

from fedjax_het import keys
from fedjax_het.check import positive_int
from fedjax_het.engine.sampling.fits import expect_fits
from fedjax_het.engine.sampling.race import race
from fedjax_het.engine.sampling.sampler import Draw, some
from fedjax_het.typing import Array, Key, PyTree, static

__all__ = ["Available", "Pattern", "available"]


class Pattern(Protocol):
    """When clients are available: a frozen dataclass registered as a pytree."""

    def init(self, num_clients: int) -> PyTree:
        """The pattern's state before round 0; it has no key, so draws of it wait for round 0."""
        ...

    def on(self, state: PyTree, key: Key, round_: Array, sizes: Array) -> tuple[Array, PyTree]:
        """(who is available, bool [N]; next state); see `Sampler.draw` for the arguments."""
        ...


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Available:
    """See `available`."""

    pattern: Pattern
    size: int = static()

    def init(self, num_clients: int) -> PyTree:
        """The pattern's state.

        Raises:
            ValueError: more cohort than clients; a pattern for another number of clients.
        """
        expect_fits("size", self.size, num_clients)
        return self.pattern.init(num_clients)

    def draw(
        self, state: PyTree, key: Key, round_: Array, sizes: Array, last_loss: Array
    ) -> tuple[Draw, PyTree]:
        """See `Sampler`. One pass over the N clients."""
        on, state = self.pattern.on(state, keys.stream(key, "available"), round_, sizes)
        ids = race(keys.stream(key, "drawn"), on.astype(jnp.float32), self.size)
        return some(ids, sizes.shape[0]), state


def available(size: int, pattern: Pattern) -> Available:
    """`size` clients a round, uniformly without replacement from those available; absent slots if too few.

    No weighting is unbiased under it unless every client is available equally often; which objective a run
    then minimises depends on the pattern.

    Args:
        size: clients of a cohort.
        pattern: who is available when; `periodic`, `markov`, `intermittent` and `by_size` are ready made.

    Raises:
        TypeError, ValueError: `size` is not a whole number of at least 1.
    """
    return Available(pattern, positive_int("size", size, remedy="a cohort has at least one client"))
