"""The two workloads of `round.py`: data, cohorts, initial weights, and the loss they must end at.

Every system gets the same rows in the same order, the same cohort in every round and the same initial
weights. Every client's size is a multiple of the batch, so no batch is short, and nothing is shuffled. What
is run is FedAvg with n_k weights: each client of the cohort starts at the global model w and makes one epoch
of SGD over its rows as they are stored, and w becomes w + sum_k (n_k / n) (w_k - w).

- W1: logistic regression 60 -> 10 on Synthetic(1, 1), 1000 clients, sizes lognormal(4, 2) + 50 clipped to
  50..1000 and rounded up to a multiple of the batch (mean 231, median 110), batch 10, learning rate 0.01,
  zero initial weights, 20 rounds.
- W2: MLP 784-200-10 with ReLU on Fashion-MNIST scaled to 0..1, 1000 clients of 60 rows whose label
  proportions are drawn from Dirichlet(0.1), batch 20, learning rate 0.05, He initial weights, 10 rounds.

Cohorts of 100 are drawn without replacement and sorted. All draws come from `numpy.random.default_rng(42)`.
The loss compared at the end is the mean cross-entropy of the global model over the rows of all clients,
evaluated in float64.

Reference: Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith, "Federated Optimization in Heterogeneous Networks",
MLSys 2020 (Synthetic(alpha, beta)).
"""

from __future__ import annotations

import dataclasses
import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["WORKLOADS", "Workload", "evaluate", "load", "reference_loss"]

SEED = 42
FASHION_MNIST = "/usr/share/datasets/fashion-mnist"

REFERENCE = {"W1": 2.2067286, "W2": 1.2352673}
"""`reference_loss` of the full workloads."""


