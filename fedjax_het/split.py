"""Train, validation and test rows: a stratified, seeded cut of each client's own rows.

The rule, for a client of n rows:

1. Sizes. n is divided by the three fractions and rounded by largest remainders; on a tie train goes before
   test, test before valid. A client that holds rows keeps at least one to train on, taken from the larger of
   its other two parts (valid on a tie); hence nothing of a client of one row is held out.
2. Labels. Every label gives its share of the test rows, rounded by largest remainders so that the client's
   total is exact; the validation rows are taken from what is left in the same way. Ties go to the label that
   comes first in the client's shuffled rows: renaming the labels changes nothing. Without labels all rows
   count as one label.
3. Rows. Within a label the rows are shuffled and dealt to test, valid and train in this order. Each part
   then lists its rows in the order in which the client held them.

A client's shuffle comes from (seed, client) alone, so it does not depend on who else is there.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from fedjax_het.check import positive_int, require, short

__all__ = ["every_client", "fraction", "generator", "stratified"]

Parts = list[np.ndarray]


def generator(seed: int, name: str, *identity: int) -> np.random.Generator:
    """The host's random stream called `name` under `seed`, for one `identity` (a client, say) if given.

    It is `numpy.random.default_rng((seed, crc32(name), *identity))`: streams of other names are independent.

    Args:
        seed: whole number >= 0.
        name: what the draws are for.
        identity: whole numbers >= 0.

    Raises:
        TypeError: the seed is not a whole number.
        ValueError: the seed is negative.
    """
    seed = positive_int("seed", seed, least=0, remedy="numpy's generators take no negative seed")
    return np.random.default_rng((seed, zlib.crc32(name.encode()), *identity))


def stratified(
    labels: np.ndarray | None,
    rows: Any,
    fractions: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut one client's rows; the rule stands at the top of this module.

    Args:
        labels: labels of the whole pool [M], or None for a plain shuffle (regression).
        rows: the client's row numbers, int [n]; n = 0 gives three empty parts.
        fractions: (valid, test), each in [0, 1), their sum below 1; train gets the rest.
        rng: where the shuffle comes from; n uniform numbers are drawn.

    Returns:
        (train, valid, test): row numbers, int64; together each entry of `rows` exactly once.

    Raises:
        ValueError: a fraction out of range.
    """
    valid, test = fractions
    rows = np.asarray(rows, dtype=np.int64)
    own = None if labels is None else np.asarray(labels)[rows]
    part = _deal(own, np.array([len(rows)]), rng.random(len(rows)), *_fractions(valid, test, 1))
    return rows[part == 0], rows[part == 1], rows[part == 2]


def every_client(
    labels: np.ndarray | None,
    parts: Sequence[np.ndarray],
    *,
    test: float | np.ndarray,
    valid: float | np.ndarray,
    seed: int,
) -> tuple[Parts, Parts, Parts]:
    """`stratified` for all clients at once; client k draws from `generator(seed, "split", k)`.

    Args:
        labels: labels of the whole pool [M], or None for plain shuffles.
        parts: N arrays of row numbers, int [n_k].
        test: fraction of each client's rows to hold out for testing, a number or float [N].
        valid: fraction for validation, a number or float [N].
        seed: whole number >= 0.

    Returns:
        (train, valid, test): a list of N arrays of row numbers each.

    Raises:
        ValueError: a fraction out of range, a negative seed.
    """
    valid_share, test_share = _fractions(valid, test, len(parts))
    generator(seed, "split")
    held = [np.asarray(part, dtype=np.int64) for part in parts]
    if not (valid_share.any() or test_share.any()):
        return held, [np.zeros(0, np.int64)] * len(held), [np.zeros(0, np.int64)] * len(held)
    sizes = np.fromiter(map(len, held), np.int64, len(held))
    rows = np.concatenate(held)
    keys = np.concatenate([generator(seed, "split", k).random(n) for k, n in enumerate(sizes.tolist())])
    part = _deal(None if labels is None else labels[rows], sizes, keys, valid_share, test_share)
    client = np.repeat(np.arange(len(held)), sizes)
    train, validation, testing = (
        _slices(rows[part == which], np.bincount(client[part == which], minlength=len(held)))
        for which in range(3)
    )
    return train, validation, testing


