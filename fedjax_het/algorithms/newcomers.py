"""What clients begin with that were never trained on: statistics of their own rows, others' mean leaves."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het.federation import Data
from fedjax_het.problem import Model, Problem
from fedjax_het.typing import Array, PyTree

__all__ = ["mean_start", "statistics"]


def statistics(problem: Problem, model: Model, data: Data) -> PyTree:
    """Where buffers that follow a moving average settle when all rows of a client are one batch; no labels.

    Such a buffer r becomes m r + (1 - m) s with s the batch's statistic. The passes from r = 0 and from r = 1
    give m and s, whatever the model's m. Buffers that are no moving average, those that are not floats, and
    those of an empty client stay as they are.

    Args:
        problem: whose model.
        model: params, and buffers of the right shapes.
        data: the client's rows.
    """
    batch = data.take(jnp.arange(max(1, data.capacity), dtype=jnp.int32))
    rows = {"weight": batch.weight} if problem.facts.masked else {}

    def after(value: int) -> PyTree:
        buffers = jax.tree.map(lambda leaf: jnp.full_like(leaf, value), model.buffers)
        return problem.apply(model.params, buffers, batch.x, train=True, **rows)[1]

    def settle(old: Array, low: Array, high: Array) -> Array:
        if not jnp.issubdtype(old.dtype, jnp.floating):
            return old
        memory = high - low
        moving = (memory >= 0) & (memory < 1) & (data.size > 0)
        return jnp.where(moving, low / jnp.where(moving, 1 - memory, 1), old)

    return jax.tree.map(settle, model.buffers, after(0), after(1))


def mean_start(algorithm: Any, state: Any) -> Any:
    """The same method for newcomers, who begin with the mean of the personal leaves of all trained clients.

    To be called after the run: it reads the personal leaves of the clients, which the server never sees. Every
    client that took part counts alike; if none did, so does everyone.

    Args:
        algorithm: a `Partial` method, such as `fedbn(...)`; what was run.
        state: where the run stands.
    """
    seen = state.seen.round >= 0
    seen = jnp.where(jnp.any(seen), seen, True)

    def mean(leaf: Array) -> Array:
        mask = seen.reshape(-1, *[1] * (leaf.ndim - 1))
        count = jnp.sum(seen).astype(leaf.dtype)
        return (jnp.sum(jnp.where(mask, leaf, 0), axis=0) / count).astype(leaf.dtype)

    own = jax.tree.map(mean, state.clients)
    return dataclasses.replace(algorithm, start=algorithm.combined(state.server, own))
