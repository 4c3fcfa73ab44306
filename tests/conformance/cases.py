"""The table of the suite: every algorithm of the package and every probe, under one small federation.

A new line in `ALGORITHMS` or in `PROBES` is a new case; nothing here or in the tests names a method.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from probes import PROBES, Case, batchnorm

import fedjax_het as fh
from fedjax_het.algorithms import ALGORITHMS, make
from fedjax_het.assembly import assemble
from fedjax_het.models.linear import affine
from fedjax_het.models.losses import defaults
from fedjax_het.problem import Facts, Model, Problem
from fedjax_het.typing import Array, Bound, Key

__all__ = ["CASES", "COHORTS", "federation", "padded", "pool", "problem", "solver"]

NEEDED = {"": None, "linear": None, "normalisation": batchnorm.local}
"""What a method asks of its model -> federation -> such a problem; None is the suite's own, `problem`."""

CASES: dict[str, Case] = {
    name: Case(
        partial(make, name),
        problem=NEEDED[entry.needs],
        full_participation=entry.everyone,
        joins=entry.unseen,
        capacity_in_state=entry.per_row,
    )
    for name, entry in ALGORITHMS.items()
} | PROBES
assert len(CASES) == len(ALGORITHMS) + len(PROBES), "a probe has the name of an algorithm"

SIZES = (7, 0, 17, 4, 1, 12, 9, 5, 16, 3, 8, 10)
"""Training rows: an empty client, one of a single row, short last batches."""

COHORTS = ((0, 1, 2, 5, 8), (1, 3, 4, 6, 11), (2, 5, 7, 9, 10))
"""Five of twelve clients a round; everybody within three rounds, the empty client 1 in two of them."""

HELD_OUT = 3
"""Test rows of each client."""


def pool(*, seed: int = 0) -> fh.Pool:
    """Three classes that a linear model separates, five features."""
    rng = np.random.default_rng(seed)
    rows = sum(SIZES) + HELD_OUT * len(SIZES)
    centres = 2.5 * np.eye(3, 5)
    y = rng.integers(0, 3, rows)
    return fh.pool(centres[y] + 0.5 * rng.normal(size=(rows, 5)), y, num_classes=3, name="three blobs")


def federation() -> fh.Federation:
    """Twelve clients of 0 to 17 rows."""
    sizes = [*SIZES, *[HELD_OUT] * len(SIZES)]
    rows = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    return assemble(pool(), rows[: len(SIZES)], test=rows[len(SIZES) :])


def padded(federation: fh.Federation, *, extra: int = 5) -> fh.Federation:
    """The same clients with a larger capacity, as if a client with more rows existed elsewhere."""
    from dataclasses import replace

    capacity = tuple(most + extra for most in federation.spec.capacity)
    return replace(federation, spec=replace(federation.spec, capacity=capacity))


def _init(features: int, classes: int, key: Key) -> Model:
    dtype = jnp.result_type(float)
    kernel = 0.3 * jax.random.normal(key, (features, classes), dtype)
    return Model({"body": {"kernel": kernel}, "head": {"bias": jnp.zeros((classes,), dtype)}}, ())


def _apply(params: Any, buffers: Any, x: Array, key: Key | None = None, train: bool = False) -> Any:
    return affine({**params["body"], **params["head"]}, x), buffers


def problem(federation: fh.Federation) -> Problem:
    """Softmax regression, convex, from a random start; the kernel is its body and the bias its head."""
    spec = federation.spec.pool
    losses, metrics = defaults(spec.task)
    facts = Facts("body and head", linear=True, convex=True, log_likelihood=True, head=("head",))
    init = Bound(_init, (spec.feature_shape[0], spec.num_classes))
    return Problem(init, _apply, losses, metrics, facts)


def solver(*, learning_rate: float = 0.1, epochs: int = 2) -> Any:
    """Minibatch SGD in batches of four rows, the last one short."""
    return fh.local.sgd(learning_rate, batch_size=4, epochs=epochs)
