"""Drawn clients that are late: what they have done by then is used, or they are left out."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het.check import known, number, whole
from fedjax_het.engine.sampling.nesting import client_words
from fedjax_het.engine.sampling.sampler import Draw, Sampler, without
from fedjax_het.typing import Array, Key, PyTree, static

__all__ = ["POLICIES", "Stragglers", "stragglers"]

POLICIES = ("keep", "drop")
"""keep: what stragglers have done is aggregated; drop: their slots are absent."""

_TICKS = 4096.0
"""Shares of a client are rounded to 1/4096 first, so that a half is one in single precision as well."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Stragglers:
    """See `stragglers`."""

    inner: Sampler
    fraction: Array
    epochs: Array
    policy: str = static()

    def init(self, num_clients: int) -> PyTree:
        """The inner sampler's."""
        return self.inner.init(num_clients)

    def draw(
        self, state: PyTree, key: Key, round_: Array, sizes: Array, last_loss: Array
    ) -> tuple[Draw, PyTree]:
        """See `Sampler`. Draws as the inner sampler does, then says who of those drawn is late."""
        drawn, state = self.inner.draw(state, key, round_, sizes, last_loss)
        num_clients = sizes.shape[0]
        there = drawn.id < num_clients
        many = jnp.sum(there, dtype=jnp.int32)
        share = many.astype(self.fraction.dtype) * (1 - self.fraction)
        in_time = jnp.round(jnp.round(share * _TICKS) / _TICKS).astype(jnp.int32)
        words = client_words(self, key, drawn.id)
        # absent slots last in the order, lowest words first among the others
        order = jnp.lexsort((words[:, 0], ~there))
        rank = jnp.zeros_like(drawn.id).at[order].set(jnp.arange(order.shape[0], dtype=jnp.int32))
        late = there & (rank < many - in_time)
        if self.policy == "drop":
            return without(drawn, late, num_clients), state
        done = 1 + words[:, 1] % (self.epochs - 1).astype(jnp.uint32)
        part = done.astype(drawn.work.dtype) / self.epochs.astype(drawn.work.dtype)
        return drawn._replace(work=jnp.where(late, part * drawn.work, drawn.work)), state


def stragglers(inner: Sampler, fraction: Any, *, epochs: Any, policy: str = "keep") -> Stragglers:
    """Around any sampler: of m clients drawn, m - round(m (1 - fraction)) are late.

    A late client has done E' of its E epochs when the round ends, E' uniform on 1, ..., E - 1. "keep"
    aggregates that (work E'/E), as the paper's method does; "drop" leaves the client out, as its baseline
    does. Both policies have the same stragglers under one key, and so have all methods.

    Args:
        inner: who is drawn.
        fraction: of those drawn, in [0, 1]; rounded as above, halves to even. A leaf.
        epochs: E, at least 2; a leaf. Give the solver's, so that work is in whole epochs; with another one,
            or a solver that counts steps, work is the fraction E'/E rounded to steps.
        policy: one of `POLICIES`.

    Raises:
        TypeError: numbers of the wrong kind.
        ValueError: `fraction` outside [0, 1], `epochs` below 2, unknown `policy`.

    Reference: Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020, section 5.2
    (systems heterogeneity), and the authors' code, which draws exactly round(m (1 - fraction)) active clients.

    Departures: m counts those drawn by `inner`, which may be fewer than its slots.
    """
    known("policy", policy, POLICIES)
    kept = number("fraction", fraction, least=0, most=1, remedy="it is a fraction of those drawn")
    total = whole("epochs", epochs, least=2, remedy="a straggler of one epoch would have done nothing")
    return Stragglers(inner, kept, total, policy)