@dataclasses.dataclass(frozen=True)
class Workload:
    """One workload, on the host.

    Attributes:
        name: "W1" or "W2".
        x: features of the pool, float32 [M, features].
        y: labels of the pool, int32 [M].
        rows: row numbers of the pool, one array for each of the N clients.
        ids: the cohort of every round, ascending, int32 [rounds, C].
        params: initial weights, {layer: {"kernel": float32 [in, out], "bias": float32 [out]}}; the last layer
            is "head", a hidden one is "dense_0" and followed by ReLU.
        batch: rows of a batch.
        learning_rate: of the clients' SGD.
        flops: floating point operations of forward and backward pass, per sample.
        reference: the loss after the last round, or None where it is not recorded.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    rows: list[np.ndarray]
    ids: np.ndarray
    params: dict[str, dict[str, np.ndarray]]
    batch: int
    learning_rate: float
    flops: float
    reference: float | None

    @property
    def sizes(self) -> np.ndarray:
        """Rows of each client, int32 [N]."""
        return np.asarray([len(rows) for rows in self.rows], np.int32)

    @property
    def work(self) -> float:
        """Floating point operations of a round, averaged over the rounds."""
        return float(self.sizes[self.ids].sum(axis=1).mean()) * self.flops


def _dense(inputs: int, outputs: int, kernel: np.ndarray | None = None) -> dict[str, np.ndarray]:
    kernel = np.zeros((inputs, outputs)) if kernel is None else kernel
    return {"kernel": kernel.astype(np.float32), "bias": np.zeros(outputs, np.float32)}


def _cohorts(generator: np.random.Generator, clients: int, rounds: int, cohort: int) -> np.ndarray:
    draws = [np.sort(generator.choice(clients, cohort, replace=False)) for _ in range(rounds)]
    return np.stack(draws).astype(np.int32)


def synthetic(*, clients: int = 1000, rounds: int = 20, cohort: int = 100, largest: int = 1000) -> Workload:
    """W1; client k has its own weights ~ N(u_k, 1) and feature means ~ N(B_k, 1), with u_k, B_k ~ N(0, 1)."""
    generator = np.random.default_rng(SEED)
    batch, features, classes = 10, 60, 10
    sizes = np.clip(generator.lognormal(4, 2, clients).astype(int) + 50, 50, largest)
    sizes = -(-sizes // batch) * batch
    scale = np.arange(1, features + 1) ** -0.6
    xs, ys = [], []
    for size in sizes:
        u, center = generator.normal(size=2)
        mean = generator.normal(center, 1, features)
        kernel, bias = generator.normal(u, 1, (features, classes)), generator.normal(u, 1, classes)
        x = mean + scale * generator.normal(size=(size, features))
        xs.append(x.astype(np.float32))
        ys.append(np.argmax(x @ kernel + bias, axis=1).astype(np.int32))
    bounds = np.cumsum(sizes)[:-1]
    return Workload(
        name="W1",
        x=np.concatenate(xs),
        y=np.concatenate(ys),
        rows=np.split(np.arange(sizes.sum(), dtype=np.int32), bounds),
        ids=_cohorts(generator, clients, rounds, cohort),
        params={"head": _dense(features, classes)},
        batch=batch,
        learning_rate=0.01,
        flops=4 * features * classes,
        reference=None,
    )


def _fashion_mnist() -> tuple[np.ndarray, np.ndarray]:
    folder = Path(os.environ.get("FEDJAX_HET_DATA", FASHION_MNIST))
    arrays = []
    for stem, header in (("train-images-idx3-ubyte", 16), ("train-labels-idx1-ubyte", 8)):
        paths = sorted(folder.rglob(f"{stem}.gz"))
        if not paths:
            raise FileNotFoundError(f"{stem}.gz is not under {folder}: set FEDJAX_HET_DATA to its folder")
        with gzip.open(paths[0]) as stream:
            arrays.append(np.frombuffer(stream.read(), np.uint8, offset=header))
    images, labels = arrays
    return images.reshape(-1, 784), labels.astype(np.int32)


def _dirichlet(generator: np.random.Generator, labels: np.ndarray, clients: int, size: int) -> list[np.ndarray]:
    """`clients` disjoint sets of `size` rows, labels in Dirichlet(0.1) proportions while a label lasts."""
    stock = [list(generator.permutation(np.flatnonzero(labels == label))) for label in range(10)]
    rows = []
    for _ in range(clients):
        proportions = generator.dirichlet(np.full(10, 0.1))
        chosen = []
        for _ in range(size):
            left = np.asarray([len(of_label) > 0 for of_label in stock])
            chances = np.where(left, proportions + 1e-12, 0)
            chosen.append(stock[generator.choice(10, p=chances / chances.sum())].pop())
        rows.append(np.asarray(chosen, np.int32))
    return rows


def fashion(*, clients: int = 1000, rounds: int = 10, cohort: int = 100, hidden: int = 200) -> Workload:
    """W2."""
    generator = np.random.default_rng(SEED)
    images, labels = _fashion_mnist()
    batch, size = 20, 60
    sizes = (784, hidden, 10)
    rows = _dirichlet(generator, labels, clients, size)
    if clients * size < len(labels):
        kept, place = np.unique(np.concatenate(rows), return_inverse=True)
        images, labels = images[kept], labels[kept]
        rows = list(place.astype(np.int32).reshape(clients, size))
    params = {
        layer: _dense(a, b, generator.normal(0, np.sqrt(2 / a), (a, b)))
        for layer, a, b in zip(("dense_0", "head"), sizes[:-1], sizes[1:])
    }
    return Workload(
        name="W2",
        x=images.astype(np.float32) / 255,
        y=labels,
        rows=rows,
        ids=_cohorts(generator, clients, rounds, cohort),
        params=params,
        batch=batch,
        learning_rate=0.05,
        flops=4 * 784 * hidden + 6 * hidden * 10,
        reference=None,
    )


WORKLOADS = ("W1", "W2")
_TINY = {
    "W1": {"clients": 30, "rounds": 3, "cohort": 10, "largest": 200},
    "W2": {"clients": 30, "rounds": 2, "cohort": 5, "hidden": 20},
}


def load(name: str, *, tiny: bool = False) -> Workload:
    """The workload of this name; `tiny` shrinks it for a smoke test and leaves its reference out."""
    workload = {"W1": synthetic, "W2": fashion}[name](**(_TINY[name] if tiny else {}))
    return workload if tiny else dataclasses.replace(workload, reference=REFERENCE[name])


def _forward(params: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """(log-probabilities, activations of the hidden layer if there is one)."""
    hidden = None
    if "dense_0" in params:
        x = hidden = np.maximum(x @ params["dense_0"]["kernel"] + params["dense_0"]["bias"], 0)
    out = x @ params["head"]["kernel"] + params["head"]["bias"]
    out = out - out.max(axis=1, keepdims=True)
    return out - np.log(np.exp(out).sum(axis=1, keepdims=True)), hidden


def evaluate(workload: Workload, params: Any) -> float:
    """The mean cross-entropy of `params` over the rows of all clients, computed in float64."""
    double = {
        layer: {leaf: np.asarray(value, np.float64) for leaf, value in leaves.items()}
        for layer, leaves in params.items()
    }
    total, count = 0.0, 0
    for chunk in np.array_split(np.concatenate(workload.rows), 32):
        log_p, _ = _forward(double, workload.x[chunk].astype(np.float64))
        total -= float(log_p[np.arange(len(chunk)), workload.y[chunk]].sum())
        count += len(chunk)
    return total / count


def reference_loss(workload: Workload) -> float:
    """The loss after all rounds by a plain loop in float64 NumPy, gradients by hand."""
    start = {
        f"{layer}/{leaf}": value.astype(np.float64)
        for layer, leaves in workload.params.items()
        for leaf, value in leaves.items()
    }

    def nested(flat: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
        return {
            layer: {leaf: flat[f"{layer}/{leaf}"] for leaf in ("kernel", "bias")} for layer in workload.params
        }

    for ids in workload.ids:
        total = sum(len(workload.rows[k]) for k in ids)
        mean = {name: np.zeros_like(value) for name, value in start.items()}
        for k in ids:
            local = {name: value.copy() for name, value in start.items()}
            for batch in np.split(workload.rows[k], len(workload.rows[k]) // workload.batch):
                x = workload.x[batch].astype(np.float64)
                log_p, hidden = _forward(nested(local), x)
                error = np.exp(log_p)
                error[np.arange(len(batch)), workload.y[batch]] -= 1
                error /= len(batch)
                inputs = x if hidden is None else hidden
                grads = {"head/bias": error.sum(0), "head/kernel": inputs.T @ error}
                if hidden is not None:
                    back = (error @ local["head/kernel"].T) * (hidden > 0)
                    grads |= {"dense_0/bias": back.sum(0), "dense_0/kernel": x.T @ back}
                for name, gradient in grads.items():
                    local[name] -= workload.learning_rate * gradient
            for name, value in local.items():
                mean[name] += len(workload.rows[k]) / total * (value - start[name])
        start = {name: start[name] + mean[name] for name in start}
    return evaluate(workload, nested(start))
