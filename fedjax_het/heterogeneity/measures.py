"""Measures of a whole federation: one number each, without a model.

With P_k the labels of client k, q the pooled ones (both of one split and phase, after transforms) and
p_k = n_k / n the client's share of the rows, label skew by a distance d is

    sum_k p_k d(P_k, q),

which weighs a client by its rows; `skew` takes the plain mean if asked. Empty clients have no labels and do not
count. A federation of independent clients has skew above 0 all the same, the more so the smaller they are: see
`null`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from fedjax_het.check import require, short
from fedjax_het.federation import Federation
from fedjax_het.heterogeneity.counts import label_counts, sizes_of
from fedjax_het.heterogeneity.distance import (
    effective_classes,
    hellinger,
    jensen_shannon,
    total_variation,
    wasserstein,
    zhao_emd,
)
from fedjax_het.heterogeneity.sizes import effective_clients, gini, variation
from fedjax_het.typing import Bound

__all__ = ["LABEL_MEASURES", "MEASURES", "SIZE_MEASURES", "by_client", "diversity", "skew"]

Distance = Callable[[Any, Any], np.ndarray]

BLOCK = 4096
"""Clients that are measured together: their shares then stay in the processor's cache."""


def diversity(P: Any, q: Any) -> np.ndarray:
    """`effective_classes` of P, with the arguments of a distance."""
    return effective_classes(P)


LABEL_MEASURES: Mapping[str, Distance] = MappingProxyType(
    {
        "tv": total_variation,
        "hellinger": hellinger,
        "js": jensen_shannon,
        "emd": zhao_emd,
        "wasserstein": wasserstein,
        "effective_classes": diversity,
    }
)
"""What is averaged over clients: functions of (P [N, K], q [K]) -> [N]."""

SIZE_MEASURES: Mapping[str, Callable[[Any], float]] = MappingProxyType(
    {"gini": gini, "cv": variation, "effective_clients": effective_clients}
)
"""Functions of sizes [N]."""


def by_client(counts: Any, distance: Distance) -> np.ndarray:
    """distance(P_k, q) of each client, float64 [N]; NaN for a client without rows.

    Args:
        counts: rows of each class that each client holds, [N, K].
        distance: of `LABEL_MEASURES`, or any function of (P [N, K], q [K]) -> [N].

    Raises:
        TypeError: no numbers.
        ValueError: negative counts, or not [N, K].
    """
    counts = _counts(counts)
    size, pooled = counts.sum(1), counts.sum(0)
    found = np.empty(len(counts))
    q = pooled / (pooled.sum() or np.nan)
    divisor = np.where(size > 0, size, np.nan)[:, None]
    for begin in range(0, len(counts), BLOCK):
        block = slice(begin, begin + BLOCK)
        # class by class in memory: sums over few classes are then sums of long vectors
        found[block] = distance(np.divide(counts[block], divisor[block], order="F"), q)
    return np.where(size > 0, found, np.nan)


def skew(counts: Any, distance: Distance, *, weighted: bool = True) -> float:
    """Mean over clients of their distance from the pooled labels; NaN if nobody holds a row.

    Args:
        counts: rows of each class that each client holds, [N, K].
        distance: see `by_client`.
        weighted: by the clients' rows, sum_k p_k d(P_k, q); otherwise every client with rows counts alike.

    Raises:
        TypeError, ValueError: see `by_client`.
    """
    counts = _counts(counts)
    found, size = by_client(counts, distance), counts.sum(1)
    held = size > 0
    if not held.any():
        return float("nan")
    return float(np.average(found[held], weights=size[held] if weighted else None))


def _counts(value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"counts must hold numbers, got {short(value)}: pass rows by client and class")
    require(
        array.ndim == 2 and array.size > 0 and bool((array >= 0).all()),
        f"counts must be [N, K] and >= 0, got {short(value)}: pass rows by client and class",
    )
    return array


def _of_labels(distance: Distance, federation: Federation, split: str = "train", phase: int = 0) -> float:
    return skew(label_counts(federation, split=split, phase=phase), distance)


def _of_sizes(
    measure: Callable[[Any], float], federation: Federation, split: str = "train", phase: int = 0
) -> float:
    return measure(sizes_of(federation, split=split, phase=phase))


MEASURES: Mapping[str, Callable[..., float]] = MappingProxyType(
    {name: Bound(_of_labels, (distance,)) for name, distance in LABEL_MEASURES.items()}
    | {name: Bound(_of_sizes, (measure,)) for name, measure in SIZE_MEASURES.items()}
)
"""Functions of (federation, split="train", phase=0) -> float.

| name | what it is | no heterogeneity | most |
|---|---|---|---|
| tv | mean total variation from the pooled labels | 0 | below 1 |
| hellinger | mean Hellinger distance | 0 | below 1 |
| js | mean Jensen-Shannon divergence, bits | 0 | below 1 |
| emd | mean of Zhao et al.'s L1 distance, 2 tv | 0 | below 2 |
| wasserstein | mean Wasserstein-1 distance; for ordered classes only | 0 | below K - 1 |
| effective_classes | mean of 2^entropy: *falls* with skew | 2^entropy of the pool | 1 |
| gini | Gini coefficient of the sizes | 0 | 1 - 1/N |
| cv | coefficient of variation of the sizes | 0 | sqrt(N - 1) |
| effective_clients | 1 / sum p_k^2: *falls* with inequality | N | 1 |

Those of labels raise ValueError for a federation whose rows have no label each.
"""
