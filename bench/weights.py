"""What does it cost to keep sizes at home: accuracy under buckets and noise, against what they reveal.

Fixed beforehand: scikit-learn's digits, 40 clients of log-normal sizes (sigma 1.2) with Dirichlet labels (0.3
per client), softmax regression, FedAvg over 60 rounds of 10 clients, two epochs of SGD with rate 0.1 and
batches of 10. Accuracy is of the global model on all test rows, the mean over rounds 42, 44, ..., 60. Runs of
one seed share clients, first model, cohorts and batches, so differences to exact sizes are paired; their error
is the standard error over seeds.

Revealed are, of a client taken at random, so many bits of its size: the mutual information of the size and of
what is told, with the federation's sizes known. All of them is their entropy, log2 40 if no two are equal.
Noise is geometric with sensitivity 1, and is told once, so epsilon is spent once per client and row. `distance`
is the total variation between the weights of all clients and n_k/n: the share of weight that moved.

    python bench/weights.py --json weights.json --out weights.png
    python bench/weights.py --tiny --seeds 2
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fedjax_het as fh
from fedjax_het.algorithm import Cohort
from fedjax_het.heterogeneity import label, quantity
from fedjax_het.weighting import Buckets, Noisy, buckets, noisy, proportional, uniform

CLIENTS, COHORT, ROUNDS, EVERY, KEPT = 40, 10, 60, 2, 10
BASES = (2.0, 4.0, 10.0, 100.0)
EPSILONS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003)

EXACT = "exact"


def weightings(seed: int) -> dict[str, Any]:
    """Label -> weighting."""
    made: dict[str, Any] = {EXACT: proportional(), "uniform": uniform()}
    made |= {f"buckets {base:g}": buckets(base) for base in BASES}
    return made | {f"noise {eps:g}": noisy(eps, mechanism="geometric", seed=seed) for eps in EPSILONS}


def entropy(chance: np.ndarray) -> float:
    """In bits, of probabilities of any shape."""
    chance = chance[chance > 0]
    return float(-(chance * np.log2(chance)).sum())


def bits(weighting: Any, sizes: np.ndarray) -> float:
    """I(size; what is told) of a client taken at random."""
    if isinstance(weighting, Noisy):
        told = noise_table(float(weighting.epsilon), sizes)
        return entropy(told.mean(0)) - float(np.mean([entropy(row) for row in told]))
    if isinstance(weighting, Buckets):
        sizes = np.asarray(weighting.revealed(jnp.asarray(sizes, jnp.result_type(float))))
    elif weighting.func is uniform().func:
        return 0.0
    return entropy(np.unique(sizes, return_counts=True)[1] / len(sizes))


def noise_table(epsilon: float, sizes: np.ndarray) -> np.ndarray:
    """P(max(1, n + Z) = told) for each size, [N, told]; two-sided geometric noise, tails to 1e-12."""
    ratio = np.exp(-epsilon)
    most = int(sizes.max()) + int(np.ceil(28 / epsilon))
    told = np.arange(1, most + 1)
    table = (1 - ratio) / (1 + ratio) * ratio ** np.abs(told - sizes[:, None])
    table[:, 0] = ratio ** (sizes - 1.0) / (1 + ratio)  # the clamp: P(Z <= 1 - n)
    return table


def distance(weighting: Any, sizes: np.ndarray) -> float:
    """Total variation between the weights of all clients and n_k/n."""
    real = jnp.result_type(float)
    rows, ones = jnp.asarray(sizes, real), jnp.ones(len(sizes), real)
    ids, round_ = jnp.arange(len(sizes), dtype=jnp.int32), jnp.zeros((), jnp.int32)
    cohort = Cohort(ids, rows > 0, ones, ones, ones, round_, jnp.sum(rows), len(sizes))
    return float(np.abs(np.asarray(weighting(rows, cohort)) - sizes / sizes.sum()).sum() / 2)


def federation_of(seed: int, clients: int) -> fh.Federation:
    """Log-normal sizes first, then labels in these sizes."""
    steps = (
        partial(quantity.log_normal, clients=clients, sigma=1.2, min_size=2, seed=seed),
        partial(label.dirichlet_per_client, alpha=0.3, seed=seed),
    )
    return fh.heterogeneity.compose(*steps)(fh.datasets.digits())


def accuracy(federation: fh.Federation, weighting: Any, seed: int, rounds: int) -> float:
    """Of the global model, the mean of the last evaluations."""
    problem = fh.models.softmax(federation.pool)
    algorithm = fh.algorithms.fedavg(problem, fh.local.sgd(0.1, batch_size=10, epochs=2))
    _, history = fh.simulate(
        algorithm,
        federation,
        key=jax.random.key(seed),
        rounds=rounds,
        sampler=fh.sampling.uniform(min(COHORT, federation.num_clients)),
        weighting=weighting,
        every=EVERY,
        local=False,
        progress=False,
    )
    return float(np.mean(history["global/accuracy"][1:][-KEPT:]))


def measure(seeds: int, tiny: bool) -> dict[str, dict[str, list[float]]]:
    """label -> figure -> one value a seed."""
    found: dict[str, dict[str, list[float]]] = {}
    for seed in range(seeds):
        federation = federation_of(seed, 8 if tiny else CLIENTS)
        sizes = np.asarray(federation.train.size[0])
        for name, weighting in weightings(seed).items():
            figures = {
                "accuracy": accuracy(federation, weighting, seed, 4 if tiny else ROUNDS),
                "bits": bits(weighting, sizes),
                "distance": distance(weighting, sizes),
            }
            for key, value in figures.items():
                found.setdefault(name, {}).setdefault(key, []).append(value)
        print(f"seed {seed}: {sizes.min()} to {sizes.max()} rows", file=sys.stderr, flush=True)
    return found


def summary(found: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, float]]:
    """label -> means over seeds; the paired difference to exact sizes with its standard error, in points."""
    exact = np.array(found[EXACT]["accuracy"])
    told = {}
    for name, figures in found.items():
        gap = 100 * (np.array(figures["accuracy"]) - exact)
        told[name] = {key: float(np.mean(values)) for key, values in figures.items()} | {
            "difference": float(gap.mean()),
            "error": float(gap.std(ddof=1) / np.sqrt(len(gap))) if len(gap) > 1 else float("nan"),
        }
    return told


def picture(told: dict[str, dict[str, float]], out: Path) -> None:
    """The difference to exact sizes over the bits revealed."""
    from fedjax_het.plots.style import canvas, looks, save, styled

    kinds = {
        "buckets": "buckets, by the ratio of their ends",
        "noise": "noise, by epsilon",
        "": "as they are, or none",
    }
    with styled():
        figure, (axes,) = canvas("What sizes are worth")
        axes.axhline(0, color="0.6", linewidth=0.8)
        for (kind, words), look in zip(kinds.items(), looks(len(kinds))):
            names = [name for name in told if (name.split()[0] if " " in name else "") == kind]
            x, y, error = ([told[name][key] for name in names] for key in ("bits", "difference", "error"))
            axes.errorbar(
                x, y, error, color=look["color"], marker=look["marker"], linestyle="", capsize=2, label=words
            )
            for name, a, b in zip(names, x, y):
                axes.annotate(name.split()[-1], (a, b), (4, 4), textcoords="offset points", fontsize=8)
        axes.set_xlabel("bits revealed of a client's size")
        axes.set_ylabel("accuracy against exact sizes, points")
        axes.legend()
    save(figure, out)


def main() -> int:
    """Measure, print, and keep what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="federations, each with its own run")
    parser.add_argument("--tiny", action="store_true", help="8 clients, 4 rounds: whether it works, no figures")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--out", type=Path, help="file for the picture, .png")
    arguments = parser.parse_args()
    found = measure(arguments.seeds, arguments.tiny)
    told = summary(found)
    print(f"{'sizes':12s} {'bits':>6s} {'distance':>9s} {'accuracy %':>11s} {'against exact, points':>22s}")
    for name, figures in told.items():
        gap = f"{figures['difference']:+.2f} +- {figures['error']:.2f}"
        bits_, moved, right = figures["bits"], figures["distance"], 100 * figures["accuracy"]
        print(f"{name:12s} {bits_:6.2f} {moved:9.3f} {right:11.2f} {gap:>22s}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"seeds": arguments.seeds, "mean": told, "all": found}, indent=2))
    if arguments.out:
        picture(told, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
