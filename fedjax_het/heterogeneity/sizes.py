"""How unequal clients are in size. Everywhere: `sizes` [N], rows of each client, which are not negative."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedjax_het.check import require, short

__all__ = ["effective_clients", "gini", "unique_sizes", "variation"]


def gini(sizes: Any) -> float:
    """Gini coefficient: half the mean difference of two clients over the mean.

        sum_k sum_l |n_k - n_l| / (2 N^2 mean(n))

    0 if all hold as much, 1 - 1/N if one holds all; NaN if nobody holds a row. Empty clients count.

    Args:
        sizes: rows of each client [N].

    Raises:
        TypeError: no numbers.
        ValueError: negative sizes, or not one a client.
    """
    n = np.sort(_sizes(sizes))
    if not n.sum():
        return float("nan")
    # with n ascending, client i is the larger one of i pairs and the smaller one of N - 1 - i
    return float(((2 * np.arange(len(n)) + 1 - len(n)) * n).sum() / (len(n) * n.sum()))


def variation(sizes: Any) -> float:
    """Coefficient of variation: the standard deviation (divisor N) over the mean; NaN if nobody holds a row.

    Args:
        sizes: rows of each client [N].

    Raises:
        TypeError, ValueError: see `gini`.
    """
    n = _sizes(sizes)
    return float(n.std() / n.mean()) if n.sum() else float("nan")


def effective_clients(sizes: Any) -> float:
    """1 / sum_k p_k^2 with p_k = n_k / n: how many clients of equal size would average as many; in [1, N].

    A mean over clients weighted by p has the variance of one over this many. With v the coefficient of
    variation it is N / (1 + v^2). NaN if nobody holds a row.

    Args:
        sizes: rows of each client [N].

    Raises:
        TypeError, ValueError: see `gini`.

    Reference: Kish, "Survey sampling", 1965, section 11.7 (the effective sample size of unequal weights).
    """
    n = _sizes(sizes)
    return float(n.sum() ** 2 / (n**2).sum()) if n.sum() else float("nan")


def unique_sizes(sizes: Any) -> float:
    """Share of clients whose size nobody else has, in [0, 1].

    Whoever sees exact sizes, as a server that weighs by them does, can tell these clients apart.

    Args:
        sizes: rows of each client [N].

    Raises:
        TypeError, ValueError: see `gini`.
    """
    n = _sizes(sizes)
    return float((np.unique(n, return_counts=True)[1] == 1).sum() / len(n))


def _sizes(value: Any) -> np.ndarray:
    """`value` as float64 [N], checked."""
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"sizes must hold numbers, got {short(value)}: pass the rows of each client")
    require(
        array.ndim == 1 and len(array) > 0,
        f"sizes must have one number a client, got shape {array.shape}: pass an array [N]",
    )
    require(
        bool((np.isfinite(array) & (array >= 0)).all()),
        "sizes must be finite and >= 0, got others: they are numbers of rows",
    )
    return array.astype(np.float64)
