"""What clients gain over a baseline, by how many rows they hold.

Everywhere: `gains` float [N], NaN where a client was not scored, and `rows` [N], how many each client holds.
Clients without rows or without a gain do not count.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from fedjax_het.check import positive_int, require

__all__ = ["SizeGroup", "by_size", "gain", "size_correlation"]


@dataclasses.dataclass(frozen=True)
class SizeGroup:
    """Clients of like size and what they gain.

    Attributes:
        least: rows of the smallest of them.
        most: rows of the largest.
        clients: how many there are.
        mean: gain.
        quartiles: of the gain: lower, median, upper.
        losers: share of the clients that do worse than with the baseline.
    """

    least: int
    most: int
    clients: int
    mean: float
    quartiles: tuple[float, float, float]
    losers: float


def gain(values: Any, baseline: Any, *, low_is_good: bool = False) -> np.ndarray:
    """By how much each client does better than with the baseline: x_k - b_k, b_k - x_k where less is better.

    Args:
        values: x, a metric of each client [..., N].
        baseline: b, the same metric of the same clients [..., N].
        low_is_good: whether less is better.
    """
    better = np.asarray(values, float) - np.asarray(baseline, float)
    return -better if low_is_good else better


def by_size(gains: Any, rows: Any, *, groups: int = 5) -> list[SizeGroup]:
    """Clients in about equally large groups from the fewest rows to the most; equal sizes are in one group.

    A size stands in group floor(groups (b + e / 2) / n), with b clients of fewer rows, e of as many and n in
    all; groups that stay empty are left out.

    Args:
        gains: see above.
        rows: see above.
        groups: at most so many.

    Raises:
        TypeError: groups is no whole number.
        ValueError: groups below 1, or shapes that do not fit.
    """
    groups = positive_int("groups", groups, remedy="1 is all clients together")
    gains, rows = _counted(gains, rows)
    if not len(rows):
        return []
    _, place, equal = np.unique(rows, return_inverse=True, return_counts=True)
    middle = np.cumsum(equal) - equal / 2
    group = np.minimum((groups * middle / len(rows)).astype(int), groups - 1)[place.reshape(-1)]
    return [_group(gains[group == one], rows[group == one]) for one in np.unique(group)]


def size_correlation(gains: Any, rows: Any) -> float:
    """Spearman's rank correlation of gain and size: below 0 if small clients gain more; NaN without a spread.

    Args:
        gains: see above.
        rows: see above.

    Raises:
        ValueError: shapes that do not fit.

    Reference: Spearman, The Proof and Measurement of Association between Two Things, American Journal of
        Psychology 15, 1904; ties have their mean rank.
    """
    ranks = np.stack([_ranks(each) for each in _counted(gains, rows)])
    ranks = ranks - ranks.mean(1, keepdims=True) if ranks.size else ranks
    norm = np.sqrt((ranks**2).sum(1)).prod()
    return float(ranks[0] @ ranks[1] / norm) if norm > 0 else float("nan")


def _counted(gains: Any, rows: Any) -> tuple[np.ndarray, np.ndarray]:
    """Those of the clients that count."""
    gains, rows = np.asarray(gains, float), np.asarray(rows)
    require(
        gains.ndim == 1 and gains.shape == rows.shape,
        f"rows must have one entry for each of the gains {gains.shape}, got shape {rows.shape}: one a client",
    )
    counts = ~np.isnan(gains) & (rows > 0)
    return gains[counts], rows[counts]


def _group(gains: np.ndarray, rows: np.ndarray) -> SizeGroup:
    lower, median, upper = (float(each) for each in np.quantile(gains, [0.25, 0.5, 0.75]))
    return SizeGroup(
        int(rows.min()),
        int(rows.max()),
        len(rows),
        float(gains.mean()),
        (lower, median, upper),
        float((gains < 0).mean()),
    )


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, equal = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(equal) - (equal - 1) / 2)[place.reshape(-1)]
