"""Runs: where the engine's rounds lead on quadratics, round by round."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.algorithms import fedavg
from fedjax_het.analysis import oracles
from fedjax_het.assembly import partition
from fedjax_het.check import positive_int, positive_ints, require, short
from fedjax_het.engine import executors, initial_state, make_round, sampling
from fedjax_het.federation import Federation
from fedjax_het.local import sgd
from fedjax_het.models import quadratic, quadratic_federation, quadratic_pool
from fedjax_het.pool import Pool
from fedjax_het.problem import Problem
from fedjax_het.typing import Array

__all__ = [
    "TOY",
    "engine_map",
    "increasing",
    "measured",
    "noisy_federation",
    "path",
    "predicted",
    "problem_of",
    "toy_federation",
]

TOY = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
"""Minimisers of the toy's four clients, [4, 2]."""


def toy_federation(curvatures: Sequence[float] = (4.0, 1.0, 1.0, 1.0), minimisers: Any = TOY) -> Federation:
    """F_k(w) = c_k/2 |w - a_k|^2 of four clients of equal weight.

    Args:
        curvatures: c_k.
        minimisers: a_k [4, 2].
    """
    A = np.asarray(curvatures, np.float64)[:, None, None] * np.eye(2)
    return quadratic_federation(A, np.asarray(minimisers, np.float64))


def noisy_federation(A: Any, minimisers: Any, *, rows: int, spread: float, seed: int) -> Federation:
    """Clients of `rows` rows 1/2 (w - x)'A_k (w - x) each, x normal around a_k, so that batches are noisy.

    Args:
        A: curvatures [N, d, d].
        minimisers: a_k [N, d], exactly the mean of client k's x.
        rows: of each client.
        spread: standard deviation of x in each coordinate.
        seed: of the draw.
    """
    A, minimisers = np.asarray(A, np.float64), np.asarray(minimisers, np.float64)
    count, dimension = minimisers.shape
    x = np.random.default_rng(seed).normal(size=(count, rows, dimension))
    x = spread * (x - x.mean(axis=1, keepdims=True)) + minimisers[:, None]
    owner = np.repeat(np.arange(count), rows)
    drawn = quadratic_pool(A[owner], x.reshape(-1, dimension))
    parts = np.split(np.arange(len(owner)), count)
    return partition(drawn, parts, test=0.0, valid=0.0, seed=seed)


def problem_of(federation: Federation) -> Problem:
    """The problem of a federation of quadratics."""
    return quadratic(Pool(federation.x, federation.y, federation.spec.pool))


def path(algorithm: Any, federation: Federation, start: Any, rounds: int, sampler: Any = None) -> Array:
    """The consensus model before and after each round, float [rounds + 1, d]; pure, to be jitted and vmapped.

    Args:
        algorithm: one whose server holds `params`.
        federation: of quadratics.
        start: where the server begins [d].
        rounds: how many.
        sampler: who takes part; everyone if None.
    """
    round_fn = make_round(sampling.everyone() if sampler is None else sampler, executors.vmapped())
    state = initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
    start = jnp.asarray(start, jnp.result_type(float))
    server: Any = state.server
    state = dataclasses.replace(state, server=dataclasses.replace(server, params={"w": start}))

    def one(state: Any, _: None) -> tuple[Any, Array]:
        state = round_fn(algorithm, state, federation)[0]
        return state, algorithm.consensus(state.server).params["w"]

    return jnp.concatenate([start[None], jax.lax.scan(one, state, length=rounds)[1]])


def measured(
    federation: Federation, start: Any, *, learning_rate: float, steps: Sequence[int], rounds: int
) -> np.ndarray:
    """|w_t - w*| of the engine's FedAvg with full batches, for each E, float [len(steps), rounds + 1].

    Args:
        federation: of quadratics.
        start: where the server begins [d].
        learning_rate: eta.
        steps: E.
        rounds: how many.
    """
    best, counts = oracles.quadratics_of(federation).optimum, jnp.asarray(steps, jnp.int32)
    start, rate = jnp.asarray(start, best.dtype), jnp.asarray(learning_rate, best.dtype)
    return np.asarray(_errors(problem_of(federation), federation, start, best, rate, counts, rounds=rounds))


