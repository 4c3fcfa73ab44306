"""q-FFL on Synthetic(1, 1): how accuracies spread over clients."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fedjax_het as fh
from fedjax_het.engine.blocks import up_to
from fedjax_het.metrics import fairness
from fedjax_het.typing import Array, PyTree
from papers.rows import Row, least, more, most, told

__all__ = ["federation_of", "qffl", "qffl_script"]

PAPER = {0: (80.8, 18.8, 100.0, 724.0, 80.8), 1: (79.0, 31.1, 100.0, 472.0, 79.0)}
"""q -> average, worst tenth and best tenth in percent, variance in percent squared; and the average again, of
which the paper does not say whether clients or rows count alike."""

NAMES = ("average, %", "worst tenth, %", "best tenth, %", "variance, %^2", "average of rows, %")

BLOCK = 200
"""Rounds of a call of the compiled program at most."""

SHOWN = 2000
"""Rounds between the lines that tell how far a run is."""

_evaluate = jax.jit(fh.evaluate)


def qffl(rounds: int = 20_000, seeds: Sequence[int] = (0, 1, 2, 3, 4), sigma: float = 1.0) -> list[Row]:
    """q = 1 against q = 0: variance down by a fifth, worst tenth up, average down by 3 points at most.

    Settings, the paper's but for the sizes, which were chosen after those of the authors' script had failed:
    this says what the method does on such data, and reproduces no data of the paper. 100 clients, 80/10/10,
    softmax regression, m = 10 clients drawn with probability n_k / n, E = 1 epoch, batches of 10,
    eta = 0.1 = 1/L, T = 20000, five sets of data. Test accuracies after the last round; average, tenths and
    variance are over clients, which count alike, the mean over the sets.

    Reference: Li, Sanjabi, Beirami, Smith, "Fair resource allocation in federated learning", ICLR 2020,
    table 1 (Synthetic).

    Departures: the data were never seeded, so the sets are others, and the paper's numbers are printed only.
    Its five runs cut one set in five ways. Clients are drawn with replacement, as the paper says; the authors'
    code draws without, with the same probabilities. Sizes are floor(lognormal(4, sigma)) + 50 with sigma = 1,
    which the authors have for their hybrid set. It was put in after sigma = 2, which their script has for this
    set, had failed: see `qffl_script`.
    """
    found: dict[int, list[list[float]]] = {q: [] for q in PAPER}
    for seed in seeds:
        for q, spread in zip(PAPER, _both(rounds, seed, sigma)):
            found[q].append(spread)
    mean = {q: np.mean(runs, axis=0) for q, runs in found.items()}
    rows = [
        told(f"q={q}: {name}", ours, paper)
        for q in found
        for name, ours, paper in zip(NAMES, mean[q], PAPER[q])
    ]
    fall, rise = mean[0] - mean[1], mean[1] - mean[0]
    return [
        *rows,
        least("variance falls by, %", 100 * fall[3] / mean[0][3], 20, 100 * (724 - 472) / 724),
        more("worst tenth rises by, points", rise[1], 0, 31.1 - 18.8),
        most("average falls by, points", fall[0], 3, 80.8 - 79.0),
    ]


def qffl_script(rounds: int = 20_000, seeds: Sequence[int] = (0, 1, 2, 3, 4)) -> list[Row]:
    """The same on `fh.datasets.synthetic_qffl`, whose sizes are those of the authors' script, sigma = 2.

    What is asked for is the same, and it fails: in the first set the worst tenth stays at 0 %. These can hardly
    be the data of the paper's table. At q = 0 the average over clients is 29 % in the first set (45 % in the
    second after 6000 rounds), where the paper has 80.8: a few clients hold most rows, and p_k = n_k / n counts
    rows. A tenth of the rate does not mend it (39 % in the first set after 2000 rounds, while 76 % of all rows
    are right). Sizes of sigma = 1 do.
    """
    return qffl(rounds, seeds, sigma=2.0)


def federation_of(seed: int, sigma: float) -> fh.Federation:
    """Synthetic(1, 1) with sizes floor(lognormal(4, sigma)) + 50; all other draws do not depend on sigma."""
    sizes = np.random.RandomState(seed).lognormal(4, sigma, 100).astype(np.int64) + 50
    return fh.datasets.synthetic(1.0, 1.0, clients=100, seed=seed, sizes=sizes.tolist(), test=0.1, valid=0.1)


def _both(rounds: int, seed: int, sigma: float) -> list[list[float]]:
    """The numbers of each q in `PAPER`; all q run as one program, on the same cohorts and batches."""
    federation = federation_of(seed, sigma)
    problem = fh.models.softmax(federation.pool)
    algorithm = fh.algorithms.qfedavg(problem, fh.local.sgd(0.1, batch_size=10, epochs=1), q=0.0)
    # clients one by one: their sizes are too unlike for groups to pay
    round_fn = fh.make_round(fh.sampling.proportional(10), fh.executors.looped())
    state = fh.initial_state(algorithm, federation, key=jax.random.key(seed), round_fn=round_fn)
    q = jnp.array(list(PAPER), jnp.result_type(float))
    lanes = jax.tree.map(lambda leaf: jnp.stack([leaf] * len(q)), (state.server, state.seen))
    told_at = range(SHOWN, rounds, SHOWN)
    for start in range(0, rounds, BLOCK):
        many = jnp.asarray(min(BLOCK, rounds - start), jnp.int32)
        lanes = _advance(round_fn, algorithm, q, lanes, state, federation, many)
        state = dataclasses.replace(state, round=state.round + many)
        if start + BLOCK in told_at:
            _say(seed, start + BLOCK, _spreads(algorithm, lanes, state, federation))
    spreads = _spreads(algorithm, lanes, state, federation)
    _say(seed, rounds, spreads)
    return spreads


def _say(seed: int, at: int, spreads: list[list[float]]) -> None:
    for q, spread in zip(PAPER, spreads):
        words = ", ".join(f"{value:.1f}" for value in spread)
        print(f"qffl, seed {seed}, round {at}, q={q}: {words}", file=sys.stderr, flush=True)


@jax.jit
def _advance(
    round_fn: Any,
    algorithm: Any,
    q: Array,
    lanes: PyTree,
    state: fh.State,
    federation: fh.Federation,
    many: Array,
) -> PyTree:
    """`many` rounds of every q; the round's number and the key, which all share, stay with `state`."""

    def lane(q: Array, lane: PyTree) -> PyTree:
        one = dataclasses.replace(algorithm, q=q)
        begin = dataclasses.replace(state, server=lane[0], seen=lane[1])
        end, _ = up_to(round_fn, one, begin, federation, many, most=BLOCK)
        return end.server, end.seen

    return jax.vmap(lane)(q, lanes)


def _spreads(algorithm: Any, lanes: PyTree, state: fh.State, federation: fh.Federation) -> list[list[float]]:
    """The numbers of each q in `PAPER`."""
    spreads = []
    for server, seen in (jax.tree.map(lambda leaf, i=i: leaf[i], lanes) for i in range(len(PAPER))):
        one = dataclasses.replace(state, server=server, seen=seen)
        scores = _evaluate(algorithm, one, federation)
        own, held = np.asarray(scores.shared["accuracy"], np.float64), np.asarray(scores.rows) > 0
        spreads.append(
            [
                100 * float(fairness.mean(own, held)),
                100 * float(fairness.worst_decile(own, held)),
                100 * float(fairness.best_decile(own, held)),
                float(fairness.variance(own, held, percent=True)),
                100 * float(scores.union["accuracy"]),
            ]
        )
    return spreads
