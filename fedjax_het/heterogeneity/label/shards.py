"""Shards: the rows sorted by label and cut into pieces, a few for each client."""

from __future__ import annotations

import numpy as np

from fedjax_het.check import positive_int, require
from fedjax_het.federation import Federation
from fedjax_het.heterogeneity.deal import split_sizes
from fedjax_het.heterogeneity.source import GROUPS, result, sizes_of, source_of
from fedjax_het.heterogeneity.strata import appearance, named
from fedjax_het.pool import Pool
from fedjax_het.split import Held, Parts, generator

__all__ = ["shards"]


def shards(
    source: Pool | Federation,
    *,
    clients: int | None = None,
    per_client: int = 2,
    seed: int = 0,
    test: float | None = None,
    valid: float | None = None,
) -> Federation:
    """Sort the rows by label, cut them into N s shards, and give every client s of them at random.

    Every row goes to exactly one client. A shard that lies across a border of two classes holds both, so a
    client holds about s classes. Within a class rows are in random order.

    Args:
        source: M labelled rows; or a federation, whose rows are dealt anew to the same clients in the same
            sizes (a client's shards then are the s-th part of its size each).
        clients: N, for a pool.
        per_client: s, shards of a client.
        seed: of the shards' order, of the rows' within a class, and of the cut.
        test: fraction of each client's rows held out for testing, stratified by label; 0.2 by default. Left
            out for a federation, whose rows stay in the split that they are in.
        valid: the same for validation; 0 by default.

    Returns:
        The federation; truth: "held", the labels that each client holds before its cut, float32
        [N, K].

    Raises:
        TypeError: a source of another kind, counts that are not whole numbers.
        ValueError: more shards than rows, rows without a label each, a fraction out of range.

    Reference: McMahan, Moore, Ramage, Hampson, Aguera y Arcas, "Communication-efficient learning of deep
        networks from decentralized data", AISTATS 2017, section 3 (N = 100, s = 2, 600 rows a client).
    """
    given = source_of(source, clients)
    pieces = positive_int("per_client", per_client, remedy="it is how many shards a client gets, such as 2")
    rows, labels = len(given.rows), given.labels
    require(
        given.clients <= rows,
        f"clients must be <= {rows}, got {given.clients}: there is one row a client at most",
    )
    require(
        given.clients * pieces <= rows,
        f"per_client must be <= {rows // given.clients}, got {pieces}: {given.clients} clients share "
        f"{rows} rows",
    )
    size = sizes_of(given, None)
    label, found = appearance(labels)
    rng = generator(seed, "shards")
    order, draw = rng.permutation(given.clients * pieces), rng.random(rows)

    def lined(chosen: np.ndarray, size: np.ndarray) -> tuple[Held, np.ndarray]:
        """The rows `chosen` in a line, cut into the clients' shards; and how many of each class these are."""
        line = chosen[np.lexsort((draw[chosen], label[chosen]))]
        length = size[:, None] // pieces + (np.arange(pieces) < (size % pieces)[:, None])
        owner = np.repeat(order // pieces, length.ravel()[order])
        count = np.bincount(owner * len(found) + label[line], minlength=given.clients * len(found))
        own = given.rows[line]
        return Held(own[np.lexsort((own, owner))], size), count.reshape(given.clients, len(found))

    if given.split is None:
        held, count = lined(np.arange(rows), size)
    else:  # a line for each split, along which the clients stand in the same order
        by_split = enumerate(split_sizes(given, size, rng))
        parts = [lined(np.flatnonzero(given.split == which), own) for which, own in by_split]
        held, count = Parts(*(part for part, _ in parts)), np.sum([number for _, number in parts], axis=0)
    share = (count / np.maximum(size, 1)[:, None]).astype(np.float32)
    truth = {"held": named(share, found, given.pool.spec.num_classes or 0)}
    return result(
        given,
        held,
        test=test,
        valid=valid,
        seed=seed,
        truth=truth,
        keep=GROUPS,
    )
