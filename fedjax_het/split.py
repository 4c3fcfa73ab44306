"""Train, validation and test rows: a stratified, seeded cut of each client's own rows.

The rule, for a client of n rows:

1. Sizes. n is divided by the three fractions and rounded by largest remainders; on a tie train goes before
   test, test before valid. A client that holds rows keeps at least one to train on, taken from the larger of
   its other two parts (valid on a tie); hence nothing of a client of one row is held out.
2. Labels. Every label gives its share of the test rows, rounded by largest remainders so that the client's
   total is exact; the validation rows are taken from what is left in the same way. Ties are broken at
   random, by draws that belong to the label's rows: renaming the labels changes nothing. Without labels all
   rows count as one label.
3. Rows. Within a label the rows are shuffled and dealt to test, valid and train in this order. Each part
   then lists its rows in the order in which the client held them.

A row's place in the shuffle is hashed from (seed, client, how many rows the client holds before it), so a
client's cut does not depend on who else is there.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fedjax_het.buffers import room
from fedjax_het.check import positive_int, require, short

__all__ = ["Drawn", "Held", "Parts", "chunks", "every_client", "fraction", "generator", "hashed"]

CHUNK = 1 << 16
"""Rows that are cut at a time: what is needed meanwhile is a few megabytes."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Held(NamedTuple):
    """Which rows each client holds, one client after the other.

    Attributes:
        index: row numbers, int32 [R].
        size: rows of each client, int64 [N].
    """

    index: np.ndarray
    size: np.ndarray

    def parts(self) -> list[np.ndarray]:
        """One array of row numbers a client."""
        ends = np.cumsum(self.size)
        return [self.index[start:end] for start, end in zip((ends - self.size).tolist(), ends.tolist())]

    @classmethod
    def of(cls, parts: Sequence[Any]) -> Held:
        """From N arrays of row numbers."""
        size = np.fromiter(map(len, parts), np.int64, len(parts))
        filled = [part for part in parts if len(part)]
        return cls(np.concatenate(filled) if filled else np.zeros(0, np.int32), size)


class Parts(NamedTuple):
    """What each client holds of each split.

    Attributes:
        train: rows to train on.
        valid: rows to validate on.
        test: rows to test on.
    """

    train: Held
    valid: Held
    test: Held


class Drawn(NamedTuple):
    """The same, of clients whose rows are drawn when they are asked for, some clients at a time.

    Attributes:
        size: rows of each client, int64 [N].
        draw: clients, a slice -> their row numbers, one client after the other, int32; called once for each
            of the slices that `split` makes, in order.
    """

    size: np.ndarray
    draw: Callable[[slice], np.ndarray]


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


def hashed(word: Any, number: np.ndarray) -> np.ndarray:
    """Random 64-bit words that belong to `number` under `word` (uint64, broadcast), of the shape of `number`.

    Reference: the output function of SplitMix64, Steele, Lea, Flood, OOPSLA 2014.
    """
    z = word + (number.astype(np.uint64) + np.uint64(1)) * _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def every_client(
    labels: np.ndarray | None,
    held: Held | Drawn,
    *,
    test: float | np.ndarray,
    valid: float | np.ndarray,
    seed: int,
) -> Parts:
    """Cut every client's rows; the rule stands at the top of this module.

    Args:
        labels: labels of the whole pool, int [M], or None for plain shuffles.
        held: what each client has.
        test: fraction of each client's rows to hold out for testing, a number or float [N].
        valid: fraction for validation, a number or float [N].
        seed: whole number >= 0.

    Returns:
        (train, valid, test).

    Raises:
        TypeError: a fraction that is no number, a seed that is not whole.
        ValueError: a fraction out of range, a negative seed.
    """
    clients = len(held.size)
    valid_share, test_share = fraction("valid", valid, clients), fraction("test", test, clients)
    require(
        bool(np.all(valid_share + test_share < 1)),
        f"valid + test must be < 1, got {short(valid)} + {short(test)}: leave rows to train on",
    )
    word = generator(seed, "split").integers(0, 2**64, dtype=np.uint64)
    num_valid, num_test = _sizes(held.size, valid_share, test_share)
    sizes = held.size - num_valid - num_test, num_valid, num_test
    whole = not (num_valid.any() or num_test.any())
    if whole and isinstance(held, Held):
        none = Held(np.zeros(0, np.int32), np.zeros(clients, np.int64))
        return Parts(held, none, none)
    out = [room(int(size.sum()), np.int32) for size in sizes]
    filled = [0, 0, 0]
    for client, rows in chunks(held.size):
        index = held.index[rows] if isinstance(held, Held) else held.draw(client)
        if whole:
            out[0][rows] = index
            continue
        own = None if labels is None else labels[index]
        part = _deal(own, held.size[client], num_valid[client], num_test[client], client.start, word)
        for which in range(3):
            chosen = index[part == which]
            out[which][filled[which] : filled[which] + len(chosen)] = chosen
            filled[which] += len(chosen)
    for index in out:
        index.flags.writeable = False
    return Parts(*(Held(index, size) for index, size in zip(out, sizes)))


