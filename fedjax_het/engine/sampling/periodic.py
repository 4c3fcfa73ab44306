"""Clients that are available in a part of every day."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from fedjax_het import keys
from fedjax_het.check import number, require, whole
from fedjax_het.engine.sampling.available import Available, available
from fedjax_het.engine.sampling.fits import each, expect_each
from fedjax_het.permutation import scramble
from fedjax_het.typing import Array, Key, PyTree

__all__ = ["Periodic", "periodic"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Periodic:
    """See `periodic`; `phase` is an int32 scalar or [N], or None for phases from the run's key."""

    period: Array
    on_for: Array
    phase: Array | None

    def init(self, num_clients: int) -> PyTree:
        """The seed of the phases, uint32 [2], set in round 0; () if they are given.

        Raises:
            ValueError: not one phase a client.
        """
        if self.phase is None:
            return jnp.zeros((2,), jnp.uint32)
        expect_each("phase", self.phase, num_clients)
        return ()

    def on(self, state: PyTree, key: Key, round_: Array, sizes: Array) -> tuple[Array, PyTree]:
        """See `Pattern`."""
        num_clients = sizes.shape[0]
        if self.phase is None:
            state = jnp.where(round_ == 0, keys.seed(key), state)
            words = scramble(scramble(jnp.arange(num_clients, dtype=jnp.uint32) + state[0]) ^ state[1])
            phase = (words % self.period.astype(jnp.uint32)).astype(jnp.int32)
        else:
            phase = each(self.phase, num_clients)
        rounds = jnp.round(self.on_for * self.period.astype(self.on_for.dtype)).astype(jnp.int32)
        return (round_ + phase) % self.period < rounds, state


def periodic(size: int, *, period: Any, on_for: Any = 0.5, phase: Any = None) -> Available:
    """`size` clients a round from those whose time of day it is.

    Client k is available in round t when (t + phase_k) mod period < on_for * period, rounded.

    Args:
        size: clients of a cohort.
        period: rounds of a day; a leaf.
        on_for: the fraction of the day for which a client is available, in (0, 1]; a leaf.
        phase: rounds by which a client's day has advanced at round 0, one for all or one each, [N]. None draws
            them uniformly, once a run, from the run's key.

    Raises:
        TypeError: numbers of the wrong kind.
        ValueError: `size` or `period` below 1, `on_for` outside (0, 1] or less than one round, `phase` below 0.
    """
    period = whole("period", period, remedy="a day has at least one round")
    on_for = number("on_for", on_for, above=0, most=1, remedy="it is a fraction of the period")
    if not isinstance(period, Tracer) and not isinstance(on_for, Tracer):
        rounds = np.round(np.asarray(on_for) * np.asarray(period))
        require(
            bool(np.all(rounds >= 1)),
            f"on_for must be at least one round of the period, got {on_for} of {period}: nobody would ever be "
            "available",
        )
    if phase is not None:
        phase = whole("phase", phase, least=0, remedy="it is a number of rounds")
    return available(size, Periodic(period, on_for, phase))
