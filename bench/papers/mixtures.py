"""FedEM on clients that mix three known rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

import fedjax_het as fh
from fedjax_het.metrics.clustering import mixture_distance
from papers.rows import Row, least, most, told

__all__ = ["SHAPE", "mixtures"]

SHAPE: dict[str, Any] = {"clients": 300, "features": 150, "test_rows": 200}


def mixtures(rounds: int = 200, seeds: Sequence[int] = (0, 1, 2)) -> list[Row]:
    """FedEM finds everybody's mixture of three rules, and is 10 points above FedAvg.

    Settings, the paper's synthetic data: N = 300 clients of min(lognormal(4, 2) + 50, 1000) rows that follow
    M = 3 linear rules in d = 150 in shares pi_t ~ Dir(.4), noise .1; everybody in every round, T = 200 rounds
    of E = 1 epoch on batches of 128, softmax regression, eta = 3 for both methods. Distances are
    |pi_t - pi*_t|_1 after the best matching of the components, the mean over clients; accuracy is the mean of
    the clients' on 200 test rows of their own mixture. Seeds differ in data and start. Asked for: the mean
    distance over seeds below 0.15, and in every seed FedEM over FedAvg by 10 points. With the true rules known,
    200 EM steps on a client's training rows still leave about 0.1, since half of the clients have under 110
    rows: that is printed beside ours, with a probit for the noise.

    Reference: Marfoq, Neglia, Bellet, Kameni, Vidal, "Federated multi-task learning under a mixture of
    distributions", NeurIPS 2021, section 4 (synthetic) and the authors' code.

    Departures: labels are as the paper defines them; the published code labels a quarter of the rows 0
    whatever they are, so its table is not comparable. 200 test rows for 5,000. One rate, chosen on other
    seeds, for their grid.
    """
    found, rows = [], []
    for seed in seeds:
        federation = fh.datasets.mixture(**SHAPE, seed=seed)
        problem = fh.models.softmax(federation.pool)
        solver = fh.local.sgd(3.0, batch_size=128, epochs=1)
        right = []
        for algorithm in (fh.algorithms.fedem(problem, solver), fh.algorithms.fedavg(problem, solver)):
            state, history = fh.simulate(
                algorithm, federation, key=jax.random.key(seed), rounds=rounds, progress=False
            )
            right.append(100 * np.nanmean(history["personal/accuracy"][-1]))
            if len(right) == 1:
                truth = federation.truth["mixture"]
                apart = mixture_distance(np.asarray(state.clients.weights), truth).mean()
        known = mixture_distance(_posterior(federation), federation.truth["mixture"]).mean()
        rows.append(least(f"seed {seed}: FedEM over FedAvg, points", right[0] - right[1], 10))
        found.append((*right, apart, known))
    ours, average, apart, known = np.mean(found, axis=0)
    return [
        *rows,
        most("distance of mixtures", apart, 0.15),
        told("largest of a seed", np.max(found, axis=0)[2]),
        told("with the rules known", known),
        told("FedEM, %", ours),
        told("FedAvg, %", average),
    ]


def _posterior(federation: fh.Federation, noise: float = 0.1, steps: int = 200) -> np.ndarray:
    """pi [N, M] by EM on the training rows with the true rules, P(y = 1 | x, m) = Phi(<x, theta_m> / noise)."""
    from scipy.stats import norm

    x, y = np.asarray(federation.x, float), np.asarray(federation.y)
    rows, theta = federation.train, federation.truth["components"]
    found = []
    for begin, many in zip(np.asarray(rows.offset[0]), np.asarray(rows.size[0])):
        held = np.asarray(rows.index[begin : begin + many])
        up = norm.cdf(x[held] @ theta.T / noise)
        likely = np.where(y[held][:, None] == 1, up, 1 - up) + 1e-12
        pi = np.full(len(theta), 1 / len(theta))
        for _ in range(steps):
            q = pi * likely
            pi = (q / q.sum(axis=1, keepdims=True)).mean(axis=0)
        found.append(pi)
    return np.array(found)