def chunks(size: np.ndarray) -> Iterator[tuple[slice, slice]]:
    """(clients, rows) of at most `CHUNK` rows at a time, or of one larger client."""
    ends = np.cumsum(size)
    first, done = 0, 0
    while first < len(size):
        last = max(first + 1, int(np.searchsorted(ends, done + CHUNK, side="right")))
        yield slice(first, last), slice(done, int(ends[last - 1]))
        first, done = last, int(ends[last - 1])


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


def _sizes(size: np.ndarray, valid: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many rows of each client [N] go to valid and to test, int32."""
    out = np.zeros((2, len(size)), np.int32)
    for start in range(0, len(size), CHUNK):
        some = slice(start, start + CHUNK)
        own = size[some]
        exact = own[:, None] * np.stack([1 - valid[some] - test[some], test[some], valid[some]], axis=1)
        counts = np.floor(exact).astype(np.int64)
        remainder = np.round(exact - counts, 9)
        rank = np.argsort(np.argsort(-remainder, axis=1, kind="stable"), axis=1)
        counts += rank < (own - counts.sum(1))[:, None]
        train, held_test, held_valid = counts.T
        short_of = (train == 0) & (own > 0)
        from_valid = short_of & (held_valid >= held_test)
        out[0, some] = held_valid - from_valid
        out[1, some] = held_test - (short_of & ~from_valid)
    return out[0], out[1]


def _deal(
    labels: np.ndarray | None,
    size: np.ndarray,
    num_valid: np.ndarray,
    num_test: np.ndarray,
    first: int,
    word: np.uint64,
) -> np.ndarray:
    """0 (train), 1 (valid) or 2 (test) for each row of some clients that lie one after the other, int8 [R].

    Args:
        labels: of these rows, or None.
        size: rows of each of the clients.
        num_valid: of them for validation.
        num_test: of them for testing.
        first: number of the first of the clients.
        word: what the shuffle comes from.
    """
    client = np.repeat(np.arange(len(size)), size)
    place = np.arange(len(client)) - np.repeat(np.cumsum(size) - size, size)
    draw = hashed(hashed(word, np.arange(first, first + len(size)))[client], place)
    classes = 1 if labels is None else int(labels.max(initial=0)) + 1
    code = client if labels is None else client * classes + labels
    order = _sorted(code, draw, len(size) * classes)
    code, draw = code[order], draw[order]
    begins = np.flatnonzero(np.concatenate([[True], code[1:] != code[:-1]]) if len(code) else [])
    count = np.diff(np.append(begins, len(code)))
    owner = code[begins] // classes
    # Hashed again, since the least of a label's draws is the smaller the more rows it has: ties would go to the
    # frequent labels.
    tie = hashed(word, draw[begins])
    for_test = _quotas(count, owner, num_test, size, tie)
    for_valid = _quotas(count - for_test, owner, num_valid, size - num_test, hashed(word, tie))
    place = np.arange(len(code)) - np.repeat(begins, count)
    part = np.zeros(len(code), np.int8)
    dealt = (place < np.repeat(for_test + for_valid, count)).astype(np.int8)
    part[order] = dealt + (place < np.repeat(for_test, count))
    return part


def _sorted(code: np.ndarray, draw: np.ndarray, codes: int) -> np.ndarray:
    """The order by code, then by draw."""
    bits = max(1, (codes - 1).bit_length())
    if bits > 24:  # too few bits would be left of the draw to tell a client's rows apart
        return np.lexsort((draw, code))
    return np.argsort((code.astype(np.uint64) << np.uint64(64 - bits)) | (draw >> np.uint64(bits)))


def _quotas(
    count: np.ndarray, owner: np.ndarray, total: np.ndarray, size: np.ndarray, tie: np.ndarray
) -> np.ndarray:
    """Largest-remainder shares of total[k] over the groups of client k, whose counts add up to size[k]."""
    if not total.any():
        return np.zeros_like(count)
    share, remainder = np.divmod(count * total[owner], np.maximum(size, 1)[owner])
    missing = total - np.bincount(owner, share, len(total)).astype(np.int64)
    order = np.lexsort((tie, -remainder, owner))
    groups = np.bincount(owner, minlength=len(total))
    rank = np.arange(len(owner)) - np.repeat(np.cumsum(groups) - groups, groups)
    share[order] += rank < missing[owner[order]]
    return share
