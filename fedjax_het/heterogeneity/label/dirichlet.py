"""Label skew: each class is shared out among the clients."""

from __future__ import annotations

import numpy as np

from fedjax_het.check import positive_int, require, scalar
from fedjax_het.federation import Federation
from fedjax_het.heterogeneity.deal import deal, deal_by
from fedjax_het.heterogeneity.shares import dirichlet_shares
from fedjax_het.heterogeneity.source import GROUPS, for_pools, result, source_of
from fedjax_het.heterogeneity.strata import appearance, moved, named, rounded
from fedjax_het.pool import Pool
from fedjax_het.split import generator

__all__ = ["dirichlet"]


def dirichlet(
    source: Pool | Federation,
    *,
    clients: int | None = None,
    alpha: float,
    seed: int = 0,
    min_size: int | None = None,
    balanced: bool = False,
    test: float | None = None,
    valid: float | None = None,
) -> Federation:
    """Share out each class by proportions drawn from a symmetric Dirichlet distribution.

    For each class c of m_c rows:
        q_c ~ Dir(alpha, ..., alpha) over the N clients
        client k gets q_c[k] m_c rows of it, rounded by largest remainders

    Every row goes to exactly one client. The classes are independent, so clients differ in size as well as in
    labels, the more so the smaller alpha is; alpha -> infinity is equal shares of each class. Classes draw in
    the order of their first rows in the pool, so renaming the labels renames the result.

    Nothing is ever drawn again. If clients fall short of `min_size`, the largest clients are levelled down to
    a common size until the missing rows are there; each gives labels in the proportions that it holds, and
    the rows go to those who ask for them by their own q (and, where a class has run out, in runs of one
    label). Whoever is neither short nor levelled keeps its counts. The clients of a federation keep their
    sizes instead, and hold labels as near to q_c[k] m_c as that allows.

    Args:
        source: M labelled rows, K classes; or a federation, whose rows are dealt anew to the same clients.
        clients: N, for a pool.
        alpha: concentration, > 0; 0.1 is strong skew, 100 next to none.
        seed: of the draws and of the cut.
        min_size: rows that each client of a pool holds at least, before its cut into train and test; 1 by
            default. Left out for a federation, as is `balanced`.
        balanced: whether sizes differ by at most one instead, with moves chosen in the same way.
        test: fraction of each client's rows held out for testing, stratified by label; 0.2 by default. Left
            out for a federation, whose rows stay in the split that they are in.
        valid: the same for validation; 0 by default.

    Returns:
        The federation; truth: "drawn", the q as float32 [N, K], each column adding up to 1 over clients (0
        for a class without rows), and "held", the labels that each client holds before its cut, float32
        [N, K], each row adding up to 1 over classes (0 for an empty client).

    Raises:
        TypeError: a source of another kind, counts that are not whole numbers, an alpha that is no number.
        ValueError: alpha <= 0, more clients than rows unless `min_size` is 0, a `min_size` that the pool
            cannot meet (the largest that it can is named), rows without a label each, a fraction out of
            range.

    Reference: Yurochkin, Agarwal, Ghosh, Greenewald, Hoang, Khazaeni, "Bayesian nonparametric federated
        learning of neural networks", ICML 2019, section 4; Li, Diao, Chen, He, "Federated learning on non-IID
        data silos: an experimental study", ICDE 2022. (Hsu, Qi, Brown 2019 draw labels within each client
        instead, for clients of equal size.)

    Departures: the published codes draw all classes again until every client holds 10 rows, which need not
        end; and they exclude clients that are full already, which biases the proportions.
    """
    given = source_of(source, clients)
    alpha = scalar("alpha", alpha, above=0, remedy="small values skew the labels, large ones even them out")
    rows, labels = len(given.rows), given.labels
    if given.federation is None:
        min_size = 1 if min_size is None else min_size
        min_size = positive_int("min_size", min_size, least=0, remedy="0 allows empty clients")
        _check_size(given.clients, rows, min_size)
    else:
        for_pools(min_size=min_size, balanced=balanced or None)
    label, found = appearance(labels)
    total = np.bincount(label)
    rng = generator(seed, "dirichlet")
    drawn = dirichlet_shares(rng, np.full(given.clients, alpha), len(found)).T
    tie = rng.random(given.clients)
    if given.sizes is None:
        assert min_size is not None
        table = rounded(drawn.T * total[:, None], total).T
        size = table.sum(1)
        target = _balanced(size, tie) if balanced else _levelled(size, min_size, tie)
        table = moved(table, drawn * total, target - size, rng)
        held, count = deal(given.rows, label, table, rng), table
    else:
        asked = drawn * total
        held, count = deal_by(given, label, asked / asked.sum(1, keepdims=True), given.sizes, rng)
    proportions = count / np.maximum(count.sum(1, keepdims=True), 1)
    classes = given.pool.spec.num_classes or 0
    truth = {
        "drawn": named(drawn.astype(np.float32), found, classes),
        "held": named(proportions.astype(np.float32), found, classes),
    }
    return result(
        given,
        held,
        test=test,
        valid=valid,
        seed=seed,
        truth=truth,
        keep=GROUPS,
    )


def _check_size(clients: int, rows: int, least: int) -> None:
    most = rows // clients
    require(
        least == 0 or most > 0,
        f"clients must be <= {rows}, got {clients}: there is one row a client at most, or pass "
        "min_size=0 to allow empty clients",
    )
    require(
        least <= most,
        f"min_size must be <= {most}, got {least}: {clients} clients share {rows} rows; take "
        "fewer clients or a smaller min_size",
    )


def _levelled(size: np.ndarray, least: int, tie: np.ndarray) -> np.ndarray:
    """Sizes of at least `least` with the same sum: the largest come down to one level, give or take a row."""
    target = np.maximum(size, least)
    excess = int(target.sum() - size.sum())
    low, high = least, int(size.max())
    while low < high:
        level = (low + high) // 2
        low, high = (low, level) if np.maximum(target - level, 0).sum() <= excess else (level + 1, high)
    target = np.minimum(target, low)
    target[np.lexsort((tie, -target))[: target.sum() - size.sum()]] -= 1
    return target


def _balanced(size: np.ndarray, tie: np.ndarray) -> np.ndarray:
    """Sizes that differ by at most one, with the same sum; the larger ones go to those that were largest."""
    target = np.full(len(size), size.sum() // len(size))
    target[np.lexsort((tie, -size))[: size.sum() % len(size)]] += 1
    return target
