"""q-FFL on Synthetic(1, 1): how accuracies spread over clients."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

import fedjax_het as fh
from fedjax_het.metrics import fairness
from papers.rows import Row, least, most, told

__all__ = ["qffl"]

PAPER = {0: (80.8, 18.8, 100.0, 724.0), 1: (79.0, 31.1, 100.0, 472.0)}
"""q -> average, worst tenth and best tenth in percent, variance in percent squared."""


def qffl(rounds: int = 20_000, seeds: Sequence[int] = (0, 1, 2, 3, 4)) -> list[Row]:
    """q = 1 against q = 0: variance down by a fifth, worst tenth up, average down by 3 points at most.

    Settings, the paper's: 100 clients, 80/10/10, softmax regression, m = 10 clients drawn with probability
    n_k / n, E = 1 epoch, batches of 10, eta = 0.1 = 1/L, T = 20000, five sets of data. Test accuracies after
    the last round; average, tenths and variance are over clients, which count alike, the mean over the sets.

    Reference: Li, Sanjabi, Beirami, Smith, "Fair resource allocation in federated learning", ICLR 2020,
    table 1 (Synthetic).

    Departures: the data were never seeded, so the sets are others, and the paper's numbers are printed only.
    Its five runs cut one set in five ways. Clients are drawn with replacement, as the paper says; the authors'
    code draws without, with the same probabilities.
    """
    found: dict[int, list[list[float]]] = {0: [], 1: []}
    for seed in seeds:
        federation = fh.datasets.synthetic_qffl(seed=seed)
        problem = fh.models.softmax(federation.pool)
        for q, runs in found.items():
            algorithm = fh.algorithms.qfedavg(problem, fh.local.sgd(0.1, batch_size=10, epochs=1), q=float(q))
            _, history = fh.simulate(
                algorithm,
                federation,
                key=jax.random.key(seed),
                rounds=rounds,
                sampler=fh.sampling.proportional(10),
                executor=fh.executors.looped(),
                progress=False,
            )
            own = np.asarray(history["shared/accuracy"][-1], np.float64)
            held = np.asarray(history["rows"][-1]) > 0
            runs.append(_spread(own, held))
    mean = {q: np.mean(runs, axis=0) for q, runs in found.items()}
    names = ("average, %", "worst tenth, %", "best tenth, %", "variance, %^2")
    rows = [
        told(f"q={q}: {name}", ours, paper)
        for q in found
        for name, ours, paper in zip(names, mean[q], PAPER[q])
    ]
    fall, rise = mean[0] - mean[1], mean[1] - mean[0]
    return [
        *rows,
        least("variance falls by, %", 100 * fall[3] / mean[0][3], 20, 100 * (724 - 472) / 724),
        least("worst tenth rises by, points", rise[1], 0, 31.1 - 18.8),
        most("average falls by, points", fall[0], 3, 80.8 - 79.0),
    ]


def _spread(own: np.ndarray, held: np.ndarray) -> list[float]:
    """The four numbers of `PAPER`."""
    return [
        100 * float(fairness.mean(own, held)),
        100 * float(fairness.worst_decile(own, held)),
        100 * float(fairness.best_decile(own, held)),
        float(fairness.variance(own, held, percent=True)),
    ]
