"""simulate: the host's loop over blocks of rounds. Nothing of a round is on the host but its logs."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.check import positive_int, require
from fedjax_het.engine import record
from fedjax_het.engine.blocks import up_to
from fedjax_het.engine.evaluate import Evaluation, check_sample
from fedjax_het.engine.executors import auto
from fedjax_het.engine.fit import check_algorithm, check_fit
from fedjax_het.engine.history import History, join
from fedjax_het.engine.nonfinite import blame
from fedjax_het.engine.notices import left_behind
from fedjax_het.engine.progress import bar
from fedjax_het.engine.rounds import make_round
from fedjax_het.engine.sampling import everyone
from fedjax_het.engine.scorer import Scorer, splits_of
from fedjax_het.engine.scoring import check_metrics
from fedjax_het.engine.state import State, initial_state
from fedjax_het.federation import Federation
from fedjax_het.typing import Key

__all__ = ["block_lengths", "simulate"]

LONGEST = 32
"""Rounds of a block at most: what Ctrl-C or a failure can lose, and how often progress shows. Every block is
the same program, however many rounds it runs."""

_block = jax.jit(up_to, static_argnames=("most",))


def block_lengths(start: int, rounds: int, every: int | None) -> list[tuple[int, bool]]:
    """(rounds, evaluate afterwards?) of each block of a run from round `start`; blocks end at evaluations."""
    blocks = []
    end = start + rounds
    while start < end:
        stop = end if every is None else min(end, (start // every + 1) * every)
        step = min(LONGEST, stop - start)
        start += step
        blocks.append((step, start == stop))
    return blocks


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
    split: str | Sequence[str] | None = None,
    metrics: Sequence[Any] | None = None,
    local: bool = False,
    sample: int | None = None,
    newcomers: Federation | None = None,
    on_nonfinite: str = "raise",
    progress: bool | None = None,
    watch: Callable[[State, History], None] | None = None,
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
        hook: (key, `Upload`) -> `Upload`, on what every client sends.
        every: evaluate after every so many rounds, and at the start of a new run; default: at the end only.
        split: the rows evaluated, one of "test", "valid", "train" or several; variables of the first have plain
            names, those of the others begin with the split's name. Default: test rows, and validation rows
            where there are some.
        metrics: see `evaluate`, as are `local` and `sample`.
        newcomers: clients never trained on, scored on the first of the splits with what `adapt` gives them.
        on_nonfinite: "raise" stops at the first NaN or infinity and names the client; "drop" leaves such
            clients out of the aggregate.
        progress: show a bar; default: on a terminal or in a notebook.
        watch: called with (state, piece of history) whenever a block of rounds has come back, and once before
            the first for a new run's first evaluation: to save, to track, to plot. The pieces joined are the
            history.

    Returns:
        (state, history). The caller's own state and federation stay valid. Ctrl-C returns what is done, with
        `history.interrupted` set.

    Raises:
        TypeError, ValueError: an argument of the wrong kind or range; before anything is compiled.
        NonFiniteError: see `on_nonfinite`.
    """
    rounds = positive_int("rounds", rounds, remedy="a run has at least one")
    every = None if every is None else positive_int("every", every, remedy="None evaluates at the end only")
    require(
        (key is None) != (state is None),
        f"key or state must be given, and not both, got {'neither' if key is None else 'both'}: "
        "key=jax.random.key(0) begins a run, state= continues one",
    )
    check_algorithm(algorithm)
    check_fit(algorithm.problem, federation)
    splits = splits_of(split, federation)
    check_sample(sample, federation)
    check_metrics(metrics, federation)
    if newcomers is not None:
        check_fit(algorithm.problem, newcomers)
    sampler = everyone() if sampler is None else sampler
    executor = auto() if executor is None else executor
    round_fn = make_round(
        sampler, executor, measures, weighting=weighting, hook=hook, on_nonfinite=on_nonfinite
    )
    sampler.init(federation.num_clients)
    began = time.perf_counter()
    fresh = state is None
    if state is None:
        current = initial_state(algorithm, federation, key=_typed(key), round_fn=round_fn)
    else:
        current = _continued(state, round_fn, algorithm, federation)
    start = int(current.round)
    traffic = algorithm.traffic(current.server)
    done = current
    pieces: list[History] = []
    score = Scorer(algorithm, federation, executor, splits, metrics, local, sample, newcomers)
    refusal = score.refusal(current)
    if refusal is not None:
        score = dataclasses.replace(score, newcomers=None)

    def settle(pending: tuple[int, State, State, Any, dict[str, Evaluation] | None]) -> State:
        """Read what came back from a block, and keep it."""
        count, before, after, logs, seen = pending
        # all of the waiting comes first: Ctrl-C must not leave half a block in the record
        logs, seen = jax.device_get((logs, seen))
        logs = jax.tree.map(lambda leaf: leaf[:count], logs)
        first = int(before.round)
        if on_nonfinite == "raise" and not logs["sound"].all():
            raise blame(round_fn, algorithm, before, federation, count, join(pieces))
        piece = record.rounds(first, logs, time.perf_counter() - began, traffic)
        if seen is not None:
            scores = record.evaluation(first + count, federation.num_clients, seen)
            text = left_behind(scores)
            noted = () if text is None else ((first + count, text),)
            piece = join([piece, dataclasses.replace(scores, notices=noted)])
            for _, said in noted:
                say(said)
        pieces.append(piece)
        advance(count, _note(piece))
        return after

    with bar(type(algorithm).__name__, rounds, progress) as (advance, say):
        if refusal is not None:
            say(refusal)
        try:
            if fresh and (every is not None or refusal is not None):
                scores = jax.device_get(score(current)) if every is not None else None
                piece = (
                    History({}) if scores is None else record.evaluation(start, federation.num_clients, scores)
                )
                noted = () if refusal is None else ((start, refusal),)
                pieces.append(dataclasses.replace(piece, notices=noted))
                if watch is not None:
                    watch(done, pieces[-1])
            pending = None
            for count, scored in block_lengths(start, rounds, every):
                before = current
                number = np.int32(count)
                current, logs = _block(round_fn, algorithm, before, federation, number, most=LONGEST)
                launched = (count, before, current, logs, score(current) if scored else None)
                if pending is not None:
                    done = settle(pending)
                    if watch is not None:
                        watch(done, pieces[-1])
                pending = launched
            if pending is not None:
                done = settle(pending)
                if watch is not None:
                    watch(done, pieces[-1])
        except KeyboardInterrupt:
            return done, dataclasses.replace(join(pieces), interrupted=True)
    return done, join(pieces)


