"""Early stopping: work in epochs, of which the best is kept, until some in a row have not helped."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedjax_het import tree
from fedjax_het.typing import Array, PyTree

__all__ = ["best_epoch"]


class _Race(NamedTuple):
    """Between two epochs: how many are done, where the work is, the best so far, and how long it has stood."""

    epoch: Array
    now: PyTree
    best: PyTree
    least: Array
    waited: Array


def best_epoch(
    work: Callable[[PyTree, Array], PyTree],
    score: Callable[[PyTree], Array],
    start: PyTree,
    *,
    epochs: Array,
    patience: Array,
    min_delta: Array,
    scored: Array,
) -> PyTree:
    """The carry with the lowest score, of `start` and of what each epoch made of it; NaN is no improvement.

    Under `vmap` a client that is done waits for the others, unchanged.

    Args:
        work: (carry, number of the epoch from 0, int32) -> carry.
        score: carry -> scalar; below the best one minus `min_delta` it is an improvement.
        start: the first carry, and the first candidate.
        epochs: the most that are done, int32 scalar.
        patience: so many without an improvement in a row are the last, int32 scalar.
        min_delta: scalar.
        scored: bool scalar; False does all epochs and takes the last one.
    """

    def going(race: _Race) -> Array:
        return (race.epoch < epochs) & (~scored | (race.waited < patience))

    def epoch(race: _Race) -> _Race:
        now = work(race.now, race.epoch)
        value = score(now)
        better = ~scored | (value < race.least - min_delta)
        best, least = tree.where(better, (now, value), (race.best, race.least))
        waited = jnp.where(better, 0, race.waited + 1).astype(jnp.int32)
        return _Race(race.epoch + 1, now, best, least, waited)

    zero = jnp.zeros((), jnp.int32)
    return jax.lax.while_loop(going, epoch, _Race(zero, start, start, score(start), zero)).best
