"""Restarts: the same run from several starts, and the one that fits the training rows best."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.check import positive_int, require
from fedjax_het.engine import History, NonFiniteError, State, evaluate, simulate
from fedjax_het.engine.executors import auto
from fedjax_het.federation import Federation
from fedjax_het.metrics import row_means
from fedjax_het.typing import Array, Bound, Key, Metrics, PyTree

__all__ = ["Restarts", "restarts"]


@dataclasses.dataclass(frozen=True)
class Restarts:
    """What came of all the runs.

    Attributes:
        state: of the best one.
        history: of the best one.
        best: its number.
        losses: the mean loss over all training rows, each under its client's own model, at the end of every
            run; inf for one that did not stay finite; float [times].
    """

    state: State
    history: History
    best: int
    losses: np.ndarray


def restarts(
    algorithm: Any, federation: Federation, *, times: int, key: Key, rounds: int, **options: Any
) -> Restarts:
    """Simulate from several starts and keep the run with the lowest final training loss.

    For methods whose outcome hangs on where they begin (IFCA, FedEM). Validation and test rows are not looked
    at. All runs are one compiled program, and differ in everything that a key draws.

    Args:
        algorithm: as for `fh.simulate`, as are all below.
        federation: the clients.
        times: how many runs; run 0 has the given key, so 1 is a plain run.
        key: of the runs.
        rounds: of each.
        options: the other arguments of `fh.simulate`, but for `state`.

    Raises:
        TypeError, ValueError: times is not a whole number of at least 1; a state to continue; what `simulate`
            refuses.
        NonFiniteError: no run stayed finite; that of the last one.
    """
    times = positive_int("times", times, remedy="1 is a plain run")
    require("state" not in options, "state must be left out, got one: a restart begins anew, from key")
    executor = options.get("executor") or auto()
    losses, kept = np.full(times, np.inf), None
    failure: NonFiniteError | None = None
    for i in range(times):
        own = key if i == 0 else jax.random.fold_in(key, i)
        try:
            state, history = simulate(algorithm, federation, rounds=rounds, key=own, **options)
        except NonFiniteError as error:
            failure = error
            continue
        loss = float(_training_loss(algorithm, state, federation, executor=executor))
        losses[i] = loss if np.isfinite(loss) else np.inf
        if kept is None or losses[i] < losses[kept[0]]:
            kept = (i, state, history)
        if history.interrupted:
            break
    if kept is None:
        assert failure is not None
        raise failure
    return Restarts(kept[1], kept[2], kept[0], losses)


@functools.partial(jax.jit, static_argnames=("executor",))
def _training_loss(algorithm: Any, state: State, federation: Federation, *, executor: Any) -> Array:
    """The mean loss over all training rows, each under its client's own model; scalar."""
    metrics = (row_means(Bound(_row_losses, (algorithm.problem.losses,))),)
    scores = evaluate(algorithm, state, federation, executor=executor, split="train", metrics=metrics)
    loss = scores.personal["loss"]
    rows = scores.rows.astype(loss.dtype)
    return jnp.sum(jnp.where(rows > 0, loss * rows, 0)) / jnp.maximum(jnp.sum(rows), 1)


def _row_losses(losses: Any, out: PyTree, y: Array) -> Metrics:
    return {"loss": losses(out, y)}
