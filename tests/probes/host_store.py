"""Client states in host memory: gather and scatter replaced, the engine's body as it is."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fedjax_het as fh
from fedjax_het.engine.rounds import Outcome, Round, body, draw
from fedjax_het.engine.state import Seen
from fedjax_het.typing import PyTree

__all__ = ["host_round", "to_host"]

_draw = jax.jit(draw)


@jax.jit
def _body(
    round_fn: Round,
    algorithm: Any,
    federation: fh.Federation,
    state: fh.State,
    cohort: fh.Cohort,
    states: PyTree,
) -> Outcome:
    # N is a constant of the round on the device, and XLA divides by a constant and by an argument differently
    population = jnp.asarray(federation.num_clients, jnp.int32)
    cohort = dataclasses.replace(cohort, population=population)
    return body(round_fn, algorithm, federation, state, cohort, states)


def to_host(state: fh.State) -> tuple[fh.State, PyTree]:
    """(the state without clients, the clients' states as NumPy arrays of their own)."""
    return dataclasses.replace(state, clients=()), jax.tree.map(np.array, state.clients)


def host_round(
    round_fn: Round, algorithm: Any, state: fh.State, store: PyTree, federation: fh.Federation
) -> tuple[fh.State, dict[str, Any]]:
    """One round; `store` is changed in place at the clients that took part."""
    cohort, sampler = _draw(round_fn, algorithm, state, federation)
    ids = np.asarray(cohort.id)
    states = jax.tree.map(lambda leaf: leaf[np.minimum(ids, len(leaf) - 1)], store)
    done: Outcome = _body(round_fn, algorithm, federation, state, cohort, states)
    here = np.asarray(done.cohort.present)
    for leaf, new in zip(jax.tree.leaves(store), jax.tree.leaves(done.states)):
        leaf[ids[here]] = np.asarray(new)[here]
    target = jnp.where(done.cohort.present, cohort.id, federation.num_clients)
    seen = Seen(
        state.seen.loss.at[target].set(done.loss, mode="drop"),
        state.seen.round.at[target].set(state.round, mode="drop"),
    )
    state = fh.State(state.round + 1, state.key, done.server, (), sampler, seen, done.measures)
    return state, done.log
