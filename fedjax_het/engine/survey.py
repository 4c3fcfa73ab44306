"""Survey: a measure put to any clients at any time, outside a round; and one client's round, replayed."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from fedjax_het import keys, tree
from fedjax_het.algorithm import Client, Cohort, Report
from fedjax_het.check import require
from fedjax_het.engine.beginning import begun
from fedjax_het.engine.evaluate import every_client
from fedjax_het.engine.executors import auto
from fedjax_het.engine.rounds import Round, draw
from fedjax_het.engine.slots import make_client
from fedjax_het.engine.state import State
from fedjax_het.federation import Federation
from fedjax_het.typing import Array, PyTree

__all__ = ["replay", "survey"]


def survey(
    measure: Any,
    algorithm: Any,
    state: State,
    federation: Federation,
    ids: Array | None = None,
    executor: Any = None,
    weighting: Any = None,
) -> dict[str, Array]:
    """Ask `measure` of clients without training anybody; pure.

    Args:
        measure: a `Measure`; its `client` gets no report.
        algorithm: the algorithm.
        state: where the run stands.
        federation: whose rows; read in the phase of the next round.
        ids: client numbers [C], each once; default all N. Answers come in ascending order.
        executor: how clients are mapped; default `auto()`.
        weighting: of the clients asked; default the algorithm's own.

    Returns:
        The measure's values by name.

    Raises:
        ValueError: ids that no client has, or one twice.
    """
    executor = auto() if executor is None else executor
    if ids is not None:
        ids = _ids(ids, federation.num_clients)
    phase = federation.phase(state.round)
    slots = every_client(algorithm, state, federation, phase, ids)
    real = jnp.result_type(float)
    rows = slots.train[1].astype(real)
    everyone = jnp.arange(federation.num_clients, dtype=jnp.int32)
    cohort = Cohort(
        id=slots.id,
        present=slots.present & (rows > 0),
        weight=jnp.zeros_like(slots.weight),
        multiplicity=jnp.ones_like(slots.weight),
        work=slots.work,
        round=state.round,
        population=federation.num_clients,
        rows=jnp.sum(federation.train.of(phase, everyone)[1].astype(real)),
    )
    weighting = algorithm.weighting if weighting is None else weighting
    weight = jnp.where(cohort.present, weighting(rows, cohort).astype(real), 0)
    cohort = dataclasses.replace(cohort, weight=weight)
    slots = slots._replace(weight=cohort.weight, present=cohort.present)

    def ask(shared: PyTree, slot: Any) -> tuple[PyTree, PyTree]:
        measure, carry, algorithm, federation, server, key, round_ = shared
        client = make_client(federation, slot, key, round_)
        total, each = measure.client(carry, algorithm, server, client, None)
        return tree.where(slot.present, total, tree.zeros_like(total)), each

    key = keys.stream(keys.round_(state.key, state.round), "survey")
    carries = {"asked": measure.init(algorithm, state.server)}

    def dense(slot: Any) -> Client:
        return make_client(federation, slot, key, state.round)

    carry = begun({"asked": measure}, carries, algorithm, state.server, slots, dense)["asked"]
    shared = (measure, carry, algorithm, federation, state.server, key, state.round)
    total, each = executor(ask, shared, slots, slots.train[1])
    values, _ = measure.finish(carry, algorithm, state.server, total, each, cohort)
    return values


def _ids(ids: Any, num_clients: int) -> Array:
    if isinstance(ids, Tracer):
        return ids
    array = np.sort(np.asarray(ids))
    require(
        array.ndim == 1
        and array.dtype.kind in "iu"
        and array.size > 0
        and array[0] >= 0
        and array[-1] < num_clients
        and bool((np.diff(array) > 0).all()),
        f"ids must be different numbers below {num_clients}, got {np.asarray(ids).tolist()}: "
        "clients count from 0",
    )
    return jnp.asarray(array, jnp.int32)


def replay(
    round_fn: Round,
    algorithm: Any,
    state: State,
    federation: Federation,
    client: int,
    *,
    work: Any = None,
) -> Report:
    """What one client of the coming round reports, alone and without the cohort; nothing is changed.

    Args:
        round_fn: the round.
        algorithm: the algorithm.
        state: the state before that round.
        federation: the federation.
        client: its number; it gets the weight that the round gives it, 0 if the round does not draw it.
        work: the fraction of its work to do; default: what the round gives it, all if not drawn.

    Returns:
        Its Report, bit for bit what `looped()` computes in the round.

    Raises:
        ValueError: there is no such client.
    """
    require(
        isinstance(client, Tracer) or 0 <= int(client) < federation.num_clients,
        f"client must be one of the {federation.num_clients} clients, got {client}: count from 0",
    )
    cohort, _ = draw(round_fn, algorithm, state, federation)
    here = cohort.id == client
    ids = jnp.asarray([client], jnp.int32)
    slots = every_client(algorithm, state, federation, federation.phase(state.round), ids)
    drawn = jnp.any(here)
    slot = jax.tree.map(lambda leaf: leaf[0], slots)
    slot = slot._replace(
        weight=jnp.sum(jnp.where(here, cohort.weight, 0)),
        work=jnp.where(drawn, jnp.sum(jnp.where(here, cohort.work, 0)), 1.0).astype(slot.work.dtype),
    )
    if work is not None:
        slot = slot._replace(work=jnp.asarray(work, slot.work.dtype))
    key = keys.round_(state.key, state.round)
    made = make_client(federation, slot, key, state.round, differentiable=round_fn.differentiable)
    return algorithm.client_update(state.server, made)
