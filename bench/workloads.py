"""The workloads of `round.py`: data, cohorts, initial weights, and the loss they must end at.

Every system gets the same rows in the same order, the same cohort in every round and the same initial
weights. Every client's size is a multiple of the batch, so no batch is short, and nothing is shuffled. What
is run is FedAvg with n_k weights: each client of the cohort starts at the global model w and makes one epoch
of SGD over its rows as they are stored, and w becomes w + sum_k (n_k / n) (w_k - w).

- W1: logistic regression 60 -> 10 on Synthetic(1, 1), 1000 clients, sizes lognormal(4, 2) + 50 clipped to
  50..1000 and rounded up to a multiple of the batch (mean 231, median 110), batch 10, learning rate 0.01,
  zero initial weights, 20 rounds.
- W2: MLP 784-200-10 with ReLU on Fashion-MNIST scaled to 0..1, 1000 clients of 60 rows whose label
  proportions are drawn from Dirichlet(0.1), batch 20, learning rate 0.05, He initial weights, 10 rounds.

- W3: CNN of two 5 x 5 convolutions with zeros around (32 and 64 channels), each followed by ReLU and 2 x 2 max
  pooling, a dense layer of 512 with ReLU and a head, on the same images, 100 clients of 100 rows from
  Dirichlet(0.1), cohorts of 10, batch 20, learning rate 0.05, He initial weights, 1 round. Pixels have uniform
  noise up to 0.05: where a background is flat the entries of a pooling square tie, and systems differ in who
  gets the gradient of a tie.

Cohorts (of 100 if nothing else is said) are drawn without replacement and sorted. All draws come from
`numpy.random.default_rng(42)`.
The loss compared at the end is the mean cross-entropy of the global model over the rows of all clients,
evaluated in float64.

Reference: Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith, "Federated Optimization in Heterogeneous Networks",
MLSys 2020 (Synthetic(alpha, beta)).
"""

from __future__ import annotations

import dataclasses
import gzip
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import plain

__all__ = ["WORKLOADS", "Workload", "evaluate", "load", "reference_loss"]

SEED = 42
FASHION_MNIST = "/usr/share/datasets/fashion-mnist"

REFERENCE = {"W1": 2.2067286, "W2": 1.2352673, "W3": 2.2554743}
"""`reference_loss` of the full workloads."""


