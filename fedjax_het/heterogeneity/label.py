"""Label skew: clients that hold the classes in different proportions."""

from __future__ import annotations

import numpy as np

from fedjax_het.assembly import partition
from fedjax_het.check import positive_int, require, scalar
from fedjax_het.federation import Federation
from fedjax_het.pool import Pool, expect_pool
from fedjax_het.split import generator

__all__ = ["dirichlet"]


def dirichlet(
    pool: Pool,
    *,
    clients: int,
    alpha: float,
    seed: int = 0,
    min_size: int = 1,
    balanced: bool = False,
    test: float = 0.2,
    valid: float = 0.0,
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
    label). Whoever is neither short nor levelled keeps its counts.

    Args:
        pool: M labelled rows, K classes.
        clients: N.
        alpha: concentration, > 0; 0.1 is strong skew, 100 next to none.
        seed: of the draws and of the cut.
        min_size: rows that each client holds at least, before its cut into train and test.
        balanced: whether sizes differ by at most one instead, with moves chosen in the same way.
        test: fraction of each client's rows held out for testing, stratified by label.
        valid: fraction for validation.

    Returns:
        The federation; truth: "drawn", the q as float32 [N, K], each column adding up to 1 over clients, and
        "proportions", the labels that each client holds before its cut, float32 [N, K], each row adding up to
        1 over classes (0 for an empty client).

    Raises:
        TypeError: `pool` is not a Pool, counts that are not whole numbers, an alpha that is no number.
        ValueError: alpha <= 0, more clients than rows unless `min_size` is 0, a `min_size` that the pool
            cannot meet (the largest that it can is named), a pool without one label a row, a fraction out of
            range.

    Reference: Yurochkin, Agarwal, Ghosh, Greenewald, Hoang, Khazaeni, "Bayesian nonparametric federated
        learning of neural networks", ICML 2019, section 4; Li, Diao, Chen, He, "Federated learning on non-IID
        data silos: an experimental study", ICDE 2022. (Hsu, Qi, Brown 2019 draw labels within each client
        instead, for clients of equal size.)

    Departures: the published codes draw all classes again until every client holds 10 rows, which need not
        end; and they exclude clients that are full already, which biases the proportions.
    """
    labels = expect_pool("pool", pool).labels
    alpha = scalar("alpha", alpha, above=0, remedy="small values skew the labels, large ones even them out")
    clients = positive_int("clients", clients, remedy="say how many share the pool")
    min_size = positive_int("min_size", min_size, least=0, remedy="0 allows empty clients")
    most = pool.num_rows // clients
    require(
        min_size == 0 or most > 0,
        f"clients must be <= {pool.num_rows}, got {clients}: there is one row a client at most, or pass "
        "min_size=0 to allow empty clients",
    )
    require(
        min_size <= most,
        f"min_size must be <= {most}, got {min_size}: {clients} clients share {pool.num_rows} rows; take "
        "fewer clients or a smaller min_size",
    )
    classes = pool.spec.num_classes or 0
    total = np.bincount(labels, minlength=classes)
    order = _by_appearance(labels, classes)
    rng = generator(seed, "dirichlet")
    drawn = np.empty((clients, classes))
    drawn[:, order] = _shares(rng, alpha, classes, clients).T
    tie = rng.random(clients)
    count = _round(drawn.T * total[:, None], total).T
    size = count.sum(1)
    target = _balanced(size, tie) if balanced else _levelled(size, min_size, tie)
    count[:, order] = _moved(count[:, order], (drawn * total)[:, order], target - size, rng)
    rank = np.argsort(order)[labels]
    rows = np.lexsort((rng.random(len(labels)), rank))
    owner = np.repeat(np.tile(np.arange(clients), classes), count[:, order].T.ravel())
    owner = owner[np.argsort(rows)]
    parts = np.split(np.argsort(owner, kind="stable"), np.cumsum(count.sum(1))[:-1])
    held = count / np.maximum(count.sum(1, keepdims=True), 1)
    truth = {"drawn": drawn.astype(np.float32), "proportions": held.astype(np.float32)}
    return partition(pool, parts, test=test, valid=valid, seed=seed, truth=truth)


def _by_appearance(labels: np.ndarray, classes: int) -> np.ndarray:
    """All classes, int [K], in the order of their first rows; absent ones come last."""
    first = np.full(classes, len(labels))
    present, place = np.unique(labels, return_index=True)
    first[present] = place
    return np.argsort(first, kind="stable")


def _shares(rng: np.random.Generator, alpha: float, draws: int, parts: int) -> np.ndarray:
    """Draws from Dir(alpha, ..., alpha), float [draws, parts].

    A Gamma(alpha) variable is Gamma(alpha + 1) times U^(1/alpha); in logarithms it cannot underflow, however
    small alpha is (Marsaglia, Tsang 2000, section 6).
    """
    log = (
        np.log(rng.standard_gamma(alpha + 1, (draws, parts))) - rng.standard_exponential((draws, parts)) / alpha
    )
    weight = np.exp(log - log.max(1, keepdims=True))
    return weight / weight.sum(1, keepdims=True)


def _round(exact: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Largest-remainder rounding of each row of `exact` [G, P]; the rows then add up to `total` [G]."""
    count = np.floor(exact).astype(np.int64)
    rank = np.argsort(np.argsort(count - exact, axis=1, kind="stable"), axis=1)
    return count + (rank < (total - count.sum(1))[:, None])


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


def _moved(count: np.ndarray, wanted: np.ndarray, change: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Counts [N, K] after client k's total has changed by change[k], while each class keeps its sum.

    Args:
        count: rows that each client holds of each class.
        wanted: rows that its draw gives it, unrounded.
        change: int [N], sum 0.
        rng: decides who is served when a class runs out.
    """
    givers, takers = np.flatnonzero(change < 0), np.flatnonzero(change > 0)
    if not len(takers):
        return count
    count = count.copy()
    given = _proportional(count[givers], -change[givers])
    count[givers] -= given
    stock = given.sum(0)
    need = change[takers]
    # Ask by what the draw promised; the epsilon lets a client to whom it promised nothing ask evenly.
    promise = wanted[takers] + np.finfo(float).tiny
    asked = _round(promise / promise.sum(1, keepdims=True) * need[:, None], need)
    taker, label = (np.repeat(index.ravel(), asked.ravel()) for index in np.indices(asked.shape))
    queue = np.lexsort((rng.random(len(label)), label))
    begins = np.cumsum(asked.sum(0)) - asked.sum(0)
    served = np.empty(len(label), bool)
    served[queue] = np.arange(len(label)) - begins[label[queue]] < stock[label[queue]]
    np.add.at(count, (takers[taker[served]], label[served]), 1)
    left = stock - np.bincount(label[served], minlength=len(stock))
    np.add.at(count, (takers[taker[~served]], np.repeat(np.arange(len(stock)), left)), 1)
    return count


def _proportional(count: np.ndarray, take: np.ndarray) -> np.ndarray:
    """take[k] rows out of count[k] [G, K] in the proportions held, never more of a class than there is."""
    return _round(count * (take / np.maximum(count.sum(1), 1))[:, None], take)
