"""simulate: the host's loop over blocks of rounds. Nothing of a round is on the host but its logs."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.algorithm import Report
from fedjax_het.check import positive_int, require
from fedjax_het.engine.evaluate import Evaluation, evaluate
from fedjax_het.engine.executors import auto
from fedjax_het.engine.history import History, Variable
from fedjax_het.engine.progress import bar
from fedjax_het.engine.rounds import Round, block, make_round
from fedjax_het.engine.sampling import everyone
from fedjax_het.engine.state import State, initial_state
from fedjax_het.engine.survey import replay
from fedjax_het.federation import Federation
from fedjax_het.typing import Key, PyTree

__all__ = ["NonFiniteError", "block_length", "simulate"]

LONGEST = 32
"""Rounds of a block at most: what Ctrl-C or a failure can lose, and how often progress shows."""

_initial = jax.jit(lambda round_fn, algorithm, federation, key: initial_state(
    algorithm, federation, key=key, round_fn=round_fn
))
_block = jax.jit(block, static_argnames=("rounds",))
_evaluate = jax.jit(evaluate, static_argnames=("executor", "split"))
_round = jax.jit(lambda round_fn, algorithm, state, federation: round_fn(algorithm, state, federation))


class NonFiniteError(FloatingPointError):
    """A client (or the server's step) produced NaN or infinity.

    Attributes:
        client: its id, or None if the clients' reports were finite and the server's step was not.
        round: the round.
        leaf: the first leaf of its report that is not finite.
        step: the first local step with a loss that is not finite; None if unknown.
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


def block_length(rounds: int, every: int | None) -> int:
    """Rounds of one compiled block: the largest divisor of the evaluation interval up to `LONGEST`.

    Intervals whose divisors are small (primes) get blocks of up to `LONGEST` and single rounds for the rest.
    """
    interval = rounds if every is None else min(every, rounds)
    divisor = max(d for d in range(1, min(interval, LONGEST) + 1) if interval % d == 0)
    return divisor if divisor >= min(interval, 8) else min(interval, LONGEST)


def _lengths(start: int, rounds: int, every: int | None, length: int) -> list[tuple[int, bool]]:
    """(rounds, evaluate afterwards?) of each block; all have the same length or length 1."""
    blocks = []
    end = start + rounds
    while start < end:
        stop = end if every is None else min(end, (start // every + 1) * every)
        step = length if stop - start >= length else 1
        start += step
        blocks.append((step, start == stop))
    return blocks


class _Record:
    """Collects logs and evaluations as they come back, and turns them into a History."""

    def __init__(self, traffic: Any) -> None:
        self.traffic = traffic
        self.rounds: dict[str, list[np.ndarray]] = {}
        self.evaluations: dict[str, list[np.ndarray]] = {}

    def add_rounds(self, first: int, logs: dict[str, Any], seconds: float) -> None:
        count = len(logs["sound"])
        present = logs["present"].sum(axis=1)
        flat = {
            "round": np.arange(first, first + count),
            "seconds": np.full(count, seconds),
            "bytes_down": present * self.traffic.down,
            "bytes_up": present * self.traffic.up,
            "cohort": logs["id"],
            "present": logs["present"],
            "lost": logs["lost"],
        }
        flat |= {f"info/{name}": values for name, values in logs["info"].items()}
        for measure, values in logs["measures"].items():
            flat |= {f"measure/{measure}/{name}": value for name, value in values.items()}
        for name, value in flat.items():
            self.rounds.setdefault(name, []).append(np.asarray(value))

    def add_evaluation(self, at: int, seen: Evaluation) -> None:
        flat = {"evaluated_at": np.asarray(at), "rows": seen.rows}
        for kind, metrics in (("global", seen.union), ("shared", seen.shared), ("personal", seen.personal)):
            flat |= {f"{kind}/{name}": value for name, value in metrics.items()}
        for name, value in flat.items():
            self.evaluations.setdefault(name, []).append(np.asarray(value))

    def history(self, interrupted: bool = False) -> History:
        variables = {}
        for name, parts in self.rounds.items():
            values = np.concatenate(parts)
            slots = ("slot",) if name in ("cohort", "present", "lost") or name.startswith("info/") else ()
            rest = values.ndim - 1 - len(slots)
            variables[name] = Variable(("round", *slots, *(f"axis_{i}" for i in range(rest))), values)
        for name, parts in self.evaluations.items():
            values = np.stack(parts)
            variables[name] = Variable(("evaluation", "client")[: values.ndim], values)
        return History(variables, interrupted)


def simulate(
    algorithm: Any,
    federation: Federation,
    *,
    rounds: int,
    key: Key | None = None,
    state: State | None = None,
    sampler: Any = None,
    executor: Any = None,
    measures: dict[str, Any] | None = None,
    weighting: Any = None,
    hook: Any = None,
    every: int | None = None,
    split: str = "test",
    on_nonfinite: str = "raise",
    progress: bool | None = None,
) -> tuple[State, History]:
    """Run `rounds` rounds and evaluate along the way.

    Rounds run in compiled blocks, one in flight while the last is read. The program is compiled once for an
    algorithm's structure: another run that differs in numbers only (rates, mu, seed) compiles nothing.

    Args:
        algorithm: from `fh.algorithms`, or your own.
        federation: the clients and their rows.
        rounds: how many; at least 1.
        key: `jax.random.key(seed)` of a new run.
        state: where to continue, instead of `key`; the result is what one longer run gives, bit for bit.
        sampler: who takes part; default everyone.
        executor: how clients are mapped; default `auto()`.
        measures: questions put to every cohort, by name.
        weighting: instead of the algorithm's own.
        hook: (key, total) -> total on every upload.
        every: evaluate after every so many rounds, and at the start of a new run; default: at the end only.
        split: the rows evaluated.
        on_nonfinite: "raise" stops at the first NaN or infinity and names the client; "drop" leaves such
            clients out of the aggregate.
        progress: show a bar; default: on a terminal or in a notebook.

    Returns:
        (state, history). The caller's own state and federation stay valid. Ctrl-C returns what is done, with
        `history.interrupted` set.

    Raises:
        TypeError, ValueError: an argument of the wrong kind or range; before anything is compiled.
        NonFiniteError: see `on_nonfinite`.
    """
    rounds = positive_int("rounds", rounds)
    every = None if every is None else positive_int("every", every, remedy="None evaluates at the end only")
    require(
        (key is None) != (state is None),
        "key or state must be given, not both: key=jax.random.key(0) begins a run, state= continues one",
    )
    sampler = everyone() if sampler is None else sampler
    executor = auto() if executor is None else executor
    sampler.init(federation.num_clients)
    round_fn = make_round(
        sampler, executor, measures, weighting=weighting, hook=hook, on_nonfinite=on_nonfinite
    )
    began = time.perf_counter()
    fresh = state is None
    if state is None:
        _typed(key)
        state = _initial(round_fn, algorithm, federation, key)
    start = int(state.round)
    record = _Record(algorithm.traffic(state.server))
    done = state

    def score(at: State) -> Evaluation:
        return _evaluate(algorithm, at, federation, executor=executor, split=split)

    def settle(pending: tuple[State, State, Any, Evaluation | None]) -> State:
        """Read what came back from a block."""
        before, after, logs, seen = pending
        logs = jax.device_get(logs)
        first = int(before.round)
        if on_nonfinite == "raise" and not logs["sound"].all():
            raise _blame(round_fn, algorithm, before, federation, len(logs["sound"]), record.history())
        record.add_rounds(first, logs, time.perf_counter() - began)
        if seen is not None:
            record.add_evaluation(first + len(logs["sound"]), jax.device_get(seen))
        return after

    name = type(algorithm).__name__
    with bar(name, rounds, progress) as advance:
        try:
            if fresh and every is not None:
                record.add_evaluation(start, jax.device_get(score(state)))
            pending = None
            length = block_length(rounds, every)
            for count, scored in _lengths(start, rounds, every, length):
                before = state
                state, logs = _block(round_fn, algorithm, state, federation, rounds=count)
                launched = (before, state, logs, score(state) if scored else None)
                if pending is not None:
                    done = settle(pending)
                    advance(len(pending[2]["sound"]), _note(record))
                pending = launched
            if pending is not None:
                done = settle(pending)
                advance(len(pending[2]["sound"]), _note(record))
        except KeyboardInterrupt:
            return done, record.history(interrupted=True)
    return done, record.history()


def _typed(key: Any) -> None:
    if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise TypeError(f"key must be a typed key, got {type(key).__name__}: pass jax.random.key(seed)")


def _note(record: _Record) -> str:
    losses = record.rounds.get("info/loss")
    return "" if losses is None else f"loss {float(np.mean(losses[-1][-1])):.4f}"


def _blame(
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
    report = jax.jit(replay)(watchful, algorithm, start, federation, client)
    leaf = _bad_leaf(report)
    step, steps = (int(report.info.get(n, -1)) for n in ("bad_step", "steps"))
    local = f", its loss first at local step {step} of {steps}" if step >= 0 else f", after {steps} local steps"
    return NonFiniteError(
        f"uploads must be finite, got NaN or infinity from client {client} in {where} at {leaf}{local}: lower "
        "the learning rate, or pass on_nonfinite='drop' to leave such clients out. `error.state` is the state "
        "before the round, `error.block_state` the last one kept; replay(round_fn, algorithm, error.state, "
        "federation, error.client) computes the report again",
        client=client,
        round_=number,
        leaf=leaf,
        step=step if step >= 0 else None,
        state=start,
        block_state=before,
        history=history,
    )


def _bad_leaf(report: Report) -> str:
    looked_at: PyTree = {"total": report.total, "state": report.state, "each": report.each}
    looked_at["loss"] = report.info.get("loss", ())
    for path, leaf in jax.tree_util.tree_leaves_with_path(looked_at):
        if jnp.issubdtype(leaf.dtype, jnp.floating) and not bool(jnp.all(jnp.isfinite(leaf))):
            return jax.tree_util.keystr(path, simple=True, separator="/")
    return "the upload"
