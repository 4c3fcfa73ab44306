"""Samplers: who takes part in a round, and how much of the work each will do.

A sampler is a frozen dataclass registered as a pytree. Its draws depend on (run key, round) alone, never on the
algorithm, so that methods are compared on the same cohorts.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from fedjax_het import keys
from fedjax_het.check import positive_int, require
from fedjax_het.permutation import permute
from fedjax_het.typing import Array, Key, PyTree, static

__all__ = ["Draw", "Everyone", "Fixed", "Sampler", "Scripted", "Uniform", "everyone", "fixed", "full"]
__all__ += ["scripted", "uniform"]


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


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Everyone:
    """All N clients, every round."""

    def init(self, num_clients: int) -> PyTree:
        """Nothing to remember."""
        return ()

    def draw(
        self, state: PyTree, key: Key, round_: Array, sizes: Array, last_loss: Array
    ) -> tuple[Draw, PyTree]:
        """See `Sampler`."""
        return full(jnp.arange(sizes.shape[0], dtype=jnp.int32)), state


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Uniform:
    """`size` of the N clients, uniformly without replacement."""

    size: int = static()

    def init(self, num_clients: int) -> PyTree:
        """Nothing to remember.

        Raises:
            ValueError: more cohort than clients.
        """
        require(
            self.size <= num_clients,
            f"cohort size must be <= the number of clients, got {self.size} of {num_clients}: "
            "draw fewer, or use sampling.everyone()",
        )
        return ()

    def draw(
        self, state: PyTree, key: Key, round_: Array, sizes: Array, last_loss: Array
    ) -> tuple[Draw, PyTree]:
        """See `Sampler`. The first C entries of a random permutation: the cost does not grow with N."""
        num_clients = sizes.shape[0]
        self.init(num_clients)
        slots = jnp.arange(self.size, dtype=jnp.int32)
        return full(jnp.sort(permute(slots, jnp.asarray(num_clients), keys.seed(key)))), state


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Fixed:
    """The same clients every round; `ids` int32 [C], ascending."""

    ids: Array

    def init(self, num_clients: int) -> PyTree:
        """Nothing to remember.

        Raises:
            ValueError: an id that no client has.
        """
        _inside(self.ids, num_clients)
        return ()

    def draw(
        self, state: PyTree, key: Key, round_: Array, sizes: Array, last_loss: Array
    ) -> tuple[Draw, PyTree]:
        """See `Sampler`."""
        return full(self.ids), state


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Scripted:
    """The cohorts written down in `ids` int32 [rounds, C], ascending in each round; repeats after the last."""

    ids: Array

    def init(self, num_clients: int) -> PyTree:
        """Nothing to remember.

        Raises:
            ValueError: an id that no client has.
        """
        _inside(self.ids, num_clients)
        return ()

    def draw(
        self, state: PyTree, key: Key, round_: Array, sizes: Array, last_loss: Array
    ) -> tuple[Draw, PyTree]:
        """See `Sampler`."""
        return full(self.ids[round_ % self.ids.shape[0]]), state


def _inside(ids: Array, num_clients: int) -> None:
    if not isinstance(ids, Tracer):
        highest = int(np.max(np.asarray(ids)))
        require(
            highest < num_clients,
            f"ids must be below the number of clients {num_clients}, got {highest}: clients count from 0",
        )


def _ids(ids: Any, ndim: int) -> Array:
    array = np.asarray(ids)
    require(
        array.dtype.kind in "iu" and array.ndim == ndim and array.size > 0,
        f"ids must be whole numbers with {ndim} axes, got shape {array.shape} of {array.dtype}: "
        "list client numbers, counting from 0",
    )
    array = np.sort(array, axis=-1)
    require(
        bool((array >= 0).all()) and not bool((np.diff(array, axis=-1) == 0).any()),
        f"ids must be >= 0 and name a client once a round, got {np.asarray(ids).tolist()}: "
        "list different client numbers, counting from 0",
    )
    return jnp.asarray(array, jnp.int32)


def everyone() -> Everyone:
    """Full participation."""
    return Everyone()


def uniform(size: int) -> Uniform:
    """`size` clients a round, uniformly without replacement.

    Raises:
        TypeError, ValueError: `size` is not a whole number of at least 1.
    """
    return Uniform(positive_int("size", size, remedy="a cohort has at least one client"))


def fixed(ids: Any) -> Fixed:
    """These clients in every round.

    Raises:
        ValueError: not a list of different client numbers.
    """
    return Fixed(_ids(ids, 1))


def scripted(ids: Any) -> Scripted:
    """These clients in round 0, 1, ...: [rounds, C], starting over after the last.

    Raises:
        ValueError: not a table of client numbers, different within each round.
    """
    return Scripted(_ids(ids, 2))
