"""State: everything that a resumed run needs, the key and the round included."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import keys
from fedjax_het.algorithm import Cohort
from fedjax_het.engine.fit import check_algorithm, check_fit
from fedjax_het.federation import Federation
from fedjax_het.typing import Array, Key, PyTree

__all__ = ["Seen", "State", "initial_state"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Seen:
    """What the server has seen of each client.

    Attributes:
        loss: the loss it last reported, inf before its first report, float [N].
        round: the round it last took part in, -1 before the first, int32 [N].
    """

    loss: Array
    round: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """A run between two rounds.

    Attributes:
        round: rounds done, int32 scalar.
        key: the run's key; every draw derives from (key, round, client id).
        server: the algorithm's server state.
        clients: the algorithm's client states, leading axis N, or ().
        sampler: the sampler's state.
        seen: what the server has seen of each client.
        measures: the carry of each measure, by name.
    """

    round: Array
    key: Key
    server: PyTree
    clients: PyTree
    sampler: PyTree
    seen: Seen
    measures: dict[str, PyTree]


def initial_state(algorithm: Any, federation: Federation, *, key: Key, round_fn: Any) -> State:
    """The state before round 0; pure, so it can be jitted, and vmapped over `key`.

    Args:
        algorithm: an `Algorithm`.
        federation: whom it will train on.
        key: the run's key; initial parameters depend on it alone, so methods compared under one key start
            from the same weights.
        round_fn: the round that will run (`make_round`): its sampler and measures have states too.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: the algorithm's model does not fit the federation, or the weighting refuses the sampler's
            cohorts.
    """
    check_algorithm(algorithm)
    check_fit(algorithm.problem, federation)
    clients_count = federation.num_clients
    server, clients = algorithm.init(keys.stream(key, "init"), federation)
    seen = Seen(
        jnp.full((clients_count,), jnp.inf, jnp.result_type(float)),
        jnp.full((clients_count,), -1, jnp.int32),
    )
    carries = {name: measure.init(algorithm, server) for name, measure in round_fn.measures.items()}
    sampler = round_fn.sampler.init(clients_count)
    start = State(jnp.zeros((), jnp.int32), key, server, clients, sampler, seen, carries)
    _try_weighting(algorithm.weighting if round_fn.weighting is None else round_fn.weighting, round_fn, start)
    return start


def _try_weighting(weighting: Any, round_fn: Any, start: State) -> None:
    """Follow the shapes of a cohort through the weighting, whose own numbers are concrete here: it may refuse
    them for so many clients or slots before anything is compiled."""

    def weigh(state: State, sizes: Array) -> Array:
        loss = state.seen.loss
        ids = round_fn.sampler.draw(state.sampler, state.key, state.round, sizes, loss)[0].id
        floats = jnp.ones(ids.shape, loss.dtype)
        cohort = Cohort(ids, ids >= 0, floats, floats, floats, state.round, loss[0], loss.shape[0])
        return weighting(floats, cohort)

    jax.eval_shape(weigh, start, jax.ShapeDtypeStruct(start.seen.loss.shape, jnp.int32))
