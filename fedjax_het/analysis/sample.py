"""A sample of clients and of their rows, as the clients see them, on the host."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.check import known, positive_int, require
from fedjax_het.federation import SPLITS, Federation
from fedjax_het.split import generator
from fedjax_het.transforms import expect_federation
from fedjax_het.typing import Array

__all__ = ["Sample", "sample"]


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """Rows of m clients, one client after the other.

    Attributes:
        client: who, ascending, int [m].
        rows: how many rows of each, int [m].
        x: features, flattened, float64 [n, d]; of token tasks how often each token occurs in the row.
        y: targets, [n, ...].
        owner: which of the m clients a row belongs to, int [n].
        labels: the label of each row, int [n]; None where rows have no label each.
    """

    client: np.ndarray
    rows: np.ndarray
    x: np.ndarray
    y: np.ndarray
    owner: np.ndarray
    labels: np.ndarray | None


def sample(
    federation: Federation, *, split: str, phase: int, clients: int, rows: int, least: int, seed: int
) -> Sample:
    """Random clients among those with enough rows, and random rows of each, after all transforms.

    Which rows of a client are drawn depends on (seed, client) alone.

    Args:
        federation: any.
        split: "train", "valid" or "test".
        phase: of a federation that changes over time.
        clients: how many at most, >= 2.
        rows: how many of each at most, >= `least`.
        least: clients with fewer rows are left out.
        seed: of both draws.

    Raises:
        TypeError: `federation` is not a Federation, counts that are not whole numbers.
        ValueError: no such split or phase, counts that are too small, fewer than two clients with enough rows,
            rows that are not finite.
    """
    expect_federation("federation", federation)
    known("split", split, SPLITS)
    phases = federation.spec.phases
    phase = positive_int("phase", phase, least=0, remedy="the first is 0")
    require(phase < phases, f"phase must be < {phases}, got {phase}: the federation has no later one")
    clients = positive_int("clients", clients, least=2, remedy="one client has nobody to differ from")
    rows = positive_int("rows", rows, least=least, remedy="fewer rows of a client say nothing")
    held = federation.rows(split)
    size = np.asarray(held.size[min(phase, held.size.shape[0] - 1)], np.int64)
    able = np.flatnonzero(size >= least)
    require(
        len(able) >= 2,
        f"federation must have two clients with {least} rows of {split!r} or more, got {len(able)} of "
        f"{len(size)} {_named(able)}: the largest hold {np.sort(size)[::-1][:3].tolist()}; take another split, "
        "or fewer and larger clients",
    )
    picked = generator(seed, "clients of an analysis").permutation(able)[:clients]
    ids = np.sort(picked)
    count = np.minimum(size[ids], rows)
    position = np.zeros((len(ids), int(count.max())), np.int32)
    for place, (client, many) in enumerate(zip(ids.tolist(), count.tolist())):
        draw = generator(seed, "rows of an analysis", client)
        position[place, :many] = np.sort(draw.choice(size[client], many, replace=False))
    x, y = _taken(
        federation, jnp.asarray(phase, jnp.int32), jnp.asarray(ids, jnp.int32), jnp.asarray(position), split
    )
    filled = np.arange(position.shape[1]) < count[:, None]
    x, y = np.asarray(x)[filled], np.asarray(y)[filled]
    owner = np.repeat(np.arange(len(ids)), count)
    spec = federation.spec.pool
    features = _bag(x, spec.num_classes or 0) if spec.task == "tokens" else x.reshape(len(x), -1)
    features = features.astype(np.float64)
    wrong = ~(np.isfinite(features).all(1) & np.isfinite(y.reshape(len(y), -1)).all(1))
    require(
        not wrong.any(),
        f"federation must show its clients finite rows, got NaN or infinity for client "
        f"{ids[owner[np.argmax(wrong)]]}: look at its transforms",
    )
    labels = y.astype(np.int64) if spec.num_classes is not None and spec.target_shape == () else None
    return Sample(ids, count, features, y, owner, labels)


def _named(clients: np.ndarray) -> str:
    return f"(client {clients[0]})" if len(clients) else "clients"


@functools.partial(jax.jit, static_argnames="split")
def _taken(
    federation: Federation, phase: Array, ids: Array, position: Array, split: str
) -> tuple[Array, Array]:
    """(x [m, n, ...], y [m, n, ...]) at these positions of each client's rows."""

    def one(given: tuple[Any, Array]) -> tuple[Array, Array]:
        located, place = given
        batch = federation.data(split, located).take(place)
        return batch.x, batch.y

    return jax.lax.map(one, (federation.locate(split, phase, ids), position))


def _bag(x: np.ndarray, classes: int) -> np.ndarray:
    """How often each token occurs in each row, int [n, K]."""
    tokens = x.reshape(len(x), -1).astype(np.int64)
    kinds = max(classes, int(tokens.max(initial=0)) + 1)
    flat = np.arange(len(x))[:, None] * kinds + tokens
    return np.bincount(flat.ravel(), minlength=len(x) * kinds).reshape(len(x), kinds)
