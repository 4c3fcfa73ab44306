"""What a partitioner deals out, a pool or the rows of a federation, and the federation that comes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from fedjax_het.assembly import assemble, partition, size_truth
from fedjax_het.check import positive_int, positive_ints, require
from fedjax_het.federation import SPLITS, Federation
from fedjax_het.phases import of_one_phase
from fedjax_het.pool import Pool, expect_pool
from fedjax_het.split import Drawn, Held, Parts

__all__ = ["GROUPS", "LABELS", "Source", "for_pools", "result", "sizes_of", "source_of"]


LABELS = ("proportions", "drawn")
GROUPS = ("selection", "group")
"""What truths say that was drawn or asked of labels, and of the groups of a covariate."""

STALE = (*LABELS, *GROUPS, "held", "classes")
"""What is said of rows, and is no longer so once they are dealt anew."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Rows to be dealt out.

    Attributes:
        pool: all examples.
        rows: numbers of those to deal, int [R]; a row held twice is there twice.
        clients: N.
        sizes: rows that each client has now, int64 [N]; None for a pool.
        owner: who has them now, int [R]; None for a pool.
        split: 0 (train), 1 (valid) or 2 (test) for each of them, int [R]; None for a pool.
        federation: whose clients these are; None for a pool.
    """

    pool: Pool
    rows: np.ndarray
    clients: int
    sizes: np.ndarray | None = None
    owner: np.ndarray | None = None
    split: np.ndarray | None = None
    federation: Federation | None = None

    @property
    def labels(self) -> np.ndarray:
        """The label of each row, int [R]."""
        return self.pool.labels[self.rows]


def source_of(source: Any, clients: int | None) -> Source:
    """What a partitioner was given: a pool and a number of clients, or a federation whose rows it deals anew.

    Raises:
        TypeError: neither of the two, a number of clients that is not whole.
        ValueError: no number of clients for a pool, another number than the federation's, more than one phase.
    """
    if isinstance(source, Federation):
        federation = of_one_phase("source", source)
        require(
            clients in (None, federation.num_clients),
            f"clients must be left out for a Federation, got {clients}: it has {federation.num_clients}, and "
            "keeps them",
        )
        held = [_held(federation, split) for split in SPLITS]
        owner = np.concatenate([np.repeat(np.arange(len(part.size)), part.size) for part in held])
        rows = np.concatenate([part.index for part in held])
        split = np.repeat(np.arange(len(SPLITS)), [len(part.index) for part in held])
        order = np.argsort(owner, kind="stable")
        sizes = np.sum([part.size for part in held], axis=0)
        clients = federation.num_clients
        return Source(federation.pool, rows[order], clients, sizes, owner[order], split[order], federation)
    if not isinstance(source, Pool):
        raise TypeError(
            f"source must be a Pool or a Federation, got {type(source).__name__}: build one with fh.pool(x, y)"
        )
    require(clients is not None, "clients must be given for a Pool, got None: say how many share it")
    clients = positive_int("clients", clients, remedy="say how many share the pool")
    return Source(expect_pool("source", source), np.arange(source.num_rows), clients)


def _held(federation: Federation, split: str) -> Held:
    rows = federation.rows(split)
    offset, size = np.asarray(rows.offset[0], np.int64), np.asarray(rows.size[0], np.int64)
    within = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
    return Held(np.asarray(rows.index)[np.repeat(offset, size) + within], size)


def for_pools(**options: Any) -> None:
    """Raise `ValueError` if options are given that say what becomes of a pool, and nothing of a federation."""
    for name, value in options.items():
        require(
            value is None,
            f"{name} must be left out for a Federation, got {value}: its clients keep their sizes; change them "
            "by fh.heterogeneity.quantity",
        )


def sizes_of(source: Source, sizes: Any, *, replacement: bool = False) -> np.ndarray:
    """How many rows each client is to have, int64 [N].

    Args:
        source: what is dealt.
        sizes: N whole numbers, one for all, or None: those of a federation, or equal shares of a pool in sizes
            that differ by at most one.
        replacement: whether they may add up to more than there is.

    Raises:
        TypeError: not whole numbers.
        ValueError: not one a client, negative, nothing at all, more than there is.
    """
    many, clients = len(source.rows), source.clients
    if sizes is None and source.sizes is not None:
        return source.sizes
    if sizes is None:
        require(
            clients <= many,
            f"clients must be <= {many}, got {clients}: there is one row a client at most; pass sizes",
        )
        return np.full(clients, many // clients) + (np.arange(clients) < many % clients)
    remedy = "pass rows of one client, or one size a client"
    if isinstance(sizes, (int, np.integer)) and not isinstance(sizes, bool):
        count = np.full(clients, positive_int("sizes", sizes, remedy=remedy), np.int64)
    elif isinstance(sizes, np.ndarray) and sizes.ndim == 1 and sizes.dtype.kind in "iu":
        require(int(sizes.min(initial=0)) >= 0, f"sizes must be >= 0, got {sizes.min(initial=0)}: {remedy}")
        count = sizes.astype(np.int64)
    else:
        count = np.array(positive_ints("sizes", sizes, least=0, remedy=remedy), np.int64)
    require(
        len(count) == clients,
        f"sizes must list {clients} clients, got {len(count)} sizes: pass one size a client",
    )
    total = int(count.sum())
    require(
        total > 0, f"sizes must add up to at least 1, got 0 for all {clients} clients: give one client rows"
    )
    remedy = "pass replacement=True if rows may be held twice"
    require(
        replacement or total <= many,
        f"sizes must add up to at most {many}, got {total}: there are no more rows; {remedy}",
    )
    return count


def result(
    source: Source,
    held: Held | Drawn | Parts,
    *,
    test: float | None,
    valid: float | None,
    seed: int,
    truth: Mapping[str, Any],
    keep: tuple[str, ...] = (),
) -> Federation:
    """The federation in which clients hold these rows; contexts of an earlier one stay with their clients.

    Args:
        source: what was dealt.
        held: to whom; for a federation the rows of each split.
        test: fraction held out, 0.2 by default; None for a federation.
        valid: the same for validation, 0 by default.
        seed: of the cut.
        truth: what was done.
        keep: what an earlier step said of rows that still holds.

    Raises:
        ValueError: fractions for a federation: its rows stay in the split that they are in, so that nobody is
            tested on what somebody has trained on before.
    """
    before = source.federation
    if before is None:
        assert not isinstance(held, Parts)
        test, valid = 0.2 if test is None else test, 0.0 if valid is None else valid
        return partition(source.pool, held, test=test, valid=valid, seed=seed, truth=truth)
    for name, share in (("test", test), ("valid", valid)):
        require(
            share is None,
            f"{name} must be left out for a Federation, got {share}: its rows stay in the split that they "
            "are in",
        )
    assert isinstance(held, Parts)
    told = {name: value for name, value in before.truth.items() if name not in STALE or name in keep}
    sizes = size_truth(np.sum([part.size for part in held], axis=0))
    return assemble(source.pool, *held, truth={**told, **truth, **sizes}, transforms=before.transforms)
