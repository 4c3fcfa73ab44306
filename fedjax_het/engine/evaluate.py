"""Evaluation: the global model and the personal models, on everyone's rows, each in one compiled program.

Test rows are read here alone; no algorithm sees them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_het import keys, tree
from fedjax_het.algorithm import Client
from fedjax_het.check import known
from fedjax_het.engine.executors import auto
from fedjax_het.engine.slots import Slots, make_client
from fedjax_het.engine.state import State
from fedjax_het.federation import SPLITS, Batch, Federation, pool_rows
from fedjax_het.problem import full_mean
from fedjax_het.typing import Array, Metrics, PyTree

__all__ = ["Evaluation", "evaluate", "every_client", "global_metrics", "personal_metrics"]

ROWS = 1024
"""Rows of one step of the pass of the global model over everyone's rows."""


class Evaluation(NamedTuple):
    """Metrics by name; nothing is averaged over clients yet.

    Attributes:
        rows: rows each client was scored on, int32 [N].
        union: the global model over all rows, scalars; {} without one.
        shared: the global model on each client's rows, float [N]; {} without one. NaN where there are no rows.
        personal: each client's own model on its rows, float [N]. NaN where there are no rows.
    """

    rows: Array
    union: Metrics
    shared: Metrics
    personal: Metrics


def every_client(
    algorithm: Any, state: State, federation: Federation, phase: Array, ids: Array | None = None
) -> Slots:
    """Slots of the given clients (default all N), as if each were alone in a round with all of its work."""
    if ids is None:
        ids = jnp.arange(federation.num_clients, dtype=jnp.int32)
    ones = jnp.ones(ids.shape, jnp.result_type(float))
    return Slots(
        ids,
        ids < federation.num_clients,
        ones,
        ones,
        tree.take(state.clients, ids),
        federation.locate("train", phase, ids),
        federation.locate("valid", phase, ids),
    )


def global_metrics(
    algorithm: Any, server: PyTree, federation: Federation, phase: Array, split: str
) -> tuple[Metrics, Metrics]:
    """(union, per client [N]) of the one global model: a flat pass and a segment sum, ({}, {}) without one."""
    model = algorithm.consensus(server)
    if model is None:
        return {}, {}
    everyone = jnp.arange(federation.num_clients, dtype=jnp.int32)
    offset, size, arguments = federation.locate(split, phase, everyone)
    ends = jnp.cumsum(size)
    index, scale = federation.rows(split).index, federation.spec.pool.scale

    def rows_at(place: Array) -> tuple[Array, Array, Array, Array]:
        """(x, y, owner, counts) of these places in the rows of all clients, one client after the other."""
        counts = place < ends[-1]
        owner = jnp.where(counts, jnp.searchsorted(ends, place, side="right"), 0).astype(jnp.int32)
        start = offset[owner] + place - (ends[owner] - size[owner])
        x, y = pool_rows(federation.x, federation.y, scale, index.at[start].get(mode="clip"))
        for transform, argument in zip(federation.transforms, arguments):  # each row in its owner's context
            x, y = _row_by_row(transform.function)(x, y, tree.take(argument, owner))
        return x, y, owner, counts

    def score(place: Array) -> tuple[Metrics, Array, Array]:
        x, y, owner, counts = rows_at(place)
        return algorithm.problem.metrics(algorithm.predict(model, x), y), owner, counts

    shapes, _, _ = jax.eval_shape(score, jax.ShapeDtypeStruct((1,), jnp.int32))
    start = {name: jnp.zeros((federation.num_clients,), leaf.dtype) for name, leaf in shapes.items()}

    def visit(i: Array, sums: Metrics) -> Metrics:
        values, owner, counts = score(i * ROWS + jnp.arange(ROWS, dtype=jnp.int32))
        return {name: sums[name].at[owner].add(jnp.where(counts, value, 0)) for name, value in values.items()}

    sums = jax.lax.fori_loop(0, (ends[-1] + ROWS - 1) // ROWS, visit, start)
    union = {name: _mean(jnp.sum(s), jnp.sum(size)) for name, s in sums.items()}
    by_client = {name: _mean(s, size) for name, s in sums.items()}
    return union, by_client


def _mean(total: Array, count: Array) -> Array:
    """total / count, NaN where nothing was counted."""
    return jnp.where(count > 0, total / jnp.maximum(count, 1).astype(total.dtype), jnp.nan)


def _row_by_row(function: Any) -> Any:
    """A client's transform applied to rows that each bring their own arguments."""

    def one(x: Array, y: Array, argument: PyTree) -> tuple[Array, Array]:
        x, y = function(x[None], y[None], argument)
        return x[0], y[0]

    return jax.vmap(one)


def personal_metrics(
    algorithm: Any, state: State, federation: Federation, phase: Array, split: str, executor: Any
) -> Metrics:
    """Each client's own model (`personalise`, then `predict`) on its own rows, [N] by metric."""
    slots = every_client(algorithm, state, federation, phase)
    scored = federation.locate(split, phase, slots.id)
    key = keys.stream(keys.round_(state.key, state.round), "evaluate")

    def one(shared: PyTree, row: PyTree) -> tuple[PyTree, Metrics]:
        algorithm, server, federation, key, round_ = shared
        slot, located = row
        client: Client = make_client(federation, slot, key, round_)
        model = algorithm.personalise(server, client)

        def metrics(batch: Batch) -> Metrics:
            return algorithm.problem.metrics(algorithm.predict(model, batch.x), batch.y)

        values = full_mean(metrics, federation.data(split, located))
        return (), {name: jnp.where(located[1] > 0, value, jnp.nan) for name, value in values.items()}

    shared = (algorithm, state.server, federation, key, state.round)
    return executor(one, shared, (slots, scored), slots.train[1])[1]


def evaluate(
    algorithm: Any, state: State, federation: Federation, *, executor: Any = None, split: str = "test"
) -> Evaluation:
    """Score the global model and every client's own model, in the phase of the last round; pure.

    Args:
        algorithm: the algorithm.
        state: where the run stands.
        federation: whose rows.
        executor: how clients are mapped; default `auto()`.
        split: "train", "valid" or "test".

    Raises:
        ValueError: unknown split.
    """
    known("split", split, SPLITS)
    executor = auto() if executor is None else executor
    phase = federation.phase(jnp.maximum(state.round - 1, 0))
    _, rows = federation.rows(split).of(phase, jnp.arange(federation.num_clients, dtype=jnp.int32))
    union, shared = global_metrics(algorithm, state.server, federation, phase, split)
    personal = personal_metrics(algorithm, state, federation, phase, split, executor)
    return Evaluation(rows, union, shared, personal)