@functools.partial(jax.jit, static_argnames="rounds")
def _errors(
    problem: Problem,
    federation: Federation,
    start: Array,
    best: Array,
    rate: Array,
    steps: Array,
    *,
    rounds: int,
) -> Array:
    def run(count: Array) -> Array:
        algorithm = fedavg(problem, sgd(rate, batch_size=None, steps=count))
        return jnp.linalg.norm(path(algorithm, federation, start, rounds) - best[None], axis=-1)

    return jax.vmap(run)(steps)


def predicted(
    federation: Federation, start: Any, *, learning_rate: float, steps: Sequence[int], rounds: int
) -> tuple[np.ndarray, np.ndarray]:
    """The oracle's |w_t - w*| [len(steps), rounds + 1] and |w_inf - w*| [len(steps)]; see `measured`."""
    functions = oracles.quadratics_of(federation)
    best, start = functions.optimum, jnp.asarray(start, functions.b.dtype)

    rate, counts = jnp.asarray(learning_rate, best.dtype), jnp.asarray(steps, jnp.int32)
    error, floor = _exact(functions, start, best, rate, counts, rounds=rounds)
    return np.asarray(error), np.asarray(floor)


@functools.partial(jax.jit, static_argnames="rounds")
def _exact(
    functions: oracles.Quadratics, start: Array, best: Array, rate: Array, steps: Array, *, rounds: int
) -> tuple[Array, Array]:
    def follow(count: Array) -> tuple[Array, Array]:
        mapped = oracles.fedavg(functions, learning_rate=rate, steps=count)
        error = jnp.linalg.norm(mapped.trajectory(start, rounds) - best[None], axis=-1)
        return error, jnp.linalg.norm(mapped.fixed_point - best)

    return jax.vmap(follow)(steps)


def engine_map(algorithm: Any, federation: Federation, memory: str = "") -> oracles.Affine:
    """The affine map that a compiled round of the engine with everyone present is; pure.

    Args:
        algorithm: one whose server holds `params`.
        federation: of quadratics.
        memory: what it calls its clients' controls, and its server their mean; "" without any. The state is
            then that of `oracles.joint`.
    """
    round_fn = make_round(sampling.everyone(), executors.vmapped())
    state = initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
    size = federation.train.size[0].astype(jnp.result_type(float))
    p = size / jnp.sum(size)

    def step(held: oracles.Joint) -> oracles.Joint:
        server, clients = dataclasses.replace(state.server, params={"w": held.point}), state.clients
        if memory:
            shared = jnp.matmul(p, held.control, precision="highest")
            server = dataclasses.replace(server, **{memory: {"w": shared}})
            clients = dataclasses.replace(clients, **{memory: {"w": held.control}})
        after, _ = round_fn(algorithm, dataclasses.replace(state, server=server, clients=clients), federation)
        control = getattr(after.clients, memory)["w"] if memory else held.control
        return oracles.Joint(after.server.params["w"], control)

    count, dimension = federation.y.shape[0], federation.y.shape[1] - 1
    point = jnp.zeros((dimension,), jnp.result_type(float))
    blank = oracles.Joint(point, jnp.zeros((count, dimension), point.dtype))
    if memory:
        return oracles.affine_probe(step, blank)[0]
    return oracles.affine_probe(lambda w: step(oracles.Joint(w, blank.control)).point, point)[0]


def increasing(name: str, value: Any, *, fewest: int = 1) -> list[int]:
    """Whole numbers >= 1, each larger than the one before.

    Args:
        name: the setting's.
        value: what was given.
        fewest: how many there are to be at least.

    Raises:
        TypeError: no list of whole numbers.
        ValueError: numbers that are too small, too few, or out of order.
    """
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{name} must be a list of whole numbers, got {short(value)}: such as [1, 2, 5]")
    listed = positive_ints(name, value, remedy="such as [1, 2, 5]")
    require(
        len(listed) >= fewest and all(b > a for a, b in itertools.pairwise(listed)),
        f"{name} must be at least {fewest} whole numbers in increasing order, got {short(value)}: such as "
        "[1, 2, 5]",
    )
    return [positive_int(name, each) for each in listed]
