"""Covariate shift: P(x) differs and P(y | x) does not, since rows are chosen by their features alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedjax_het.check import positive_int, require, scalar, short
from fedjax_het.federation import Federation
from fedjax_het.heterogeneity.deal import deal_by
from fedjax_het.heterogeneity.shares import log_shares, wishes
from fedjax_het.heterogeneity.source import LABELS, result, sizes_of, source_of
from fedjax_het.pool import Pool
from fedjax_het.split import generator

__all__ = ["by_cluster", "by_feature"]

SEEN = 5000
"""Rows that the cluster centres are found on."""


def by_feature(
    source: Pool | Federation,
    *,
    feature: int | Sequence[float] = 0,
    bins: int = 10,
    clients: int | None = None,
    alpha: float = 0.5,
    sizes: int | Sequence[int] | None = None,
    seed: int = 0,
    test: float | None = None,
    valid: float | None = None,
) -> Federation:
    """Choose each client's rows by the value of one feature.

    The rows are cut into bins of equal numbers by the feature. For k = 1..N, with q the shares of the bins:
        Q_k ~ Dir(alpha q),  and client k gets n_k rows, n_k Q_k of each bin as nearly as the rows allow
    Every row goes to one client at most; within a bin rows are random, so P(y | bin) is the same for all.

    Args:
        source: M rows; or a federation, whose rows are dealt anew to the same clients in the same sizes.
        feature: number of a feature of the flattened rows; or one number for each row of the pool.
        bins: G; rows of equal values share a bin, so there may be fewer.
        clients: N, for a pool.
        alpha: concentration, > 0; small is strong selection.
        sizes: n, N whole numbers, or one for all; by default as equal as possible, or a federation's own.
        seed: of the draws and of the cut.
        test: fraction of each client's rows held out for testing, stratified by label; 0.2 by default. Left
            out for a federation, whose rows stay in the split that they are in.
        valid: the same for validation; 0 by default.

    Returns:
        The federation; truth: "group", the bin of each row of the pool in the order of
        their values, int32 [M]; "selection", the Q as
        drawn, float32 [N, G].

    Raises:
        TypeError: a source of another kind, arguments that are no numbers.
        ValueError: no such feature, fewer than two bins, alpha <= 0, sizes that do not fit.

    Reference: Shimodaira, "Improving predictive inference under covariate shift by weighting the
        log-likelihood function", Journal of Statistical Planning and Inference 2000, section 1 (the term).
    """
    given = source_of(source, clients)
    many = positive_int("bins", bins, least=2, remedy="one bin selects nothing")
    value = _values(given.pool, feature)
    edges = np.unique(np.quantile(value, np.arange(1, many) / many))
    group = np.searchsorted(edges, value, side="right")
    return _selected(given, group, "by feature", alpha, sizes, seed=seed, test=test, valid=valid)


def by_cluster(
    source: Pool | Federation,
    *,
    groups: int = 10,
    clients: int | None = None,
    alpha: float = 0.5,
    sizes: int | Sequence[int] | None = None,
    seed: int = 0,
    test: float | None = None,
    valid: float | None = None,
) -> Federation:
    """Choose each client's rows by the cluster that their features fall into.

    The rows are put into G clusters by k-means on the flattened features; then as `by_feature`, with clusters
    for bins.

    Args:
        source: M rows; or a federation, whose rows are dealt anew to the same clients in the same sizes.
        groups: G.
        clients: N, for a pool.
        alpha: concentration, > 0; small is strong selection.
        sizes: n, N whole numbers, or one for all; by default as equal as possible, or a federation's own.
        seed: of the clusters, of the draws and of the cut.
        test: fraction of each client's rows held out for testing, stratified by label; 0.2 by default. Left
            out for a federation, whose rows stay in the split that they are in.
        valid: the same for validation; 0 by default.

    Returns:
        The federation; truth: "group", the cluster of each row of the pool, int32 [M]; "selection", the Q as
        drawn, float32 [N, G].

    Raises:
        TypeError: a source of another kind, arguments that are no numbers.
        ValueError: fewer than two clusters or more than rows, alpha <= 0, sizes that do not fit.
    """
    given = source_of(source, clients)
    many = positive_int("groups", groups, least=2, remedy="one cluster selects nothing")
    x = np.asarray(given.pool.x).reshape(given.pool.num_rows, -1)
    require(many <= len(x), f"groups must be <= {len(x)}, got {many}: there is one row a cluster at least")
    require(
        given.pool.spec.task != "tokens", "source must hold numbers as features, got tokens: use by_feature"
    )
    from sklearn.cluster import KMeans

    rng = generator(seed, "k-means")
    seen = np.sort(rng.permutation(len(x))[:SEEN])
    found = KMeans(
        many,
        n_init=1,  # pyright: ignore[reportArgumentType]
        random_state=int(rng.integers(2**31)),
    ).fit(x[seen].astype(np.float32))
    centre = found.cluster_centers_.astype(np.float32)
    group = np.empty(len(x), np.int64)
    for start in range(0, len(x), SEEN):
        some = x[start : start + SEEN].astype(np.float32)
        group[start : start + SEEN] = np.argmin((centre**2).sum(1) - 2 * some @ centre.T, axis=1)
    return _selected(given, group, "by cluster", alpha, sizes, seed=seed, test=test, valid=valid)


def _values(pool: Pool, feature: Any) -> np.ndarray:
    """One number for each row of the pool, float [M]."""
    if isinstance(feature, (int, np.integer)) and not isinstance(feature, bool):
        x = np.asarray(pool.x).reshape(pool.num_rows, -1)
        require(
            bool(0 <= feature < x.shape[1]),
            f"feature must be in 0..{x.shape[1] - 1}, got {feature}: rows have {x.shape[1]} features",
        )
        return x[:, feature].astype(np.float64)
    try:
        value = np.asarray(feature, np.float64)
    except (TypeError, ValueError):
        raise TypeError(
            f"feature must be a number of a feature, or one number a row, got {short(feature)}"
        ) from None
    require(
        value.shape == (pool.num_rows,) and bool(np.isfinite(value).all()),
        f"feature must be one finite number for each of the {pool.num_rows} rows, got {short(feature)}: or "
        "pass the number of a feature",
    )
    return value


def _selected(
    given: Any,
    group: np.ndarray,
    name: str,
    alpha: float,
    sizes: Any,
    *,
    seed: int,
    test: float | None,
    valid: float | None,
) -> Federation:
    """Rows dealt by draws of each client's shares of the groups [M]."""
    alpha = scalar("alpha", alpha, above=0, remedy="small values select strongly, large ones next to nothing")
    found, number = np.unique(group, return_inverse=True)
    require(len(found) > 1, "feature must take different values, got one for all rows: take another one")
    count = sizes_of(given, sizes)
    mine = number[given.rows]
    rng = generator(seed, name)
    frequency = np.bincount(mine, minlength=len(found)) / len(mine)
    log = log_shares(rng, alpha * frequency, given.clients)
    held, _ = deal_by(given, mine, wishes(log), count, rng)
    truth = {"group": number.astype(np.int32), "selection": np.exp(log).astype(np.float32)}
    return result(given, held, test=test, valid=valid, seed=seed, truth=truth, keep=LABELS)
