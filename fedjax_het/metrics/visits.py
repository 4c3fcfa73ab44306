"""Visits: in which phase a run was when, as stretches of rounds."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.check import positive_int, require, short

__all__ = ["Visits", "visits"]


@dataclasses.dataclass(frozen=True, eq=False)
class Visits:
    """Stretches of rounds in one phase, in order of time.

    Attributes:
        phase: p(v), int [V].
        begin: the first round of each, int [V].
        end: one past the last round that was trained, int [V].
    """

    phase: np.ndarray
    begin: np.ndarray
    end: np.ndarray

    @property
    def phases(self) -> int:
        """T, one past the largest phase that was visited."""
        return int(self.phase.max()) + 1


def visits(schedule: Any, rounds: int, *, phases: int | None = None) -> Visits:
    """The visits of the first `rounds` rounds.

    Args:
        schedule: round (int32 scalar) -> phase, such as `federation.phase`; or the phase of each round, int
            [rounds] or more.
        rounds: how many were trained.
        phases: T of the federation: phases past the last repeat it.

    Raises:
        TypeError: no function of a round and no whole numbers.
        ValueError: fewer than one round, a phase below 0, or fewer phases listed than there are rounds.
    """
    rounds = positive_int("rounds", rounds, remedy="it is how many were trained")
    if callable(schedule):
        phase = np.asarray(jax.vmap(schedule)(jnp.arange(rounds, dtype=jnp.int32)))
    else:
        phase = np.asarray(schedule)
    if phase.dtype.kind not in "iu":
        raise TypeError(f"schedule must give whole numbers, got {short(schedule)}: pass federation.phase")
    require(
        phase.ndim == 1 and len(phase) >= rounds,
        f"schedule must give the phase of {rounds} rounds, got shape {phase.shape}: one a round",
    )
    phase = phase[:rounds].astype(np.int64)
    require(bool((phase >= 0).all()), f"schedule must give phases >= 0, got {phase.min()}: number them from 0")
    if phases is not None:
        phase = np.minimum(phase, positive_int("phases", phases, remedy="it is how many there are") - 1)
    begin = np.concatenate([[0], np.flatnonzero(np.diff(phase)) + 1])
    return Visits(phase[begin], begin, np.append(begin[1:], rounds))