@dataclasses.dataclass(frozen=True)
class Workload:
    """One workload, on the host.

    Attributes:
        name: "W1", "W2" or "W3".
        x: features of the pool, float32 [M, features].
        y: labels of the pool, int32 [M].
        rows: row numbers of the pool, one array for each of the N clients.
        ids: the cohort of every round, ascending, int32 [rounds, C].
        params: initial weights, {layer: {"kernel": float32 [in, out], "bias": float32 [out]}}; the last layer
            is "head", a hidden one is "dense_0" and followed by ReLU; kernels of "conv_0" and "conv_1", which
            see squares of pixels, are [5, 5, in, out].
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


def _images(
    name: str,
    generator: np.random.Generator,
    clients: int,
    size: int,
    rounds: int,
    cohort: int,
    params: Callable[[], Any],
    flops: float,
) -> Workload:
    """Fashion-MNIST dealt out; `params` makes the weights, after the rows and before the cohorts are drawn."""
    images, labels = _fashion_mnist()
    rows = _dirichlet(generator, labels, clients, size)
    if clients * size < len(labels):
        kept, place = np.unique(np.concatenate(rows), return_inverse=True)
        images, labels = images[kept], labels[kept]
        rows = list(place.astype(np.int32).reshape(clients, size))
    weights = params()
    return Workload(
        name=name,
        x=images.astype(np.float32) / 255,
        y=labels,
        rows=rows,
        ids=_cohorts(generator, clients, rounds, cohort),
        params=weights,
        batch=20,
        learning_rate=0.05,
        flops=flops,
        reference=None,
    )


def fashion(*, clients: int = 1000, rounds: int = 10, cohort: int = 100, hidden: int = 200) -> Workload:
    """W2."""
    generator, sizes = np.random.default_rng(SEED), (784, hidden, 10)

    def params() -> Any:
        return {
            layer: _dense(a, b, generator.normal(0, np.sqrt(2 / a), (a, b)))
            for layer, a, b in zip(("dense_0", "head"), sizes[:-1], sizes[1:])
        }

    flops = 4 * 784 * hidden + 6 * hidden * 10
    return _images("W2", generator, clients, 60, rounds, cohort, params, flops)


def convolutional(
    *,
    clients: int = 100,
    rounds: int = 1,
    cohort: int = 10,
    channels: tuple[int, int] = (32, 64),
    hidden: int = 512,
) -> Workload:
    """W3."""
    generator, (first, second) = np.random.default_rng(SEED), channels

    def params() -> Any:
        shapes = {
            "conv_0": (5, 5, 1, first),
            "conv_1": (5, 5, first, second),
            "dense_0": (49 * second, hidden),
            "head": (hidden, 10),
        }
        return {
            layer: _dense(0, shape[-1], generator.normal(0, np.sqrt(2 / math.prod(shape[:-1])), shape))
            for layer, shape in shapes.items()
        }

    # the first layer has no gradient towards its input: two products, all others three
    products = 2 * 784 * 25 * first, 3 * 196 * 25 * first * second, 3 * 49 * second * hidden, 3 * hidden * 10
    made = _images("W3", generator, clients, 100, rounds, cohort, params, 2 * sum(products))
    noise = generator.uniform(0, 0.05, made.x.shape).astype(np.float32)
    return dataclasses.replace(made, x=made.x + noise)


WORKLOADS = ("W1", "W2", "W3")
_TINY = {
    "W1": {"clients": 30, "rounds": 3, "cohort": 10, "largest": 200},
    "W2": {"clients": 30, "rounds": 2, "cohort": 5, "hidden": 20},
    "W3": {"clients": 8, "rounds": 2, "cohort": 2, "channels": (4, 6), "hidden": 16},
}


def load(name: str, *, tiny: bool = False) -> Workload:
    """The workload of this name; `tiny` shrinks it for a smoke test and leaves its reference out."""
    workload = {"W1": synthetic, "W2": fashion, "W3": convolutional}[name](**(_TINY[name] if tiny else {}))
    return workload if tiny else dataclasses.replace(workload, reference=REFERENCE[name])


def evaluate(workload: Workload, params: Any) -> float:
    """The mean cross-entropy of `params` over the rows of all clients, computed in float64."""
    double = {
        layer: {leaf: np.asarray(value, np.float64) for leaf, value in leaves.items()}
        for layer, leaves in params.items()
    }
    total, count = 0.0, 0
    for chunk in np.array_split(np.concatenate(workload.rows), 32):
        log_p = plain.log_probabilities(double, workload.x[chunk].astype(np.float64))
        total -= float(log_p[np.arange(len(chunk)), workload.y[chunk]].sum())
        count += len(chunk)
    return total / count


def reference_loss(workload: Workload) -> float:
    """The loss after all rounds by a plain loop in float64 NumPy, gradients by hand."""
    start = plain.copied(workload.params)
    for ids in workload.ids:
        total = sum(len(workload.rows[k]) for k in ids)
        mean = {layer: {leaf: 0 * value for leaf, value in leaves.items()} for layer, leaves in start.items()}
        for k in ids:
            local = plain.copied(start)
            for batch in np.split(workload.rows[k], len(workload.rows[k]) // workload.batch):
                grads = plain.gradients(local, workload.x[batch].astype(np.float64), workload.y[batch])
                for layer, leaves in grads.items():
                    for leaf, gradient in leaves.items():
                        local[layer][leaf] -= workload.learning_rate * gradient
            for layer, leaves in local.items():
                for leaf, value in leaves.items():
                    mean[layer][leaf] += len(workload.rows[k]) / total * (value - start[layer][leaf])
        for layer, leaves in mean.items():
            for leaf, value in leaves.items():
                start[layer][leaf] += value
    return evaluate(workload, start)
