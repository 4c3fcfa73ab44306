"""No heterogeneity: every client holds a random sample of the same pool."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedjax_het.assembly import partition
from fedjax_het.check import positive_int, positive_ints, require
from fedjax_het.federation import Federation
from fedjax_het.pool import Pool, expect_pool
from fedjax_het.split import Held, generator

__all__ = ["iid"]


def iid(
    pool: Pool,
    *,
    clients: int,
    sizes: Sequence[int] | None = None,
    seed: int = 0,
    test: float = 0.2,
    valid: float = 0.0,
) -> Federation:
    """Shuffle the pool and deal it out without replacement.

    Args:
        pool: M rows.
        clients: N.
        sizes: rows of each client before its cut into train and test, N whole numbers >= 0 that add up to at
            most M; the rows left over belong to nobody. By default the pool is dealt out whole, in sizes
            that differ by at most one, larger ones first.
        seed: of the deal and of the cut.
        test: fraction of each client's rows held out for testing, stratified by label.
        valid: fraction for validation.

    Returns:
        The federation; truth: "sizes", int32 [N], before the cut, and "size_alone", who
        is known by its size, bool [N].

    Raises:
        TypeError: `pool` is not a Pool, counts that are not whole numbers.
        ValueError: more clients than rows, sizes that do not fit, a fraction out of range.
    """
    rows = expect_pool("pool", pool).num_rows
    clients = positive_int("clients", clients, remedy="say how many share the pool")
    if sizes is None:
        require(
            clients <= rows,
            f"clients must be <= {rows}, got {clients}: there is one row a client at most, or pass sizes",
        )
        count = np.full(clients, rows // clients)
        count[: rows % clients] += 1
    else:
        count = np.array(positive_ints("sizes", sizes, least=0, remedy="pass one size a client"), np.int64)
        require(
            len(count) == clients,
            f"sizes must list {clients} clients, got {len(count)} sizes: pass one size a client",
        )
        require(
            int(count.sum()) > 0,
            f"sizes must add up to at least 1, got 0 for all {clients} clients: give one client rows",
        )
        require(
            int(count.sum()) <= rows,
            f"sizes must add up to at most {rows}, got {int(count.sum())}: the pool has no more rows",
        )
    order = generator(seed, "iid").permutation(rows)[: count.sum()]
    code = (np.repeat(np.arange(clients), count) << 32) | order
    code.sort()
    held = Held((code & 0xFFFFFFFF).astype(np.int32), count)
    return partition(pool, held, test=test, valid=valid, seed=seed)
