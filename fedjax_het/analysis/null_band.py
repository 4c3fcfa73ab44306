"""A measured number beside what it would be if rows did not know whose they are."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

__all__ = ["Measured", "compared", "measured", "plain", "shuffled"]

TAIL = 0.005
"""Share of the null draws that may lie outside the band on either side."""


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """A number, its null distribution in four numbers, and what each client adds.

    Under the null hypothesis the number and its draws are exchangeable, so it lies in the band with
    probability `level` or more, however few the rows.

    Attributes:
        value: what was measured.
        mean: of the null draws.
        low: lower end of the null band.
        high: upper end of the null band.
        level: of the band: 0.99 from 199 draws on, less with fewer, 1 - 2 / (draws + 1).
        p: share of the draws, the value itself among them, that are at least as large.
        client: the same number for each client, float [m]; NaN where there is nothing to compare.
    """

    value: float
    mean: float
    low: float
    high: float
    level: float
    p: float
    client: np.ndarray

    @property
    def inside(self) -> bool:
        """Whether the value lies in the null band."""
        return self.low <= self.value <= self.high

    @property
    def above(self) -> bool:
        """Whether the value is larger than the null band allows."""
        return self.value > self.high

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain numbers and lists; None for NaN."""
        told = {name: float(getattr(self, name)) for name in ("value", "mean", "low", "high", "level", "p")}
        return {**told, "above": self.above, "client": plain(self.client)}

    def __str__(self) -> str:
        """Value, null band and verdict on one line."""
        place = "ABOVE the band" if self.above else "inside" if self.inside else "below the band"
        return f"{self.value:8.3f}   null {self.mean:7.3f}  [{self.low:7.3f}, {self.high:7.3f}]   {place}"


def measured(value: float, client: np.ndarray, null: np.ndarray) -> Measured:
    """The record of a value and its null draws [D]; the k-th smallest and largest of them are the band."""
    draws, ordered = len(null), np.sort(null)
    k = max(1, int(np.floor((draws + 1) * TAIL)))
    return Measured(
        value=float(value),
        mean=float(ordered.mean()),
        low=float(ordered[k - 1]),
        high=float(ordered[draws - k]),
        level=1 - 2 * k / (draws + 1),
        p=float((1 + (null >= value).sum()) / (draws + 1)),
        client=np.asarray(client, np.float64),
    )


def plain(array: np.ndarray) -> list[Any]:
    """An array as nested lists, None for NaN."""
    told = array.astype(object)
    told[np.isnan(array)] = None
    return told.tolist()


def shuffled(stratum: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An order of the rows, int [n], that moves them within their strata only."""
    order = np.empty(len(stratum), np.int64)
    order[np.argsort(stratum, kind="stable")] = np.lexsort((rng.random(len(stratum)), stratum))
    return order


def compared(owner: np.ndarray, stratum: np.ndarray) -> np.ndarray:
    """Which rows have something to be compared with, bool [n].

    A cell is a client's rows in one stratum. Cells of one row are left out, for want of a variance, and then
    strata of one cell, for want of another client.
    """
    clients = owner.max(initial=0) + 1
    _, cell, size = np.unique(stratum * clients + owner, return_inverse=True, return_counts=True)
    kept = size[cell] >= 2
    pairs = np.unique(np.stack([stratum[kept], owner[kept]]), axis=1)
    present, many = np.unique(pairs[0], return_counts=True)
    return kept & np.isin(stratum, present[many >= 2])
