"""Shards: the rows sorted by label and cut into pieces, a few for each client."""

from __future__ import annotations

import numpy as np

from fedjax_het.check import positive_int, require
from fedjax_het.federation import Federation
from fedjax_het.heterogeneity.source import GROUPS, SIZES, result, sizes_of, source_of
from fedjax_het.heterogeneity.strata import appearance, named
from fedjax_het.pool import Pool
from fedjax_het.split import Held, generator

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
        test: fraction of each client's rows held out for testing, stratified by label; by default 0.2, or as
            it was in a federation.
        valid: fraction for validation; by default 0, or as it was.

    Returns:
        The federation; truth: "proportions", the labels that each client holds before its cut, float32
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
        given.clients * pieces <= rows,
        f"per_client must be <= {rows // given.clients}, got {pieces}: {given.clients} clients share "
        f"{rows} rows",
    )
    size = sizes_of(given, None)
    label, found = appearance(labels)
    rng = generator(seed, "shards")
    length = size[:, None] // pieces + (np.arange(pieces) < (size % pieces)[:, None])
    order = rng.permutation(given.clients * pieces)
    line = np.lexsort((rng.random(rows), label))
    owner = np.repeat(order // pieces, length.ravel()[order])
    count = np.bincount(owner * len(found) + label[line], minlength=given.clients * len(found))
    count = count.reshape(given.clients, len(found))
    chosen = given.rows[line]
    held = Held(chosen[np.lexsort((chosen, owner))], size)
    share = (count / np.maximum(size, 1)[:, None]).astype(np.float32)
    truth = {"proportions": named(share, found, given.pool.spec.num_classes or 0)}
    return result(
        given,
        held,
        test=test,
        valid=valid,
        seed=seed,
        truth=truth,
        keep=SIZES + GROUPS,
    )
