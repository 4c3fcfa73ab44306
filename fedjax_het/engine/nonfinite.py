"""When NaN or infinity came back: which client, in which round, at which leaf and local step."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het import tree
from fedjax_het.algorithm import Report
from fedjax_het.engine.history import History
from fedjax_het.engine.rounds import Round, draw
from fedjax_het.engine.state import State
from fedjax_het.engine.survey import replay
from fedjax_het.federation import Federation
from fedjax_het.typing import PyTree

__all__ = ["NonFiniteError", "blame"]

_round = jax.jit(lambda round_fn, algorithm, state, federation: round_fn(algorithm, state, federation))


@jax.jit
def _replay(
    round_fn: Round, algorithm: Any, state: State, federation: Federation, client: Any, work: Any
) -> Report:
    """The client's report, 0 for each infinity of its state that was there before the round, which is legal."""
    report = replay(round_fn, algorithm, state, federation, client, work=work)

    def clear(after: Any, before: Any) -> Any:
        if not jnp.issubdtype(after.dtype, jnp.floating):
            return after
        return jnp.where(jnp.isinf(after) & jnp.isinf(before[client]), 0, after)

    return dataclasses.replace(report, state=jax.tree.map(clear, report.state, state.clients))


class NonFiniteError(FloatingPointError):
    """A client (or the server's step) produced NaN or infinity.

    Attributes:
        client: its id, or None if the clients' reports were finite and the server's step was not.
        round: the round.
        leaf: the first leaf of its report that is not finite.
        step: the first local step, counting from 0, after which it is not finite; None if unknown.
        state: the state before that round: `replay(round_fn, algorithm, error.state, federation, error.client)`
            computes the report again.
        block_state: the state at the start of the block of rounds.
        history: the run's history up to there.
    """

    def __init__(
        self,
        message: str,
        *,
        client: int | None,
        round_: int,
        leaf: str | None,
        step: int | None,
        state: State,
        block_state: State,
        history: History,
    ) -> None:
        super().__init__(message)
        self.client, self.round, self.leaf, self.step = client, round_, leaf, step
        self.state, self.block_state, self.history = state, block_state, history


def blame(
    round_fn: Round, algorithm: Any, before: State, federation: Federation, rounds: int, history: History
) -> NonFiniteError:
    """Run the block again round by round, with every upload checked, to name the first bad client."""
    watchful = dataclasses.replace(round_fn, on_nonfinite="drop")
    state, start = before, before
    for _ in range(rounds):
        start = state
        state, log = _round(watchful, algorithm, start, federation)
        lost = np.asarray(log["lost"])
        if lost.any() or not bool(log["sound"]):
            break
    number = int(start.round)
    where = f"round {number}"
    if not lost.any():
        return NonFiniteError(
            f"the server's step must be finite, got NaN or infinity in {where}, from finite uploads: "
            "lower the server's learning rate",
            client=None,
            round_=number,
            leaf=None,
            step=None,
            state=start,
            block_state=before,
            history=history,
        )
    client = int(np.asarray(log["id"])[lost.argmax()])
    report = _replay(watchful, algorithm, start, federation, client, None)
    leaf = _bad_leaf(report)
    step = _first_bad_step(watchful, algorithm, start, federation, client, report)
    local = "" if step is None else f", first at local step {step} of {int(report.info['steps'])}"
    return NonFiniteError(
        f"uploads must be finite, got NaN or infinity from client {client} in {where} at {leaf}{local}: lower "
        "the learning rate, or pass on_nonfinite='drop' to leave such clients out. `error.state` is the state "
        "before the round, `error.block_state` the last one kept; replay(round_fn, algorithm, error.state, "
        "federation, error.client) computes the report again",
        client=client,
        round_=number,
        leaf=leaf,
        step=step,
        state=start,
        block_state=before,
        history=history,
    )


def _first_bad_step(
    round_fn: Round, algorithm: Any, state: State, federation: Federation, client: int, report: Report
) -> int | None:
    """The first local step after which the report is not finite, counting from 0, by halving the work."""
    steps = int(report.info["steps"]) if "steps" in report.info else 0
    if steps == 0:
        return None
    # the report of the first `low` steps is finite, that of the first `high` is not
    low, high = 0, steps
    whole = float(_planned(round_fn, algorithm, state, federation, client))
    while high - low > 1:
        middle = (low + high) // 2
        part = _replay(round_fn, algorithm, state, federation, client, whole * middle / steps)
        low, high = (low, middle) if not _finite(part) else (middle, high)
    return high - 1


def _planned(round_fn: Round, algorithm: Any, state: State, federation: Federation, client: int) -> float:
    """The fraction of its work that the round gives the client."""
    cohort, _ = draw(round_fn, algorithm, state, federation)
    here = np.asarray(cohort.id) == client
    return float(np.asarray(cohort.work)[here].sum()) if here.any() else 1.0


def _parts(report: Report) -> PyTree:
    parts: PyTree = {"total": report.total, "state": report.state, "each": report.each}
    return parts | {"loss": report.info.get("loss", ())}


def _finite(report: Report) -> bool:
    return bool(tree.all_finite(_parts(report)))


def _bad_leaf(report: Report) -> str:
    for name, part in _parts(report).items():  # the upload first
        for path, leaf in jax.tree_util.tree_leaves_with_path({name: part}):
            if jnp.issubdtype(leaf.dtype, jnp.floating) and not bool(jnp.all(jnp.isfinite(leaf))):
                return jax.tree_util.keystr(path, simple=True, separator="/")
    return "the upload"
