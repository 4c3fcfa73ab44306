"""Evaluation: the global model, the model after local work and the personal models, on clients' rows.

Test rows are read here alone; no algorithm sees them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_het import keys, tree
from fedjax_het.algorithm import Client
from fedjax_het.check import known, positive_int, require
from fedjax_het.engine.executors import Auto, auto
from fedjax_het.engine.scoring import add, begin, check_metrics, finish, standard, union
from fedjax_het.engine.slots import Slots, make_client
from fedjax_het.engine.state import State
from fedjax_het.federation import SPLITS, Batch, Federation, pool_rows
from fedjax_het.permutation import permute
from fedjax_het.typing import Array, Metrics, PyTree

__all__ = ["Evaluation", "check_sample", "evaluate", "every_client"]

ROWS = 1024
"""Rows of one step of the pass of the global model over everyone's rows."""


class Evaluation(NamedTuple):
    """Metrics by name; nothing is averaged over clients yet. m clients are scored, all N or a sample.

    Attributes:
        client: who, ascending, int32 [m].
        trained: whether the client has taken part in training, bool [m].
        rows: rows each client was scored on, int32 [m].
        union: the global model over all rows of these clients, scalars; {} without one.
        shared: the global model on each client's rows, float [m]; {} without one. NaN where there are no rows.
        local: what the client holds after a round of local work, on its rows, float [m]; {} unless asked for,
            and where the algorithm reports no such model.
        personal: each client's own model on its rows, float [m]. NaN where there are no rows.
    """

    client: Array
    trained: Array
    rows: Array
    union: Metrics
    shared: Metrics
    local: Metrics
    personal: Metrics


def every_client(
    algorithm: Any, state: State, federation: Federation, phase: Array, ids: Array | None = None
) -> Slots:
    """Slots of the given clients (default all N), as if each were alone in a round with all of its work."""
    states = state.clients if ids is None else tree.take(state.clients, ids)  # all of them need no copy
    if ids is None:
        ids = jnp.arange(federation.num_clients, dtype=jnp.int32)
    ones = jnp.ones(ids.shape, jnp.result_type(float))
    return Slots(
        ids,
        ids < federation.num_clients,
        ones,
        ones,
        states,
        federation.locate("train", phase, ids),
        federation.locate("valid", phase, ids),
    )


