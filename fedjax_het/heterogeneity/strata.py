"""How many rows of each stratum each client gets.

A stratum is what rows are told apart by: their label, or the group that a covariate puts them in, or both. A
step that deals rows says which shares of a grouping it wants each client to hold and how many rows; what the
client held before stays as it is otherwise.
"""

from __future__ import annotations

import numpy as np

from fedjax_het.assembly import strata
from fedjax_het.buffers import room
from fedjax_het.heterogeneity.source import Source

__all__ = ["appearance", "fitted", "moved", "named", "rounded", "strata_of", "tilted"]


PASSES = 2000
"""Of proportional fitting, at most."""


def appearance(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values numbered in the order in which they first appear: renaming them changes no number.

    Args:
        values: int [R].

    Returns:
        (the number of each, int [R]; the values by number [G]).
    """
    found, first, number = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return np.argsort(order)[number], found[order]


def named(shares: np.ndarray, found: np.ndarray, classes: int) -> np.ndarray:
    """Shares by number [N, G] as shares by value [N, K], read-only: column found[g] is the g-th; others are 0.

    Args:
        shares: by number.
        found: the values, int [G], each once.
        classes: K.
    """
    if np.array_equal(found, np.arange(classes)):
        shares.flags.writeable = False
        return shares
    out = room((len(shares), classes), shares.dtype)
    out[:] = 0
    out[:, found] = shares
    out.flags.writeable = False
    return out


def strata_of(source: Source, group: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """What rows are told apart by: their group, and in a federation also what earlier steps told them apart by.

    Args:
        source: what is dealt.
        group: of each row, int [R]; None where no new grouping is dealt by.

    Returns:
        (the stratum of each row, int [R]; the group of each stratum, int [S]).
    """
    marks = [np.zeros(len(source.rows), np.int64) if group is None else group]
    if source.federation is not None:
        if strata(source.pool) is not None:
            marks.append(source.labels)
        if "group" in source.federation.truth:
            marks.append(np.asarray(source.federation.truth["group"])[source.rows])
    code = np.zeros(len(source.rows), np.int64)
    for mark in marks:
        code = code * (int(mark.max(initial=0)) + 1) + mark
    stratum, found = appearance(code)
    group_of = np.zeros(len(found), np.int64)
    group_of[stratum] = marks[0]
    return stratum, group_of


def tilted(source: Source, stratum: np.ndarray, group_of: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The shares of strata that clients want, float [N, S], from the shares of groups that they are to hold.

    Within a group a client wants what it has: its labels stay what they are within each group of a covariate,
    say. Where it has nothing of a group, and for a pool, the mix of all rows stands in.

    Args:
        source: what is dealt.
        stratum: of each row, int [R].
        group_of: the group of each stratum, int [S].
        shares: float [N, G], rows add up to 1.
    """
    many, groups = len(group_of), shares.shape[1]
    member = np.eye(groups)[group_of]
    common = np.bincount(stratum, minlength=many).astype(float)
    common /= np.maximum(member @ (common @ member), 1e-300)
    within = np.broadcast_to(common, (source.clients, many))
    if source.owner is not None:
        own = np.bincount(source.owner * many + stratum, minlength=source.clients * many)
        own = own.reshape(source.clients, many).astype(float)
        held = own @ member @ member.T
        within = np.where(held > 0, own / np.maximum(held, 1), within)
    return shares[:, group_of] * within


def fitted(wanted: np.ndarray, sizes: np.ndarray, totals: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How many rows of each stratum each client gets, int64 [N, S]: sizes exactly, strata as near as can be.

    The shares wanted are scaled, by strata and by clients in turn, until they fit how many rows there are of
    each and how many each client gets (iterative proportional fitting: of all tables with these sums it is
    the one of least relative entropy to what was wanted), then rounded. If every row is dealt, every row has
    a place; if not, the strata give what is wanted of them while they last.

    Args:
        wanted: shares that each client wants, float [N, S], >= 0; rows add up to 1.
        sizes: rows of each client, int [N].
        totals: rows of each stratum, int [S].
        rng: decides who is served when a stratum runs out by rounding.

    Reference: Deming, Stephan, "On a least squares adjustment of a sampled frequency table", Annals of
        Mathematical Statistics 1940; Csiszar, "I-divergence geometry", Annals of Probability 1975.
    """
    total = int(sizes.sum())
    spread = totals / max(1, totals.sum())
    # A trace of everything lets any sizes be met; it is less than the faintest wish, so wishes come first.
    shares = np.where(sizes[:, None] > 0, wanted + 1e-200 * spread, 0.0)
    column = _within((shares * sizes[:, None]).sum(0), totals, total)
    table = shares * sizes[:, None]
    for _ in range(PASSES):
        table *= (column / np.maximum(table.sum(0), 1e-300))[None]
        sums = table.sum(1)
        table *= (sizes / np.maximum(sums, 1e-300))[:, None]
        if np.abs(sums - sizes).max() < 0.01:
            break
    table *= (column / np.maximum(table.sum(0), 1e-300))[None]
    count = rounded(table.T, rounded(column[None], np.array([total]))[0]).T
    return moved(count, table, sizes - count.sum(1), rng)


def _within(asked: np.ndarray, totals: np.ndarray, total: int) -> np.ndarray:
    """What is asked of each stratum, scaled to the sum `total` and cut at what there is."""
    if total == totals.sum():
        return totals.astype(float)
    low, high = 0.0, 1.0
    while np.minimum(high * asked, totals).sum() < total - 1e-6 and high < 1e300:
        low, high = high, 2 * high
    for _ in range(100):
        middle = (low + high) / 2
        enough = np.minimum(middle * asked, totals).sum() >= total
        low, high = (low, middle) if enough else (middle, high)
    return np.minimum(high * asked, totals)


def rounded(exact: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Largest-remainder rounding of each row of `exact` [G, P]; the rows then add up to `total` [G]."""
    count = np.floor(exact).astype(np.int64)
    rank = np.argsort(np.argsort(count - exact, axis=1, kind="stable"), axis=1)
    return count + (rank < (total - count.sum(1))[:, None])


def moved(count: np.ndarray, wanted: np.ndarray, change: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Counts [N, S] after client k's total has changed by change[k], while each stratum keeps its sum.

    Args:
        count: rows that each client holds of each stratum.
        wanted: rows that it wants, unrounded.
        change: int [N], sum 0.
        rng: decides who is served when a stratum runs out.
    """
    givers, takers = np.flatnonzero(change < 0), np.flatnonzero(change > 0)
    if not len(takers):
        return count
    count = count.copy()
    given = _proportional(count[givers], -change[givers])
    count[givers] -= given
    stock = given.sum(0)
    need = change[takers]
    # Ask by what is wanted; the epsilon lets a client that wants nothing ask evenly.
    promise = wanted[takers] + np.finfo(float).tiny
    asked = rounded(promise / promise.sum(1, keepdims=True) * need[:, None], need)
    taker, stratum = (np.repeat(index.ravel(), asked.ravel()) for index in np.indices(asked.shape))
    queue = np.lexsort((rng.random(len(stratum)), stratum))
    begins = np.cumsum(asked.sum(0)) - asked.sum(0)
    served = np.empty(len(stratum), bool)
    served[queue] = np.arange(len(stratum)) - begins[stratum[queue]] < stock[stratum[queue]]
    np.add.at(count, (takers[taker[served]], stratum[served]), 1)
    left = stock - np.bincount(stratum[served], minlength=len(stock))
    np.add.at(count, (takers[taker[~served]], np.repeat(np.arange(len(stock)), left)), 1)
    return count


def _proportional(count: np.ndarray, take: np.ndarray) -> np.ndarray:
    """take[k] rows out of count[k] [G, P] in the proportions held, never more of a stratum than there is."""
    return rounded(count * (take / np.maximum(count.sum(1), 1))[:, None], take)