def _continued(state: State, round_fn: Any, algorithm: Any, federation: Federation) -> State:
    """The state with a carry for each of this run's measures, which need not be the last run's."""
    if not isinstance(state, State):
        raise TypeError(
            f"state must be a State, got {type(state).__name__}: pass what simulate or initial_state returned"
        )
    expected = round_fn.sampler.init(federation.num_clients)
    if jax.tree.structure(expected) != jax.tree.structure(state.sampler):
        raise ValueError(
            f"sampler must be the kind that made the state, got {type(round_fn.sampler).__name__}: its state "
            "has another structure; pass dataclasses.replace(state, sampler=sampler.init(N)) to change samplers"
        )
    held = state.seen.loss.shape[0]
    require(
        held == federation.num_clients,
        f"federation must have the clients that the state was made for, {held}, got {federation.num_clients}: "
        "use fh.adapt for clients never trained on",
    )
    made = jax.eval_shape(lambda key: algorithm.init(key, federation), state.key)
    for name, wanted, has in zip(("server", "clients"), made, (state.server, state.clients)):
        require(
            jax.tree.structure(wanted) == jax.tree.structure(has)
            and [(x.shape, x.dtype) for x in jax.tree.leaves(wanted)]
            == [(x.shape, x.dtype) for x in jax.tree.leaves(has)],
            f"state must come from a run of this algorithm and model, got another {name} state for "
            f"{type(algorithm).__name__}: begin a new run with key=, or pass the algorithm that made the state",
        )
    carries = {
        name: state.measures[name] if name in state.measures else measure.init(algorithm, state.server)
        for name, measure in round_fn.measures.items()
    }
    return dataclasses.replace(state, measures=carries)


def _typed(key: Any) -> Key:
    if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0):
        got = f"an array of {key.dtype}" if isinstance(key, jax.Array) else type(key).__name__
        raise TypeError(f"key must be a typed key, got {got}: pass jax.random.key(seed)")
    return key


def _note(piece: History) -> str:
    """The last round's mean loss over the clients present, in words."""
    present = piece["present"][-1]
    if "info/loss" not in piece or not present.any():
        return ""
    return f"loss {float(np.mean(piece['info/loss'][-1][present])):.4f}"