def _shared(
    algorithm: Any,
    model: PyTree,
    federation: Federation,
    metrics: Sequence[Any],
    ids: Array,
    located: tuple[Array, Array, tuple[PyTree, ...]],
    index: Array,
) -> tuple[Metrics, Metrics]:
    """(union, by client [m]) of one model: a flat pass over the rows of all, and a sum for each owner."""
    offset, size, arguments = located
    owners = ids.shape[0]
    ends = jnp.cumsum(size)
    chunk = max(1, min(ROWS, index.shape[0]))

    def rows_at(place: Array) -> tuple[Array, Array, Array]:
        """(x, y, owner) of these places in the rows of all clients, one client after the other."""
        counts = place < ends[-1]
        owner = jnp.where(counts, jnp.searchsorted(ends, place, side="right"), 0).astype(jnp.int32)
        start = offset[owner] + place - (ends[owner] - size[owner])
        row = index.at[start].get(mode="clip")
        x, y = pool_rows(federation.x, federation.y, federation.spec.pool.scale, row)
        for transform, argument in zip(federation.transforms, arguments):  # each row in its owner's context
            x, y = _row_by_row(transform.function)(x, y, tree.take(argument, owner), row)
        return x, y, jnp.where(counts, owner, owners)

    def score(place: Array) -> tuple[PyTree, Array]:
        x, y, _ = rows_at(place)
        return algorithm.predict(model, x), y

    def visit(i: Array, carry: PyTree) -> PyTree:
        x, y, owner = rows_at(i * chunk + jnp.arange(chunk, dtype=jnp.int32))
        return add(metrics, carry, algorithm.predict(model, x), y, owner, i * chunk, owners)

    room = -(-max(1, index.shape[0]) // chunk) * chunk
    start = begin(metrics, score, jax.ShapeDtypeStruct((chunk,), jnp.int32), owners, room)
    carry = jax.lax.fori_loop(0, (ends[-1] + chunk - 1) // chunk, visit, start)
    return union(metrics, carry, size), finish(metrics, carry, size)


def _row_by_row(function: Any) -> Any:
    """A client's transform applied to rows that each bring their own arguments."""

    def one(x: Array, y: Array, argument: PyTree, row: Array) -> tuple[Array, Array]:
        x, y = function(x[None], y[None], argument, row[None])
        return x[0], y[0]

    return jax.vmap(one)


def _own(
    algorithm: Any,
    state: State,
    federation: Federation,
    metrics: Sequence[Any],
    slots: Slots,
    phase: Array,
    split: str,
    executor: Any,
    model_of: Callable[[Any, PyTree, Client], PyTree],
) -> Metrics:
    """A model of each client's own (`model_of(algorithm, server, client)`) on its own rows, [m] by metric."""
    scored = federation.locate(split, phase, slots.id)
    key = keys.stream(keys.round_(state.key, state.round), "evaluate")

    def one(shared: PyTree, row: PyTree) -> tuple[PyTree, Metrics]:
        algorithm, server, federation, metrics, key, round_ = shared
        slot, located = row
        model = model_of(algorithm, server, make_client(federation, slot, key, round_))
        data = federation.data(split, located)

        def score(batch: Batch) -> tuple[PyTree, Array]:
            return algorithm.predict(model, batch.x), batch.y

        def step(carry: PyTree, batch: Batch) -> PyTree:
            owner = jnp.where(batch.weight > 0, 0, 1).astype(jnp.int32)
            return add(metrics, carry, *score(batch), owner, batch.position[0], 1)

        sample = jax.eval_shape(lambda: data.take(jnp.zeros((data.chunk,), jnp.int32)))
        carry = begin(metrics, score, sample, 1, data.chunk * data.chunks)
        carry = data.fold_full(step, carry)
        return (), {name: value[0] for name, value in finish(metrics, carry, data.size[None]).items()}

    def model_alone(shared: PyTree, row: PyTree) -> tuple[PyTree, PyTree]:
        algorithm, server, federation, _, key, round_ = shared
        return (), model_of(algorithm, server, make_client(federation, row[0], key, round_))

    shared = (algorithm, state.server, federation, tuple(metrics), key, state.round)
    rows = (slots, scored)
    if isinstance(executor, Auto):  # a client returns a few numbers here, but works with a whole model
        executor = executor.choose(model_alone, shared, rows)
    return executor(one, shared, rows, slots.train[1] + scored[1])[1]


def _unchanged(algorithm: Any, server: PyTree, client: Client) -> bool:
    """Whether clients use the global model as it is: `personalise` hands on the very arrays of `consensus`."""
    traced, (model, own) = jax.make_jaxpr(
        lambda server, client: (algorithm.consensus(server), algorithm.personalise(server, client)),
        return_shape=True,
    )(server, client)
    made = traced.jaxpr.outvars
    half = len(made) // 2
    same = all(a is b for a, b in zip(made[:half], made[half:]))
    return same and jax.tree.structure(model) == jax.tree.structure(own)


def _after_local_work(algorithm: Any, server: PyTree, client: Client) -> PyTree:
    return algorithm.client_update(server, client).local


def _personal(algorithm: Any, server: PyTree, client: Client) -> PyTree:
    return algorithm.personalise(server, client)


def _sample(state: State, sample: int, num_clients: int) -> Array:
    """Different clients at random, ascending, int32 [sample]; others after every round."""
    key = keys.stream(keys.round_(state.key, state.round), "evaluated clients")
    places = jnp.arange(sample, dtype=jnp.int32)
    return jnp.sort(permute(places, jnp.asarray(num_clients, jnp.int32), keys.seed(key)))


def check_sample(sample: int | None, federation: Federation) -> None:
    """Raise unless `sample` is None or a number of clients that the federation has.

    Raises:
        TypeError: not a whole number.
        ValueError: below 1, or more than there are clients.
    """
    if sample is None:
        return
    sample = positive_int("sample", sample, remedy="None scores everyone")
    many = federation.num_clients
    require(sample <= many, f"sample must be <= {many} clients, got {sample}: None scores everyone")


def evaluate(
    algorithm: Any,
    state: State,
    federation: Federation,
    *,
    executor: Any = None,
    split: str = "test",
    metrics: Sequence[Any] | None = None,
    local: bool = False,
    sample: int | None = None,
) -> Evaluation:
    """Score the global model and every client's own model, in the phase of the last round; pure.

    Args:
        algorithm: the algorithm.
        state: where the run stands.
        federation: whose rows.
        executor: how clients are mapped; default `auto()`.
        split: "train", "valid" or "test".
        metrics: `Metric`s and `Ranking`s of `fh.metrics`; default: the problem's own row metrics and what its
            task adds (balanced accuracy, AUC of two classes, RMSE and R^2, perplexity).
        local: also train every scored client for a round and score what it then holds; nothing is kept.
            Algorithms whose reports carry no local model have no such scores.
        sample: score so many clients, drawn at random anew after every round, instead of all.

    Raises:
        TypeError: a sample that is not a whole number.
        ValueError: unknown split; metrics of another task; a sample larger than the federation.
    """
    known("split", split, SPLITS)
    executor = auto() if executor is None else executor
    check_metrics(metrics, federation)
    metrics = standard(algorithm.problem, federation) if metrics is None else tuple(metrics)
    check_sample(sample, federation)
    phase = federation.phase(jnp.maximum(state.round - 1, 0))
    drawn = None if sample is None else _sample(state, sample, federation.num_clients)
    slots = every_client(algorithm, state, federation, phase, drawn)
    ids = slots.id
    located = federation.locate(split, phase, ids)
    model = algorithm.consensus(state.server)
    together: tuple[Metrics, Metrics] = ({}, {})
    if model is not None:
        index = federation.rows(split).index
        together = _shared(algorithm, model, federation, metrics, ids, located, index)
    given = (algorithm, state, federation, metrics, slots, phase, split, executor)
    some = jax.eval_shape(
        lambda slots: make_client(federation, tree.take(slots, jnp.int32(0)), state.key, state.round), slots
    )
    after = {}
    if local and jax.tree.leaves(jax.eval_shape(_after_local_work, algorithm, state.server, some)):
        after = _own(*given, _after_local_work)
    as_it_is = model is not None and _unchanged(algorithm, state.server, some)
    return Evaluation(
        client=ids,
        trained=state.seen.round[ids] >= 0,
        rows=located[1],
        union=together[0],
        shared=together[1],
        local=after,
        personal=together[1] if as_it_is else _own(*given, _personal),
    )
