"""Sampler: what the engine asks of one, and what it draws.

A sampler is a frozen dataclass registered as a pytree. Its draws depend on (run key, round) alone, never on the
algorithm, so that methods are compared on the same cohorts; those of `power_of_choice` also on the losses that
clients last reported. Coins and races are in 32 bits whatever the precision of a run, so that single and double
precision draw the same clients.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import jax.numpy as jnp

from fedjax_het.typing import Array, Key, PyTree

__all__ = ["Draw", "Sampler", "counted", "full", "some", "without"]


class Draw(NamedTuple):
    """The clients drawn for one round.

    Attributes:
        id: client numbers, each at most once, ascending, int32 [C]; N in an absent slot.
        multiplicity: how often each was drawn, float [C]. A client drawn twice holds one slot, runs once and
            counts twice. What an absent slot says is not read.
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


def some(ids: Array, num_clients: int) -> Draw:
    """A draw in which everyone counts once and does all of its work.

    Args:
        ids: different clients in any order, N where nobody was drawn, int32 [C].
        num_clients: N.
    """
    draw = full(jnp.sort(ids))
    return draw._replace(multiplicity=(draw.id < num_clients).astype(draw.multiplicity.dtype))


def counted(ids: Array, num_clients: int) -> Draw:
    """The outcome of m draws with replacement: each client once, with how often it came up.

    Args:
        ids: in any order, N where nobody was drawn, int32 [m].
        num_clients: N.

    Returns:
        A draw of min(m, N) slots; the multiplicities sum to the draws that found a client.
    """
    ids = jnp.sort(ids)
    slot = jnp.cumsum(jnp.diff(ids, prepend=-1) > 0, dtype=jnp.int32) - 1
    slots = min(ids.shape[0], num_clients)
    draw = full(jnp.full((slots,), num_clients, jnp.int32).at[slot].set(ids, mode="drop"))
    found = (ids < num_clients).astype(draw.multiplicity.dtype)
    times = jnp.zeros((slots,), draw.multiplicity.dtype).at[slot].add(found, mode="drop")
    return draw._replace(multiplicity=times)


def without(draw: Draw, gone: Array, num_clients: int) -> Draw:
    """The draw with those of `gone` (bool [C]) absent, the others as they were."""
    ids = jnp.where(gone, num_clients, draw.id)
    order = jnp.argsort(ids, stable=True)
    return Draw(ids[order], draw.multiplicity[order], draw.work[order])
