"""How far a client's labels are from others: distances of label distributions.

Everywhere: P [..., K] and q [..., K], which broadcast, hold shares that add up to 1; results are [...].
A row of NaN (a client without rows) gives NaN. With H the Hellinger distance, TV the total variation and JS
the Jensen-Shannon divergence in bits:

    H^2 <= TV <= H sqrt(2 - H^2),        TV^2 / (2 ln 2) <= JS <= TV

All but `wasserstein` treat classes as names: renaming them changes nothing.

Reference: Lin, "Divergence measures based on the Shannon entropy", IEEE Transactions on Information Theory
    37(1), 1991 (the upper bound of JS); Le Cam, "Asymptotic methods in statistical decision theory", 1986 (H
    and TV). The lower bound of JS is Pinsker's inequality applied to both halves.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fedjax_het.check import require, short

__all__ = [
    "effective_classes",
    "hellinger",
    "jensen_shannon",
    "total_variation",
    "wasserstein",
    "zhao_emd",
]

SLACK = 1e-4
"""How far shares may add up to something other than 1: rounding of float32 over thousands of classes."""


def total_variation(P: Any, q: Any) -> np.ndarray:
    """1/2 sum_i |P_i - q_i|, in [0, 1]: the share of P's rows that would need another label to match q.

    Args:
        P: shares [..., K].
        q: shares that broadcast with P.

    Raises:
        TypeError: no numbers.
        ValueError: numbers of classes that differ, shares that are negative or do not add up to 1.
    """
    P, q = _pair(P, q)
    return 0.5 * np.abs(P - q).sum(-1)


def zhao_emd(P: Any, q: Any) -> np.ndarray:
    """sum_i |P_i - q_i|, in [0, 2]: what Zhao et al. call the earth mover's distance.

    It is the L1 distance, twice the total variation, and *not* the Wasserstein distance, which the name
    suggests; see `wasserstein`. Of ten classes of equal size, clients of one class each have 1.8, of two 1.6.

    Args:
        P: shares [..., K].
        q: shares that broadcast with P.

    Raises:
        TypeError, ValueError: see `total_variation`.

    Reference: Zhao, Li, Lai, Suda, Civin, Chandra, "Federated learning with non-IID data", 2018
        (arXiv 1806.00582), section 3.2, what follows proposition 3.1.
    """
    return 2 * total_variation(P, q)


def hellinger(P: Any, q: Any) -> np.ndarray:
    """sqrt(1/2 sum_i (sqrt(P_i) - sqrt(q_i))^2), in [0, 1].

    Args:
        P: shares [..., K].
        q: shares that broadcast with P.

    Raises:
        TypeError, ValueError: see `total_variation`.
    """
    P, q = _pair(P, q)
    return np.sqrt(0.5 * ((np.sqrt(P) - np.sqrt(q)) ** 2).sum(-1))


def jensen_shannon(P: Any, q: Any) -> np.ndarray:
    """1/2 KL(P | m) + 1/2 KL(q | m) with m = (P + q)/2, in bits, in [0, 1].

    0 log 0 is 0 and nothing is added to the shares. It is the divergence, not its square root.

    Args:
        P: shares [..., K].
        q: shares that broadcast with P.

    Raises:
        TypeError, ValueError: see `total_variation`.

    Reference: Lin, IEEE Transactions on Information Theory 37(1), 1991, equation 4.1.
    """
    P, q = _pair(P, q)
    divergence = _entropy((P + q) / 2) - (_entropy(P) + _entropy(q)) / 2
    return np.clip(divergence, 0, 1)


def wasserstein(P: Any, q: Any) -> np.ndarray:
    """sum_i |sum_{j <= i} (P_j - q_j)|, in [0, K - 1]: the Wasserstein-1 distance of labels 0, 1, ..., K - 1.

    It means something only for classes in an order, such as grades, of which neighbours are one apart.

    Args:
        P: shares [..., K].
        q: shares that broadcast with P.

    Raises:
        TypeError, ValueError: see `total_variation`.
    """
    P, q = _pair(P, q)
    gap = P - q
    return np.abs(np.cumsum(gap, -1, out=gap)).sum(-1)


def effective_classes(P: Any) -> np.ndarray:
    """2 to the entropy of P in bits, in [1, K]: how many classes of equal size would be as diverse.

    Args:
        P: shares [..., K].

    Raises:
        TypeError, ValueError: see `total_variation`.

    Reference: Hill, "Diversity and evenness", Ecology 54(2), 1973 (the number of order 1).
    """
    return 2 ** _entropy(_shares("P", P))


def _entropy(P: np.ndarray) -> np.ndarray:
    """-sum_i P_i log2 P_i, in bits."""
    return -(P * np.log2(np.where(P == 0, 1, P))).sum(-1)


def _pair(P: Any, q: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64, of as many classes each."""
    P, q = _shares("P", P), _shares("q", q)
    require(
        P.shape[-1] == q.shape[-1],
        f"q must have as many classes as P, got shapes {q.shape} and {P.shape}: give absent classes a 0",
    )
    return P, q


def _shares(name: str, value: Any) -> np.ndarray:
    """`value` as float64, checked."""
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} must hold numbers, got {short(value)}: pass the share of each class")
    require(array.ndim > 0, f"{name} must have one share a class, got one number: pass an array [..., K]")
    array = array.astype(np.float64)
    wrong = (array < 0).any() or (np.abs(array.sum(-1) - 1) > SLACK).any()
    require(
        not wrong,
        f"{name} must hold shares >= 0 that add up to 1 over the last axis, got {short(value)}: divide counts "
        "by their sum",
    )
    return array
