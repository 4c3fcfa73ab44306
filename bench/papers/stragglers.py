"""FedProx against stragglers: what their partial work and a proximal term are worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

import fedjax_het as fh
from papers.rows import Row, more, told

__all__ = ["fedprox"]

EPOCHS = 20
FRACTIONS = (0.0, 0.5, 0.9)
METHODS = {"FedAvg, dropped": (0.0, "drop"), "mu=0, kept": (0.0, "keep"), "mu=1, kept": (1.0, "keep")}
"""mu, and what becomes of stragglers."""

_survey = jax.jit(fh.survey)


def fedprox(rounds: int = 200, seeds: Sequence[int] = (0, 1, 2)) -> list[Row]:
    """Training losses at 0, 50 and 90 % stragglers: at 90 %, mu = 1 < mu = 0 < FedAvg, which drops them.

    Settings, the paper's: Synthetic(1, 1) of 30 clients, softmax regression, T = 200, m = 10 clients drawn
    uniformly and weighted by n_k, E = 20 epochs, batches of 10, eta = 0.01; a straggler does E' ~ U{1..19}
    epochs. Cohorts and stragglers of one seed are the same for all methods; seeds differ in the data too. The
    loss is that of all training rows, the mean over the last quarter of the rounds, and the order is asked
    for in every seed. Accuracies are not compared: their order depends on the seed, since sizes are
    heavy-tailed. Fluctuation is the loss's deviation over those rounds; the dissimilarity of gradients
    sum_k p_k |grad F_k - grad f|^2 is that of the last model.

    Reference: Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith, "Federated optimization in heterogeneous networks",
    MLSys 2020, figures 1 and 2.

    Departures: the data were never seeded, so losses have no printed counterpart. Sampling and weights are
    those of the authors' code; the outer mean of their gradient difference is uniform.
    """
    found = {(fraction, name): [] for fraction in FRACTIONS for name in METHODS}
    for seed in seeds:
        federation = fh.datasets.synthetic_fedprox(1.0, 1.0, seed=seed)
        for (fraction, name), runs in found.items():
            runs.append(_run(federation, *METHODS[name], fraction, rounds, seed))
    rows = []
    for (fraction, name), runs in found.items():
        for what, value in zip(("loss", "fluctuation", "dissimilarity"), np.mean(runs, axis=0)):
            rows.append(told(f"{fraction:.0%}, {name}: {what}", value))
    dropped, kept, held = ([run[0] for run in found[FRACTIONS[-1], name]] for name in METHODS)
    for seed, of_fedavg, of_zero, of_one in zip(seeds, dropped, kept, held):
        rows.append(more(f"90%, seed {seed}: loss of FedAvg over mu=0", of_fedavg - of_zero, 0))
        rows.append(more(f"90%, seed {seed}: loss of mu=0 over mu=1", of_zero - of_one, 0))
    return rows


def _run(
    federation: fh.Federation, mu: float, policy: str, fraction: float, rounds: int, seed: int
) -> tuple[float, float, float]:
    """(loss, its fluctuation, dissimilarity of gradients at the end)."""
    problem = fh.models.softmax(federation.pool)
    solver = fh.local.sgd(0.01, batch_size=10, epochs=EPOCHS)
    algorithm: Any = fh.algorithms.fedprox(problem, solver, mu=mu)
    sampler = fh.sampling.stragglers(fh.sampling.uniform(10), fraction, epochs=EPOCHS, policy=policy)
    state, history = fh.simulate(
        algorithm,
        federation,
        key=jax.random.key(seed),
        rounds=rounds,
        sampler=sampler,
        every=1,
        split="train",
        progress=False,
    )
    late = np.asarray(history["global/loss"], np.float64)[-max(2, rounds // 4) :]
    apart = _survey(fh.analysis.gradient_dissimilarity(), algorithm, state, federation)["G2"]
    return float(late.mean()), float(late.std()), float(apart)
