"""Federations from what people hold: one data set a client, index lists, groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fedjax_het.assembly import assemble, flatten, partition, size_truth, strata
from fedjax_het.check import require, short
from fedjax_het.federation import SPLITS, Federation
from fedjax_het.pool import Pool, expect_pool, pool
from fedjax_het.pooling import pooled
from fedjax_het.split import Held, every_client, fraction

__all__ = ["assemble", "from_clients", "from_groups", "from_index_lists", "partition", "pooled"]


def from_clients(
    clients: Sequence[Any] | Mapping[Any, Any],
    *,
    test: Any = 0.2,
    valid: Any = 0.0,
    seed: int = 0,
    task: str = "classification",
    num_classes: int | None = None,
    name: str = "clients",
    scale: float | None = None,
) -> Federation:
    """A federation from one data set a client.

    A client is (x, y); or {"x": x, "y": y}; or a dict with any of "train", "valid", "test", each an (x, y). A
    split that a client brings is kept as it is; one that it lacks is cut from its training rows. Client k is
    the k-th of the list, or of the dict in its own order. Empty clients are legal.

    Args:
        clients: a list, or a dict whose keys name the clients in messages.
        test: fraction of the training rows of each client without test rows that are held out for testing,
            stratified by label; a number, or one for each client.
        valid: the same for validation.
        seed: of the cut.
        task: see `pool`, as are the arguments below.
        num_classes: K; the largest label of any client plus one if not given.
        name: for tables and messages.
        scale: factor for integer features.

    Raises:
        TypeError: a client that is none of these, arrays of the wrong type; the message names the client.
        ValueError: no clients, no rows at all, arrays of different lengths, shapes that differ from client to
            client, and see `pool` and `partition`; the message names the client.
    """
    if not isinstance(clients, Iterable) or isinstance(clients, (str, bytes)):
        raise TypeError(
            f"clients must be a list or a dict of data sets, got {type(clients).__name__}: pass one (x, y) a "
            "client"
        )
    named = clients.items() if isinstance(clients, Mapping) else enumerate(clients)
    splits = [(f"client {key!r}", _splits(f"client {key!r}", client)) for key, client in named]
    require(len(splits) > 0, "clients must list at least one client, got none: pass one (x, y) a client")
    shares = {split: fraction(split, share, len(splits)) for split, share in (("valid", valid), ("test", test))}
    blocks = {
        (k, split): _block(f"{who} {split}", pair)
        for k, (who, pairs) in enumerate(splits)
        for split, pair in pairs.items()
    }
    filled = {key: block for key, block in blocks.items() if len(block[0])}
    require(len(filled) > 0, f"clients must hold rows, got {len(splits)} empty clients: pass data for one")
    whose = {key: f"{splits[key[0]][0]} {key[1]}" for key in filled}
    _alike(filled, whose)
    facts = {"task": task, "num_classes": num_classes, "name": name, "scale": scale}
    try:
        source = pool(*(np.concatenate(arrays) for arrays in zip(*filled.values())), **facts)
    except (TypeError, ValueError):
        for key, block in filled.items():
            try:
                pool(*block, **facts)
            except (TypeError, ValueError) as error:
                raise type(error)(f"{whose[key]}: {error}") from None
        raise
    ends = np.cumsum([len(x) for x, _ in filled.values()])
    rows = dict(zip(filled, np.split(np.arange(ends[-1]), ends[:-1])))
    none = np.zeros(0, np.int64)
    given = {split: [rows.get((k, split), none) for k in range(len(splits))] for split in SPLITS}
    cuts = {
        split: np.where([(k, split) in blocks for k in range(len(splits))], 0.0, share)
        for split, share in shares.items()
    }
    train, *held_out = every_client(strata(source), Held.of(given["train"]), seed=seed, **cuts)
    brought = (given["valid"], given["test"])
    held = [train, *(Held.of(list(map(_first_filled, a, b.parts()))) for a, b in zip(brought, held_out))]
    return assemble(source, *held, truth=size_truth(np.sum([part.size for part in held], axis=0)))


def _first_filled(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a if len(a) else b


def _splits(who: str, client: Any) -> dict[str, Any]:
    """The (x, y) of each split that a client brings."""
    if isinstance(client, Mapping):
        if set(client) == {"x", "y"}:
            return {"train": (client["x"], client["y"])}
        unknown = [key for key in client if key not in SPLITS]
        require(
            not unknown,
            f'{who} must have keys "x" and "y", or some of "train", "valid" and "test", got {unknown}: '
            "rename them",
        )
        return dict(client)
    return {"train": client}


def _block(where: str, pair: Any) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise TypeError(f"{where} must be (x, y), got {type(pair).__name__}: pass a tuple of two arrays")
    x, y = np.asarray(pair[0]), np.asarray(pair[1])
    require(
        x.ndim >= 1 and y.ndim >= 1 and len(x) == len(y),
        f"{where} must have one row of x for each row of y, got shapes {x.shape} and {y.shape}: align them",
    )
    return x, y


def _alike(blocks: Mapping[Any, tuple[np.ndarray, np.ndarray]], whose: Mapping[Any, str]) -> None:
    """Refuse blocks that NumPy would join into something else."""
    first = next(iter(blocks))
    for key, block in blocks.items():
        for part, array, model in zip("xy", block, blocks[first]):
            require(
                array.shape[1:] == model.shape[1:],
                f"{whose[key]}: {part} must have rows of shape {model.shape[1:]} as {whose[first]} has, "
                f"got {array.shape[1:]}: give all clients the same features",
            )
        kind = blocks[first][0].dtype
        if block[0].dtype != kind and not block[0].dtype.kind == kind.kind == "f":
            raise TypeError(
                f"{whose[key]}: x must have dtype {kind} as {whose[first]} has, got {block[0].dtype}: cast it"
            )


def from_index_lists(
    x: Any,
    y: Any,
    parts: Sequence[Any],
    *,
    replacement: bool = False,
    test: float = 0.2,
    valid: float = 0.0,
    seed: int = 0,
    **facts: Any,
) -> Federation:
    """A federation from a partition made elsewhere.

    Args:
        x: features [M, ...], or a Pool (then `y` is None and no facts are given).
        y: targets [M, ...].
        parts: N arrays of row numbers; rows that nobody lists are left out.
        replacement: whether a row may be listed twice, by two clients or by one. The copies of one client
            may then land on both sides of its cut.
        test: fraction of each client's rows held out for testing, stratified by label.
        valid: fraction for validation.
        seed: of the cut.
        facts: task, num_classes, name and scale of `pool`.

    Raises:
        ValueError: a row listed twice, and see `pool` and `partition`.
    """
    source = _pool(x, y, facts)
    flat, sizes = flatten("parts", parts, source.num_rows)
    if not replacement:
        times = np.bincount(flat, minlength=source.num_rows)
        if times.max() > 1:
            row = int(np.argmax(times > 1))
            first, second = np.repeat(np.arange(len(sizes)), sizes)[flat == row][:2].tolist()
            where = f"twice by client {first}" if first == second else f"by clients {first} and {second}"
            raise ValueError(
                f"parts must list each row once, got row {row} {where}: "
                "pass replacement=True if rows may be listed twice"
            )
    return partition(source, Held(flat, sizes), test=test, valid=valid, seed=seed)


def from_groups(
    x: Any,
    y: Any,
    group: Any,
    *,
    test: float = 0.2,
    valid: float = 0.0,
    seed: int = 0,
    **facts: Any,
) -> Federation:
    """A federation with one client for each value of a column (writer, hospital, state ...).

    Client k holds the rows of the k-th value in sorted order: `numpy.unique(group)[k]`.

    Args:
        x: features [M, ...], or a Pool (then `y` is None and no facts are given).
        y: targets [M, ...].
        group: M values of one sortable type, an array or a list.
        test: fraction of each client's rows held out for testing, stratified by label.
        valid: fraction for validation.
        seed: of the cut.
        facts: task, num_classes, name and scale of `pool`.

    Raises:
        TypeError: values that cannot be sorted.
        ValueError: not one value a row, a value that is NaN, and see `pool` and `partition`.
    """
    source = _pool(x, y, facts)
    column = np.asarray(group) if hasattr(group, "__array__") else np.fromiter(group, object, len(group))
    require(
        column.shape == (source.num_rows,),
        f"group must have one value for each of the {source.num_rows} rows, got shape {column.shape}: align it",
    )
    missing = column != column
    require(
        not np.any(missing),
        f"group must hold no NaN, got {int(np.sum(missing))}: drop these rows, or give them a value",
    )
    try:
        _, client, sizes = np.unique(column, return_inverse=True, return_counts=True)
    except TypeError as error:
        raise TypeError(f"group must hold values that can be sorted, got {error}: use one type") from None
    held = Held(np.argsort(client, kind="stable"), sizes)
    return partition(source, held, test=test, valid=valid, seed=seed)


def _pool(x: Any, y: Any, facts: dict[str, Any]) -> Pool:
    if isinstance(x, Federation):
        expect_pool("x", x)
    if not isinstance(x, Pool):
        return pool(x, y, **facts)
    require(
        y is None and not facts,
        f"y must be None when x is a Pool, got {short(y)} and {short(facts)}: drop them",
    )
    return x
