"""Clients never trained on: the state with which each would be served."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import keys
from fedjax_het.engine.executors import auto
from fedjax_het.engine.fit import check_fit
from fedjax_het.engine.slots import Slots, make_client
from fedjax_het.federation import Federation
from fedjax_het.typing import Key, PyTree

__all__ = ["adapt"]


def adapt(algorithm: Any, server: PyTree, newcomers: Federation, *, key: Key, executor: Any = None) -> PyTree:
    """Client states for the clients of `newcomers`, none of whom took part in training.

    Put them into a `State` in place of `clients` to evaluate the newcomers.

    Args:
        algorithm: the algorithm.
        server: its server state.
        newcomers: their rows, in phase 0; the pool must have the training federation's shapes.
        key: consumed.
        executor: how clients are mapped; default `auto()`.

    Returns:
        Stacked client states, leading axis N of `newcomers`.

    Raises:
        ValueError: the algorithm cannot serve unseen clients (its message says why), or its model does not fit
            the newcomers.
    """
    check_fit(algorithm.problem, newcomers)
    executor = auto() if executor is None else executor
    return _join(algorithm, server, newcomers, key, executor=executor)


@functools.partial(jax.jit, static_argnames=("executor",))
def _join(algorithm: Any, server: PyTree, newcomers: Federation, key: Key, *, executor: Any) -> PyTree:
    ids = jnp.arange(newcomers.num_clients, dtype=jnp.int32)
    phase, ones = jnp.zeros((), jnp.int32), jnp.ones(ids.shape, jnp.result_type(float))
    train, valid = newcomers.locate("train", phase, ids), newcomers.locate("valid", phase, ids)
    slots = Slots(ids, ids >= 0, ones, ones, (), train, valid)

    def one(shared: PyTree, slot: Slots) -> tuple[PyTree, PyTree]:
        algorithm, server, newcomers, key = shared
        client = make_client(newcomers, slot, key, jnp.zeros((), jnp.int32))
        return (), algorithm.join(server, client)

    shared = (algorithm, server, newcomers, keys.stream(key, "join"))
    return executor(one, shared, slots, slots.train[1])[1]
