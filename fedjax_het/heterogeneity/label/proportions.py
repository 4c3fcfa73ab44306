"""Label skew by hand: the label proportions of each client as they are given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedjax_het.check import require, short
from fedjax_het.federation import Federation
from fedjax_het.heterogeneity.deal import deal, deal_by, draw
from fedjax_het.heterogeneity.source import GROUPS, result, sizes_of, source_of
from fedjax_het.heterogeneity.strata import appearance, rounded
from fedjax_het.pool import Pool
from fedjax_het.split import generator

__all__ = ["proportions"]


def proportions(
    source: Pool | Federation,
    *,
    proportions: Sequence[Sequence[float]],
    sizes: int | Sequence[int] | None = None,
    replacement: bool = False,
    seed: int = 0,
    test: float | None = None,
    valid: float | None = None,
) -> Federation:
    """Give client k rows in the label proportions P_k, to the row.

    Client k gets n_k P_k rows of each class, rounded by largest remainders; with replacement it draws n_k
    labels from P_k. Rows that nobody asks for belong to nobody.

    Args:
        source: M labelled rows; or a federation of N clients, whose rows are dealt anew in the same sizes:
            then all rows are dealt, in proportions as near to P_k as the classes' totals allow.
        proportions: P, N lists of K numbers >= 0 that add up to 1 each.
        sizes: n, N whole numbers, or one for all; by default the largest equal size for which no class runs
            out (1000 with replacement), or a federation's own.
        replacement: whether a row may be held by several clients, or twice by one.
        seed: of the rows and of the cut.
        test: fraction of each client's rows held out for testing, stratified by label; 0.2 by default. Left
            out for a federation, whose rows stay in the split that they are in.
        valid: the same for validation; 0 by default.

    Returns:
        The federation; truth: "proportions", float32 [N, K], "sizes", int32 [N], and "size_alone",
        who is known by its size, bool [N].

    Raises:
        TypeError: a source of another kind, proportions that are not numbers.
        ValueError: proportions that do not add up to 1 or ask for a class that the source does not hold, sizes
            for which a class runs out (named, with how many rows it has), rows without a label each.
    """
    asked = _checked(proportions)
    given = source_of(source, len(asked) if isinstance(source, Pool) else None)
    kinds = given.pool.spec.num_classes or 0
    label = given.labels
    require(
        asked.shape == (given.clients, kinds),
        f"proportions must have shape [{given.clients}, {kinds}], clients and classes, got "
        f"{list(asked.shape)}: pass one list of numbers a client",
    )
    total = np.bincount(label, minlength=kinds)
    empty = np.flatnonzero((total == 0) & (asked > 0).any(0))
    require(
        not len(empty),
        f"proportions must be 0 for classes that nobody holds, got more for {empty.tolist()[:10]}: the source "
        "has no rows of them",
    )
    if sizes is None and given.sizes is None:
        sizes = 1000 if replacement else _largest(asked, total)
    count = sizes_of(given, sizes, replacement=replacement)
    rng = generator(seed, "proportions")
    if replacement:
        require(
            given.federation is None,
            "replacement must be False for a Federation, got True: its clients share the rows that they hold",
        )
        number, found = appearance(label)
        held = draw(number, asked, found, count, rng)
    elif given.federation is None:
        table = rounded(asked * count[:, None], count)
        short_of = np.flatnonzero(table.sum(0) > total)
        require(
            not len(short_of),
            f"sizes must leave enough rows of each class, got sizes that ask for "
            f"{table.sum(0)[short_of].tolist()[:3]} rows of classes {short_of.tolist()[:3]}, which have "
            f"{total[short_of].tolist()[:3]}: all sizes up to {_largest(asked, total)} are met",
        )
        held = deal(given.rows, label, table, rng)
    else:
        held, _ = deal_by(given, label, asked, count, rng)
    truth = {"proportions": asked.astype(np.float32)}
    return result(given, held, test=test, valid=valid, seed=seed, truth=truth, keep=GROUPS)


def _checked(proportions: object) -> np.ndarray:
    try:
        asked = np.asarray(proportions, np.float64)
    except (TypeError, ValueError):
        raise TypeError(
            f"proportions must be a table of numbers, got {short(proportions)}: pass one list of K numbers a "
            "client"
        ) from None
    require(
        asked.ndim == 2 and asked.size > 0,
        f"proportions must have one row a client and one column a class, got shape {asked.shape}: pass [N, K]",
    )
    wrong = np.flatnonzero(~((asked >= 0).all(1) & (np.abs(asked.sum(1) - 1) < 1e-6)))
    require(
        not len(wrong),
        f"proportions must be >= 0 and add up to 1 for each client, got {asked[wrong[:1]].sum():g} for client "
        f"{wrong[0] if len(wrong) else 0}: divide each row by its sum",
    )
    return asked / asked.sum(1, keepdims=True)


def _largest(asked: np.ndarray, total: np.ndarray) -> int:
    """The largest size that all clients can have."""
    share = asked.sum(0)
    low, high = 0, int(np.min(total[share > 0] / share[share > 0])) + 1
    while low < high:
        middle = (low + high + 1) // 2
        table = rounded(asked * middle, np.full(len(asked), middle))
        low, high = (middle, high) if (table.sum(0) <= total).all() else (low, middle - 1)
    require(low > 0, "sizes must be given, got None: some class has less than one row for each who asks for it")
    return low
