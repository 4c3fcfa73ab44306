"""Small data on which the probes show what they do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import fedjax_het as fh
from fedjax_het.assembly import assemble

__all__ = ["blobs", "cut", "flipped", "pool_of", "tasks"]

SIZES = (24, 17, 9, 30, 12, 5)
"""Rows of the clients: short last batches, and sizes far enough apart for weights to matter."""


def blobs(rows: int, *, seed: int = 0, features: int = 4) -> fh.Pool:
    """Three overlapping classes around points on a circle in the first two features."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, rows)
    x = rng.normal(size=(rows, features))
    x[:, 0] += 2 * np.cos(2 * np.pi * y / 3)
    x[:, 1] += 2 * np.sin(2 * np.pi * y / 3)
    return fh.pool(x, y, num_classes=3, name="blobs")


def _dealt(sizes: tuple[int, ...]) -> list[np.ndarray]:
    ends = np.cumsum(sizes)
    return [np.arange(end - size, end) for end, size in zip(ends, sizes)]


def cut(sizes: tuple[int, ...] = SIZES, *, seed: int = 0, shift: Sequence[int] = ()) -> fh.Federation:
    """A sixth of each client's rows is for validation, a sixth for testing; labels are turned by shift[k]."""
    pool = blobs(sum(sizes), seed=seed)
    shift = np.asarray(shift if len(shift) else [0] * len(sizes))
    pool = fh.pool(
        np.asarray(pool.x), (np.asarray(pool.y) + np.repeat(shift, sizes)) % 3, num_classes=3, name="cut"
    )
    cuts = [np.split(rows, [len(rows) // 6, len(rows) // 3]) for rows in _dealt(sizes)]
    valid, test, train = zip(*cuts)
    return assemble(pool, train, valid, test, truth={"shift": shift})


def flipped(sizes: tuple[int, ...] = SIZES, *, seed: int = 0) -> fh.Federation:
    """Clients of two concepts: the second half names the classes in another order."""
    return cut(sizes, seed=seed, shift=[int(k >= len(sizes) // 2) for k in range(len(sizes))])


def tasks(sizes: tuple[int, ...] = SIZES, *, seed: int = 0, features: int = 4) -> fh.Federation:
    """Related regressions: y = x . (common + own) + noise; the last third of each client's rows is its test."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=features) + 0.5 * rng.normal(size=(len(sizes), features))
    x = rng.normal(size=(sum(sizes), features))
    y = np.sum(x * np.repeat(weights, sizes, axis=0), axis=1) + 0.1 * rng.normal(size=len(x))
    cuts = [np.split(rows, [len(rows) // 3]) for rows in _dealt(sizes)]
    pool = fh.pool(x, y, task="regression", name="tasks")
    return assemble(pool, [cut[1] for cut in cuts], test=[cut[0] for cut in cuts])


def pool_of(federation: fh.Federation) -> fh.Pool:
    """The pool that a federation was made from."""
    return fh.Pool(federation.x, federation.y, federation.spec.pool)
