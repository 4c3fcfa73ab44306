"""Batches drawn anew at every step, independent of all before: what theorems on stochastic gradients assume.

The engine's batches go through a client's rows before any of them comes again, so that the steps of an epoch
depend on each other. Here every local step draws its own rows, uniformly and without replacement within the
batch, and the objective may be a multiple of F_k. FedAvg takes both as its objective; its solver then says how
many steps there are, and its own batches are never read.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import keys
from fedjax_het.algorithm import Client
from fedjax_het.algorithms.fedavg import FedAvg, fedavg
from fedjax_het.check import positive_int
from fedjax_het.federation import Batch
from fedjax_het.local import sgd
from fedjax_het.permutation import permute
from fedjax_het.problem import Aux, Objective, Problem, objective
from fedjax_het.typing import Array, Bound, Key, Params, PyTree

__all__ = ["fresh_fedavg"]


def fresh_fedavg(
    problem: Problem, rate: Any, *, steps: Any, batch_size: int | None, per_row: Any = None
) -> FedAvg:
    """FedAvg whose clients do E steps on c n_k F_k, or on F_k, with a fresh batch each.

    Args:
        problem: what to learn.
        rate: see `fedjax_het.local.sgd`.
        steps: E, a leaf.
        batch_size: B; None for full batches, which draw nothing. A client with fewer rows takes all of them.
        per_row: c, a leaf: N/n makes the objective N p_k F_k (transformed scheme II); None for F_k.

    Raises:
        TypeError, ValueError: a number of the wrong kind or range.

    Reference:
        Li, Huang, Yang, Wang, Zhang, ICLR 2020, assumption A3 and section 3.3; their code draws so too.
    """
    rows = None if batch_size is None else positive_int("batch_size", batch_size, remedy="None is full batches")
    method = fedavg(problem, sgd(rate, batch_size=None if rows is None else 1, steps=steps, shuffle=False))
    return dataclasses.replace(method, objective=jax.tree_util.Partial(Bound(_objective, (rows,)), per_row))


def _objective(rows: int | None, per_row: Any, problem: Problem, server: PyTree, client: Client) -> Objective:
    plain, data = objective(problem), client.data
    scale = None if per_row is None else per_row * data.size.astype(jnp.result_type(float))

    def drawn(params: Params, buffers: PyTree, batch: Batch, key: Key) -> tuple[Array, Aux]:
        if rows is not None:
            place = jnp.arange(min(rows, max(1, data.capacity)), dtype=jnp.int32)
            batch = data.take(permute(place, data.size, keys.seed(keys.stream(key, "fresh rows"))))
            batch = batch._replace(weight=jnp.where(place < data.size, batch.weight, 0))
        value, aux = plain(params, buffers, batch, keys.stream(key, "model"))
        return value if scale is None else scale * value, aux

    return drawn
