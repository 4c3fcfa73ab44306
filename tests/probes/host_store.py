"""Client states in host memory: gather and scatter replaced, the engine's body as it is."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

import fedjax_het as fh
from fedjax_het.engine.rounds import Outcome, Round, advance, body, draw
from fedjax_het.typing import PyTree

__all__ = ["host_round", "to_host"]

_draw = jax.jit(draw)


_body = jax.jit(body)


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
    return advance(state, done, sampler, ()), done.log
