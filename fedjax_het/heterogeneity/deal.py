"""Which rows each client gets, once it is known how many of each stratum."""

from __future__ import annotations

import numpy as np

from fedjax_het.heterogeneity.source import Source
from fedjax_het.heterogeneity.strata import fitted, strata_of, tilted
from fedjax_het.split import Drawn, Held, Parts

__all__ = ["deal", "deal_by", "draw", "split_sizes"]


def deal_by(
    source: Source, group: np.ndarray | None, shares: np.ndarray, sizes: np.ndarray, rng: np.random.Generator
) -> tuple[Held | Parts, np.ndarray]:
    """Rows of these sizes in these shares of the groups, as nearly as the rows at hand allow.

    Args:
        source: what is dealt.
        group: of each row, int [R]; None if there is one group, so that what clients hold stays what it is.
        shares: that each client is to hold, float [N, G], rows add up to 1.
        sizes: rows of each client, int [N].
        rng: of the choice.

    Returns:
        (the rows of each client, of a federation for each split, since a row stays in the split that it is in;
        how many of each group these are, int [N, G]).
    """
    stratum, group_of = strata_of(source, group)
    wanted = tilted(source, stratum, group_of, shares)
    member = np.eye(shares.shape[1], dtype=np.int64)[group_of]

    def some(chosen: np.ndarray, size: np.ndarray) -> tuple[Held, np.ndarray]:
        own = stratum[chosen]
        table = fitted(wanted, size, np.bincount(own, minlength=len(group_of)), rng)
        return deal(source.rows[chosen], own, table, rng), table @ member

    if source.split is None:
        return some(np.arange(len(source.rows)), sizes)
    by_split = split_sizes(source, sizes, rng)
    parts = [some(np.flatnonzero(source.split == which), size) for which, size in enumerate(by_split)]
    return Parts(*(held for held, _ in parts)), np.sum([count for _, count in parts], axis=0)


def split_sizes(source: Source, sizes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How many training, validation and test rows each client of a federation gets, int [3, N].

    As many as it has where its size stays; otherwise in proportion to all rows of the splits, with a row to
    train on for everybody who gets rows, as far as there are so many.

    Args:
        source: a federation's rows.
        sizes: rows of each client, int [N].
        rng: decides who is served by rounding.
    """
    assert source.split is not None and source.owner is not None and source.sizes is not None
    if np.array_equal(sizes, source.sizes):
        code = source.split * source.clients + source.owner
        return np.bincount(code, minlength=3 * source.clients).reshape(3, source.clients)
    total = np.bincount(source.split, minlength=3)
    table = fitted(np.tile(total / total.sum(), (source.clients, 1)), sizes, total, rng)
    for client in np.flatnonzero((table[:, 0] == 0) & (sizes > 0)):
        giver, which = int(table[:, 0].argmax()), int(table[client].argmax())
        if table[giver, 0] > 1:
            table[[client, giver], [0, which]] += 1
            table[[client, giver], [which, 0]] -= 1
    return table.T


def deal(rows: np.ndarray, stratum: np.ndarray, count: np.ndarray, rng: np.random.Generator) -> Held:
    """Random rows of each stratum, as many as each client is to get; each row to one client at most.

    Args:
        rows: row numbers, int [R].
        stratum: of each, int [R].
        count: int [N, S], at most as many of a stratum as there are.
        rng: of the choice.

    Returns:
        The rows of each client in ascending order.
    """
    clients, strata = count.shape
    free = np.bincount(stratum, minlength=strata) - count.sum(0)
    owner = np.repeat(np.tile(np.arange(clients + 1), strata), np.vstack([count, free]).T.ravel())
    order = np.argsort(
        (stratum.astype(np.uint64) << np.uint64(40)) | rng.integers(0, 1 << 40, len(rows), np.uint64)
    )
    code = (owner.astype(np.uint64) << np.uint64(32)) | rows[order].astype(np.uint64)
    code.sort()
    size = count.sum(1)
    return Held((code[: size.sum()] & np.uint64(0xFFFFFFFF)).astype(np.int32), size)


def draw(
    stratum: np.ndarray, shares: np.ndarray, columns: np.ndarray, sizes: np.ndarray, rng: np.random.Generator
) -> Drawn:
    """Rows drawn with replacement: n_k rows of client k, of strata drawn by its shares.

    Args:
        stratum: of each row of the pool, int [M].
        shares: float [N, K], rows add up to 1.
        columns: which column each stratum has there, int [S].
        sizes: n, int [N].
        rng: of the draws; used when the rows are asked for, clients in order.

    Returns:
        Clients whose rows come in ascending order.
    """
    total = np.bincount(stratum, minlength=len(columns))
    first = np.cumsum(total) - total
    by_stratum = np.argsort(stratum, kind="stable").astype(np.int32)

    def some(clients: slice) -> np.ndarray:
        size, share = sizes[clients], shares[clients][:, columns].astype(np.float64)
        share /= share.sum(1, keepdims=True)
        count = rng.multinomial(size, share)
        picked = np.repeat(np.tile(np.arange(len(total)), len(size)), count.ravel())
        place = first[picked] + (rng.random(len(picked)) * total[picked]).astype(np.int64)
        owner = np.repeat(np.arange(len(size), dtype=np.uint64), size)
        code = (owner << np.uint64(32)) | by_stratum[place].astype(np.uint64)
        code.sort()
        return (code & np.uint64(0xFFFFFFFF)).astype(np.int32)

    return Drawn(sizes, some)