def _slices(flat: np.ndarray, sizes: np.ndarray) -> Parts:
    ends = np.cumsum(sizes)
    return [flat[start:end] for start, end in zip((ends - sizes).tolist(), ends.tolist())]


def fraction(name: str, value: Any, clients: int) -> np.ndarray:
    """What share of each client's rows is held out, float [N].

    Args:
        name: "valid" or "test", for the message.
        value: one number, or one a client.
        clients: N.

    Raises:
        TypeError: `value` is not a number or an array of them.
        ValueError: a share outside [0, 1), or not one a client.
    """
    try:
        share = np.asarray(value)
    except ValueError:
        share = np.asarray(None)
    if share.dtype.kind not in "iuf":
        raise TypeError(f"{name} must be a number, got {short(value)}: pass a fraction such as 0.2")
    require(
        share.shape in ((), (clients,)),
        f"{name} must be one number, or one for each of the {clients} clients, got shape {share.shape}: "
        "pass a fraction such as 0.2",
    )
    share = share.astype(np.float64)
    require(
        bool(np.all((share >= 0) & (share < 1))),
        f"{name} must be >= 0 and < 1, got {short(value)}: it is a fraction of each client's rows",
    )
    return np.broadcast_to(share, (clients,))


def _fractions(valid: Any, test: Any, clients: int) -> tuple[np.ndarray, np.ndarray]:
    shares = fraction("valid", valid, clients), fraction("test", test, clients)
    require(
        bool(np.all(shares[0] + shares[1] < 1)),
        f"valid + test must be < 1, got {short(valid)} + {short(test)}: leave rows to train on",
    )
    return shares


def _sizes(size: np.ndarray, valid: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many rows of each client [N] go to valid and to test."""
    exact = size[:, None] * np.stack([1 - valid - test, test, valid], axis=1)
    counts = np.floor(exact).astype(np.int64)
    remainder = np.round(exact - counts, 9)
    rank = np.argsort(np.argsort(-remainder, axis=1, kind="stable"), axis=1)
    counts += rank < (size - counts.sum(1))[:, None]
    train, held_test, held_valid = counts.T
    short = (train == 0) & (size > 0)
    from_valid = short & (held_valid >= held_test)
    return held_valid - from_valid, held_test - (short & ~from_valid)


def _deal(
    labels: np.ndarray | None, size: np.ndarray, keys: np.ndarray, valid: np.ndarray, test: np.ndarray
) -> np.ndarray:
    """0 (train), 1 (valid) or 2 (test) for each row of clients that lie one after the other, int8 [R]."""
    client = np.repeat(np.arange(len(size)), size)
    num_valid, num_test = _sizes(size, valid, test)
    shuffled = np.lexsort((keys, client))
    label = np.zeros(len(client), np.int64) if labels is None else np.unique(labels, return_inverse=True)[1]
    code = (client * (label.max(initial=0) + 1) + label)[shuffled]
    _, first, group, count = np.unique(code, return_index=True, return_inverse=True, return_counts=True)
    appearance = np.argsort(first)
    count, group = count[appearance], np.argsort(appearance)[group]
    owner = client[shuffled][first[appearance]]
    for_test = _quotas(count, owner, num_test, size)
    for_valid = _quotas(count - for_test, owner, num_valid, size - num_test)
    order = np.argsort(group, kind="stable")
    place = np.arange(len(client)) - np.repeat(np.cumsum(count) - count, count)
    part = np.zeros(len(client), np.int8)
    part[shuffled[order]] = np.where(
        place < np.repeat(for_test, count), 2, place < np.repeat(for_test + for_valid, count)
    )
    return part


def _quotas(count: np.ndarray, owner: np.ndarray, total: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Largest-remainder shares of total[k] over the groups of client k, whose counts add up to size[k]."""
    share, remainder = np.divmod(count * total[owner], size[owner])
    missing = total - np.bincount(owner, share, len(total)).astype(np.int64)
    order = np.lexsort((-remainder, owner))
    groups = np.bincount(owner, minlength=len(total))
    rank = np.arange(len(owner)) - np.repeat(np.cumsum(groups) - groups, groups)
    share[order] += rank < missing[owner[order]]
    return share
