"""A few classes for each client: pathological label skew."""

from __future__ import annotations

import numpy as np

from fedjax_het.check import positive_int, require
from fedjax_het.federation import Federation
from fedjax_het.heterogeneity.deal import deal, deal_by
from fedjax_het.heterogeneity.source import GROUPS, for_pools, result, source_of
from fedjax_het.heterogeneity.strata import appearance, named, rounded
from fedjax_het.pool import Pool
from fedjax_het.split import generator

__all__ = ["classes"]


def classes(
    source: Pool | Federation,
    *,
    clients: int | None = None,
    per_client: int = 2,
    seed: int = 0,
    min_size: int | None = None,
    test: float | None = None,
    valid: float | None = None,
) -> Federation:
    """Give every client rows of exactly s classes, each class to as many clients as any other.

    Which classes a client gets is random; N s / K clients share a class, give or take one, in equal parts
    that differ by at most one row. Every row goes to exactly one client.

    Args:
        source: M labelled rows of K classes; or a federation, whose rows are dealt anew to the same clients in
            the same sizes: then a client holds other classes too where its own have not enough rows.
        clients: N, for a pool.
        per_client: s, classes of a client, at most K.
        seed: of the choice, of the rows, and of the cut.
        min_size: rows that each client of a pool must get, before its cut; 1 by default. Left out for a
            federation.
        test: fraction of each client's rows held out for testing, stratified by label; 0.2 by default. Left
            out for a federation, whose rows stay in the split that they are in.
        valid: the same for validation; 0 by default.

    Returns:
        The federation; truth: "classes", which a client was given, bool [N, K]; "held", the labels
        that it holds before its cut, float32 [N, K].

    Raises:
        TypeError: a source of another kind, counts that are not whole numbers.
        ValueError: more classes a client than there are, too few clients to hold all classes, a client that
            gets less than `min_size` (with the largest that can be met), rows without a label each, a
            fraction out of range.

    Reference: the "pathological" split of McMahan et al., AISTATS 2017, in the exact form of Li, Diao, Chen,
        He, "Federated learning on non-IID data silos", ICDE 2022, section 4.1 (#C = s).

    Departures: the published code draws each client's classes freely, so that a class may belong to nobody and
        its rows be lost.
    """
    given = source_of(source, clients)
    label, found = appearance(given.labels)
    many = len(found)
    each = positive_int("per_client", per_client, remedy="it is how many classes a client gets, such as 2")
    if given.federation is not None:
        for_pools(min_size=min_size)
    least = 1 if min_size is None else min_size
    least = positive_int("min_size", least, least=0, remedy="0 allows empty clients")
    require(each <= many, f"per_client must be <= {many}, got {each}: the rows have {many} classes")
    require(
        given.clients * each >= many,
        f"clients must be >= {-(-many // each)}, got {given.clients}: with {each} classes each they hold "
        f"{given.clients * each} of {many}, and the rows of the others would belong to nobody",
    )
    rng = generator(seed, "classes")
    has = _chosen(rng, given.clients, many, each)
    total = np.bincount(label)
    tie = rng.random(has.shape)
    exact = has * (total / has.sum(0))
    table = _dealt(exact, total, tie)
    if given.sizes is None:
        fewest = int(table.sum(1).min())
        require(
            fewest >= least,
            f"min_size must be <= {fewest}, got {least}: {len(label)} rows of {many} classes are shared by "
            f"{given.clients} clients with {each} classes each",
        )
        held, count = deal(given.rows, label, table, rng), table
    else:
        held, count = deal_by(given, label, exact / exact.sum(1, keepdims=True), given.sizes, rng)
    share = (count / np.maximum(count.sum(1, keepdims=True), 1)).astype(np.float32)
    kinds = given.pool.spec.num_classes or 0
    truth = {"classes": named(has, found, kinds), "held": named(share, found, kinds)}
    return result(
        given,
        held,
        test=test,
        valid=valid,
        seed=seed,
        truth=truth,
        keep=GROUPS,
    )


def _chosen(rng: np.random.Generator, clients: int, many: int, each: int) -> np.ndarray:
    """Which classes each client has, bool [N, K]: `each` of them, every class as often as any other.

    Shuffled decks of all classes are dealt in turn. A hand that begins in one deck and ends in the next takes
    no class twice, since the next deck begins with classes that the hand does not have yet.
    """
    has = np.zeros((clients, many), bool)
    deck = np.zeros(0, np.int64)
    for client in range(clients):
        hand = deck[:each]
        deck = deck[each:]
        if len(hand) < each:
            fresh = rng.permutation(many)
            used = np.isin(fresh, hand)
            free = fresh[~used]
            rest = each - len(hand)
            hand = np.concatenate([hand, free[:rest]])
            deck = np.concatenate([free[rest:], fresh[used]])
            rng.shuffle(deck)
        has[client, hand] = True
    return has


def _dealt(exact: np.ndarray, total: np.ndarray, tie: np.ndarray) -> np.ndarray:
    """Equal shares of each class among those who have it, the odd rows to random ones of them, int64 [N, K]."""
    tilt = exact + np.where(exact > 0, 1e-7 * tie, 0)
    return rounded((tilt * (total / tilt.sum(0))).T, total).T
