"""Clients named by their numbers: the same every round, or a script of cohorts."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from fedjax_het.check import require
from fedjax_het.engine.sampling.sampler import Draw, full
from fedjax_het.typing import Array, Key, PyTree

__all__ = ["Fixed", "Scripted", "fixed", "scripted"]


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
