"""Quantity skew: clients hold different numbers of rows, whatever their labels are.

On a pool the rows are dealt at random. On a federation they are dealt anew so that each client has the size
asked for and keeps its label proportions (and those of its covariate, if rows were selected by one) as nearly
as the rows at hand allow. Exact sizes tell clients apart: see the notices of `describe`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedjax_het.check import positive_int, require, scalar
from fedjax_het.federation import Federation
from fedjax_het.heterogeneity.deal import deal_by
from fedjax_het.heterogeneity.shares import dirichlet_shares
from fedjax_het.heterogeneity.source import GROUPS, LABELS, Source, result, sizes_of, source_of
from fedjax_het.heterogeneity.strata import rounded
from fedjax_het.pool import Pool
from fedjax_het.split import generator

__all__ = ["dirichlet", "log_normal", "power_law", "sizes"]


def power_law(
    source: Pool | Federation,
    *,
    clients: int | None = None,
    exponent: float = 1.0,
    min_size: int = 1,
    seed: int = 0,
    test: float | None = None,
    valid: float | None = None,
) -> Federation:
    """Sizes in proportion to r^-exponent, where r is a client's rank; who has which rank is random.

    Args:
        source: M rows; or a federation, whose rows are dealt anew to the same clients.
        clients: N, for a pool.
        exponent: of the power, >= 0; 0 is equal sizes, 1 Zipf's law.
        min_size: rows that each client gets at least, before its cut.
        seed: of the ranks, of the rows and of the cut.
        test: fraction of each client's rows held out for testing, stratified by label; 0.2 by default. Left
            out for a federation, whose rows stay in the split that they are in.
        valid: the same for validation; 0 by default.

    Returns:
        The federation, all rows dealt; truth: "sizes", int32 [N], before the cut, and "size_alone", who
        is known by its size, bool [N].

    Raises:
        TypeError: a source of another kind, arguments that are no numbers.
        ValueError: a negative exponent, a minimum that cannot be met (the largest that can is named).
    """
    given = source_of(source, clients)
    exponent = scalar("exponent", exponent, least=0, remedy="0 is equal sizes, 1 Zipf's law")
    rng = generator(seed, "power law")
    weight = (rng.permutation(given.clients) + 1.0) ** -exponent
    return _dealt(given, weight, min_size, rng, seed=seed, test=test, valid=valid)


def log_normal(
    source: Pool | Federation,
    *,
    clients: int | None = None,
    sigma: float = 1.0,
    min_size: int = 1,
    seed: int = 0,
    test: float | None = None,
    valid: float | None = None,
) -> Federation:
    """Sizes in proportion to exp(sigma z), z ~ N(0, 1).

    Args:
        source: M rows; or a federation, whose rows are dealt anew to the same clients.
        clients: N, for a pool.
        sigma: standard deviation of the logarithm, >= 0; 0 is equal sizes.
        min_size: rows that each client gets at least, before its cut.
        seed: of the draws, of the rows and of the cut.
        test: fraction of each client's rows held out for testing, stratified by label; 0.2 by default. Left
            out for a federation, whose rows stay in the split that they are in.
        valid: the same for validation; 0 by default.

    Returns:
        The federation, all rows dealt; truth: "sizes", int32 [N], before the cut, and "size_alone", who
        is known by its size, bool [N].

    Raises:
        TypeError: a source of another kind, arguments that are no numbers.
        ValueError: a negative sigma, a minimum that cannot be met (the largest that can is named).
    """
    given = source_of(source, clients)
    sigma = scalar("sigma", sigma, least=0, remedy="it is the standard deviation of the sizes' logarithm")
    rng = generator(seed, "log-normal")
    log = sigma * rng.standard_normal(given.clients)
    return _dealt(given, np.exp(log - log.max()), min_size, rng, seed=seed, test=test, valid=valid)


def dirichlet(
    source: Pool | Federation,
    *,
    clients: int | None = None,
    alpha: float,
    min_size: int = 1,
    seed: int = 0,
    test: float | None = None,
    valid: float | None = None,
) -> Federation:
    """Sizes in proportion to a draw from the symmetric Dirichlet distribution over the clients.

    Args:
        source: M rows; or a federation, whose rows are dealt anew to the same clients.
        clients: N, for a pool.
        alpha: concentration, > 0; small is skewed, large is even.
        min_size: rows that each client gets at least, before its cut.
        seed: of the draw, of the rows and of the cut.
        test: fraction of each client's rows held out for testing, stratified by label; 0.2 by default. Left
            out for a federation, whose rows stay in the split that they are in.
        valid: the same for validation; 0 by default.

    Returns:
        The federation, all rows dealt; truth: "sizes", int32 [N], before the cut, and "size_alone", who
        is known by its size, bool [N].

    Raises:
        TypeError: a source of another kind, arguments that are no numbers.
        ValueError: alpha <= 0, a minimum that cannot be met (the largest that can is named).

    Reference: Li, Diao, Chen, He, "Federated learning on non-IID data silos: an experimental study", ICDE 2022,
        section 4.3 (quantity skew, q ~ Dir(beta)).
    """
    given = source_of(source, clients)
    alpha = scalar("alpha", alpha, above=0, remedy="small values skew the sizes, large ones even them out")
    rng = generator(seed, "dirichlet sizes")
    weight = dirichlet_shares(rng, np.full(given.clients, alpha), 1)[0]
    return _dealt(given, weight, min_size, rng, seed=seed, test=test, valid=valid)


def sizes(
    source: Pool | Federation,
    *,
    sizes: Sequence[int],
    seed: int = 0,
    test: float | None = None,
    valid: float | None = None,
) -> Federation:
    """Sizes as they are given.

    Args:
        source: M rows; or a federation of N clients, whose rows are dealt anew.
        sizes: rows of each client before its cut, N whole numbers >= 0 that add up to at most M; rows left
            over belong to nobody.
        seed: of the rows and of the cut.
        test: fraction of each client's rows held out for testing, stratified by label; 0.2 by default. Left
            out for a federation, whose rows stay in the split that they are in.
        valid: the same for validation; 0 by default.

    Returns:
        The federation; truth: "sizes", int32 [N], and "size_alone", who is known by its size, bool [N].

    Raises:
        TypeError: a source of another kind, sizes that are not whole numbers.
        ValueError: sizes that are negative, add up to more than there is, or are not one a client.
    """
    given = source_of(source, len(sizes) if isinstance(source, Pool) and hasattr(sizes, "__len__") else None)
    count = sizes_of(given, sizes)
    return _sized(given, count, generator(seed, "sizes"), seed=seed, test=test, valid=valid)


def _dealt(
    given: Source,
    weight: np.ndarray,
    least: int,
    rng: np.random.Generator,
    *,
    seed: int,
    test: float | None,
    valid: float | None,
) -> Federation:
    """All rows, in sizes as near to proportional to `weight` as the minimum allows."""
    rows, clients = len(given.rows), given.clients
    least = positive_int("min_size", least, least=0, remedy="0 allows empty clients")
    require(
        least * clients <= rows,
        f"min_size must be <= {rows // clients}, got {least}: {clients} clients share {rows} rows",
    )
    held = np.zeros(clients, bool)
    exact = weight / weight.sum() * rows
    while (exact[~held] < least).any():  # whoever is lifted to the minimum takes from the others alike
        held |= exact < least
        exact[held] = least
        exact[~held] = weight[~held] / weight[~held].sum() * (rows - least * held.sum())
    count = rounded(exact[None], np.array([rows]))[0]
    return _sized(given, count, rng, seed=seed, test=test, valid=valid)


def _sized(
    given: Source,
    count: np.ndarray,
    rng: np.random.Generator,
    *,
    seed: int,
    test: float | None,
    valid: float | None,
) -> Federation:
    held, _ = deal_by(given, None, np.ones((given.clients, 1)), count, rng)
    return result(given, held, test=test, valid=valid, seed=seed, truth={}, keep=LABELS + GROUPS)
