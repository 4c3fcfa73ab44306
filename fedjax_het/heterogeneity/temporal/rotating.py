"""Rotating classes: clients train on some of their classes at a time."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np

from fedjax_het.check import positive_int, require
from fedjax_het.federation import SPLITS, Federation, Rows
from fedjax_het.heterogeneity.counts import held_rows
from fedjax_het.heterogeneity.temporal.recurring import begins
from fedjax_het.phases import of_one_phase, over_time, season
from fedjax_het.transforms import recorded

__all__ = ["rotating_classes"]


def rotating_classes(
    federation: Federation,
    *,
    window: int,
    length: int,
    step: int = 1,
    offset: str = "same",
    seed: int = 0,
) -> Federation:
    """In each phase a client holds only those of its rows whose class lies in a window, which moves on.

    In phase t client k holds its rows of the classes

        (b_k + t step + j) mod K,   j = 0, ..., window - 1,

    for training, validation and testing alike. After T = K / gcd(K, step) phases the windows come again. A
    client without rows of these classes sits the phase out. Classes are the pool's labels, in their order and
    before any transform; those that `num_classes` counts and nobody holds have their turn too.

    Args:
        federation: of one phase, one label a row.
        window: classes at a time, 1..K.
        length: rounds of a phase.
        step: classes by which the window moves; steps that share a divisor with K skip windows, and if they
            are larger than the window, classes too.
        offset: "same" for b_k = 0, "random" for b_k uniform in {0, ..., K - 1}.
        seed: of the b_k.

    Returns:
        The federation of T phases; truth: "begins", the b_k as int [N]. Rows are stored once, and those of the
        first window - 1 classes once more.

    Raises:
        TypeError: not a federation, counts that are not whole numbers.
        ValueError: a federation that has phases or rows without one label each, a window that is larger than K,
            an unknown offset.
    """
    held = of_one_phase("federation", federation)
    labels, classes = held.pool.labels, held.spec.pool.num_classes or 0
    window = positive_int("window", window, remedy="it is how many classes a client holds at a time")
    require(window <= classes, f"window must be <= {classes}, got {window}: the pool has no more classes")
    length = positive_int("length", length, remedy="it is the rounds of a phase, such as 10")
    step = positive_int("step", step, remedy="it is by how many classes the window moves")
    begin = begins(offset, classes, held.num_clients, seed, "rotating_classes")
    count = classes // math.gcd(classes, step)
    first = (begin + step * np.arange(count)[:, None]) % classes
    rows = {split: _windows(*held_rows(held, split=split), labels, classes, window, first) for split in SPLITS}
    truth = recorded(held.truth, begins=begin)
    return over_time(held, season(length, count), count, rows=rows, truth=truth)


def _windows(
    owner: np.ndarray, row: np.ndarray, labels: np.ndarray, classes: int, window: int, first: np.ndarray
) -> Rows:
    """Each client's rows by class, the first classes repeated at the end so that every window is one piece.

    Args:
        owner: who holds each row, int [R].
        row: row numbers, int [R].
        labels: of the pool, int [M].
        classes: K.
        window: classes of a window.
        first: the first class of each window, int [T, N].
    """
    clients = np.arange(first.shape[1])
    label = labels[row]
    again = label < window - 1
    owner, row, place = (
        np.concatenate([all_, some[again]])
        for all_, some in ((owner, owner), (row, row), (label, label + classes))
    )
    places = classes + window - 1
    count = np.bincount(owner * places + place, minlength=len(clients) * places).reshape(-1, places)
    edge = np.concatenate([np.zeros(1, np.int64), np.cumsum(count)])
    begin = edge[clients * places + first]
    size = edge[clients * places + first + window] - begin
    index = row[np.lexsort((place, owner))] if len(row) else np.zeros(1, np.int32)
    return Rows(jnp.asarray(index, jnp.int32), jnp.asarray(begin, jnp.int32), jnp.asarray(size, jnp.int32))
