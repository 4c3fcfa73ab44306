"""What chance alone shows: label skew of independent clients of the same sizes.

An IID split deals the rows out at random, so the counts of labels by client are a random table with the margins
that the federation has: sizes by client, pooled counts by class. `dealt` draws such tables exactly, class by
class from the multivariate hypergeometric distribution.

Where clients cut their rows into train, valid and test by label (see `split`), each part is closer to what its
client holds than a random part would be: the labels of an IID federation's training rows then vary less than
those of a random deal of as many rows, by a factor of about the root of the share of rows that train. The null
distribution has to go the same way, so `cut` repeats it: all rows are dealt, then each client's are cut.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from fedjax_het.check import number, positive_int, require
from fedjax_het.heterogeneity.measures import LABEL_MEASURES, Distance, skew
from fedjax_het.split import generator

__all__ = ["Band", "band", "cut", "dealt", "iid_bands", "is_cut", "replicated"]

LIMIT = 10**9
"""The rows below which numpy draws from the hypergeometric distribution."""

THREADS = 8
"""The most deals that are drawn at a time."""


@dataclasses.dataclass(frozen=True)
class Band:
    """The null distribution of a measure.

    Attributes:
        mean: of the draws.
        low: the r-th smallest of D draws.
        high: the r-th largest.
        coverage: how probable it is that a federation without heterogeneity lies in low..high: 1 - 2r/(D + 1),
            exactly, since it is exchangeable with the draws (ties make it more probable).
        draws: D.
    """

    mean: float
    low: float
    high: float
    coverage: float
    draws: int

    def holds(self, value: float) -> bool:
        """Whether `value` lies in low..high, to rounding."""
        slack = 1e-12 * max(abs(self.low), abs(self.high), 1.0)
        return self.low - slack <= value <= self.high + slack


def band(values: np.ndarray, level: float = 0.99) -> Band:
    """The Band of draws [D], which covers at least `level` if D is large enough: 2 / (1 - level) - 1 or more.

    Args:
        values: draws of the null distribution.
        level: coverage asked for, in [0, 1); of fewer draws, the smallest and the largest make the band.

    Raises:
        TypeError, ValueError: a level that is no number in [0, 1).
    """
    level = float(number("level", level, least=0, below=1, remedy="it is a probability, such as 0.99"))
    ordered, many = np.sort(values), len(values)
    rank = max(1, int((1 - level) / 2 * (many + 1) + 1e-9))
    rank = min(rank, (many + 1) // 2)
    coverage = max(0.0, 1 - 2 * rank / (many + 1))
    return Band(float(np.mean(values)), float(ordered[rank - 1]), float(ordered[-rank]), coverage, many)


def iid_bands(
    counts: Any,
    *,
    measures: Mapping[str, Distance] = LABEL_MEASURES,
    parts: np.ndarray | None = None,
    which: int = 0,
    weighted: bool = True,
    draws: int = 100,
    level: float = 0.99,
    seed: int = 0,
) -> dict[str, Band]:
    """What `skew` an IID split of the same sizes shows.

    Args:
        counts: rows of each class that each client holds, int [N, K]; only their sums matter.
        measures: name -> distance.
        parts: counts of (train, valid, test), int [3, N, K], if each client cut its rows by label: all rows are
            dealt and cut in the same way. By default the rows of `counts` are dealt as they are.
        which: the part that `counts` is.
        weighted: see `skew`.
        draws: D; 199 give a band of 99 %, 100 one of 98 %.
        level: see `band`.
        seed: of the draws; draw i has a stream of its own.

    Returns:
        name -> Band.

    Raises:
        TypeError: counts that are no numbers, draws that are not whole.
        ValueError: nobody holds a row, 10^9 rows or more, no draws, a level outside [0, 1).
    """
    counts = np.asarray(counts)
    whole = counts if parts is None else parts.sum(0)
    pooled, size = whole.sum(0), whole.sum(1)
    require(
        counts.sum() > 0 and whole.sum() < LIMIT,
        f"counts must add up to 1..{LIMIT - 1} rows, got {whole.sum()}: take fewer clients",
    )
    own = None if parts is None else parts.sum(2)

    def one(rng: np.random.Generator) -> list[float]:
        table = dealt(rng, pooled, size)
        if own is not None:
            table = cut(rng, table, own)[which]
        return [skew(table, distance, weighted=weighted) for distance in measures.values()]

    found = replicated(one, draws, seed, "iid split")
    return {name: band(values, level) for name, values in zip(measures, found.T)}


def replicated(
    one: Callable[[np.random.Generator], Any], draws: int, seed: int, name: str, *identity: int
) -> np.ndarray:
    """`one` for each draw, stacked [D, ...]; draw i gets `generator(seed, name, *identity, i)`.

    Draws run on as many threads as there are cores, which changes no result.

    Args:
        one: what is drawn from a generator.
        draws: D.
        seed: whole number >= 0.
        name: of the stream.
        identity: whole numbers >= 0 that tell streams of one name apart.

    Raises:
        TypeError, ValueError: `draws` is not a whole number >= 1, a seed that is none.
    """
    draws = positive_int("draws", draws, remedy="100 give a band of 98 %, 199 one of 99 %")
    streams = [generator(seed, name, *identity, i) for i in range(draws)]
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1, draws)) as threads:
        return np.asarray(list(threads.map(one, streams)))


def dealt(rng: np.random.Generator, pooled: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Counts of labels by client after a random deal, int64 [N, K].

    Args:
        rng: of the deal.
        pooled: rows of each class, int [K].
        sizes: rows of each client, int [N]; both add up to the same, less than 10^9.
    """
    left = np.array(sizes, np.int64)
    table = np.empty((len(left), len(pooled)), np.int64, order="F")
    # from the rarest class to the commonest, which gets what is left: renaming classes then renames the table
    *rare, last = np.argsort(pooled, kind="stable")
    for label in rare:
        table[:, label] = rng.multivariate_hypergeometric(left, int(pooled[label]), method="marginals")
        left -= table[:, label]
    table[:, last] = left
    return table


