"""Sampler: what the engine asks of one, and what it draws.

A sampler is a frozen dataclass registered as a pytree. Its draws depend on (run key, round) alone, never on the
algorithm, so that methods are compared on the same cohorts.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import jax.numpy as jnp

from fedjax_het.typing import Array, Key, PyTree

__all__ = ["Draw", "Sampler", "full"]


class Draw(NamedTuple):
    """The clients drawn for one round.

    Attributes:
        id: client numbers, each at most once, ascending, int32 [C]; N in an absent slot.
        multiplicity: how often each was drawn, float [C].
        work: the fraction of its local work that each will do, float [C]. A client with work 0 is absent:
            the cohort's weights are those of the others. One whose work rounds to no step is present.
    """

    id: Array
    multiplicity: Array
    work: Array


class Sampler(Protocol):
    """Draws a cohort of a fixed number C of slots."""

    def init(self, num_clients: int) -> PyTree:
        """The sampler's state before round 0; () for one that remembers nothing."""
        ...

    def draw(
        self, state: PyTree, key: Key, round_: Array, sizes: Array, last_loss: Array
    ) -> tuple[Draw, PyTree]:
        """(draw, next state).

        Args:
            state: what the last draw left.
            key: consumed.
            round_: int32 scalar.
            sizes: training rows of every client in this phase, int32 [N].
            last_loss: the loss each client last reported, inf before its first report, float [N].
        """
        ...


def full(ids: Array) -> Draw:
    """A draw in which everyone counts once and does all of its work; `ids` ascending, int32 [C]."""
    ones = jnp.ones(ids.shape, jnp.result_type(float))
    return Draw(ids.astype(jnp.int32), ones, ones)