def cut(
    rng: np.random.Generator, counts: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts of each client's (train, valid, test) rows after a cut by label, int64 [N, K] each.

    By largest remainders, first for test, then for valid out of the others, as `split` has it.

    Args:
        rng: breaks ties.
        counts: all rows of each client by class, int [N, K].
        sizes: of each part, int [3, N]; they add up to the client's rows.
    """
    test = _quotas(rng, counts, sizes[2])
    valid = _quotas(rng, counts - test, sizes[1])
    return counts - test - valid, valid, test


def is_cut(parts: np.ndarray) -> bool:
    """Whether counts of (train, valid, test), int [3, N, K], could be a cut by label of what clients hold.

    That is so if no count is a row or more away from its exact share, and not all rows train.
    """
    _, valid, test = parts
    whole = parts.sum(0)
    rest = whole - test
    near = (_off(whole, test) < 1).all() and (_off(rest, valid) < 1).all()
    return bool(near and (valid.any() or test.any()))


def _off(counts: np.ndarray, part: np.ndarray) -> np.ndarray:
    """How many rows a part is away from its exact share of each class, [N, K]."""
    share = part.sum(1) / np.maximum(counts.sum(1), 1)
    return np.abs(part - counts * share[:, None])


def _quotas(rng: np.random.Generator, counts: np.ndarray, take: np.ndarray) -> np.ndarray:
    """Largest-remainder shares of take[k] rows over the classes of client k, int64 [N, K]."""
    if not take.any():
        return np.zeros_like(counts)
    share, remainder = np.divmod(counts * take[:, None], np.maximum(counts.sum(1), 1)[:, None])
    missing = take - share.sum(1)
    rank = remainder + rng.random(counts.shape[::-1]).T
    threshold = np.take_along_axis(np.sort(rank, 1), counts.shape[1] - 1 - missing[:, None], 1)
    return share + (rank > threshold)
