"""Recurring states: seasons that follow each other and come again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from fedjax_het.check import known, positive_int, require
from fedjax_het.federation import Federation
from fedjax_het.heterogeneity.temporal.changed import changed
from fedjax_het.phases import of_one_phase, phases, season
from fedjax_het.split import generator
from fedjax_het.transforms import recorded

__all__ = ["OFFSETS", "begins", "recurring"]

OFFSETS = ("same", "random")
"""same: all clients begin with the first; random: each begins with one of its own, uniformly drawn."""


def begins(offset: str, choices: int, clients: int, seed: int, name: str) -> np.ndarray:
    """Where each client begins, int64 [N] in 0..choices - 1.

    Args:
        offset: one of `OFFSETS`.
        choices: how many there are.
        clients: N.
        seed: of the draws.
        name: what the draws are for.

    Raises:
        TypeError: a seed that is no whole number.
        ValueError: an unknown offset, a negative seed.
    """
    known("offset", offset, OFFSETS)
    drawn = generator(seed, name).integers(0, choices, clients)
    return drawn if offset == "random" else np.zeros(clients, np.int64)


def recurring(
    federation: Federation,
    *,
    changes: Sequence[Callable[[Federation], Federation]],
    length: int,
    offset: str = "same",
    seed: int = 0,
) -> Federation:
    """Clients go through states in turn, `length` rounds each, for ever.

    State 0 is the federation, state i is changes[i - 1](federation). In round r client k is in state
    (floor(r / length) + b_k) mod T, with T = len(changes) + 1.

    Args:
        federation: of one phase.
        changes: functions Federation -> Federation over the same clients and the same pool, each applied to
            `federation` itself. Those that draw the same numbers from the same seed agree in them.
        length: rounds of a season.
        offset: "same" for b_k = 0, "random" for b_k uniform in {0, ..., T - 1}.
        seed: of the b_k; `changes` have seeds of their own.

    Returns:
        The federation of T phases; truth: "begins", the b_k as int [N], and what state i records under
        "state i/name".

    Raises:
        TypeError: not a federation, a change that is no function or returns something else.
        ValueError: a federation that has phases, no changes, a change that returns other clients or another
            pool, an unknown offset.

    Reference: Gama, Zliobaite, Bifet, Pechenizkiy, Bouchachia, "A survey on concept drift adaptation", ACM
        Computing Surveys 46(4), 2014, section 2.2, figure 2 (reoccurring concepts). Seasons in federated
        learning: Eichner, Koren, McMahan, Srebro, Talwar, "Semi-cyclic stochastic gradient descent", ICML 2019.
    """
    first = of_one_phase("federation", federation)
    if not isinstance(changes, Sequence):
        raise TypeError(
            f"changes must be a list of functions of a federation, got {type(changes).__name__}: pass one for "
            "each season but the first"
        )
    require(
        len(changes) > 0, "changes must list at least one, got none: pass one for each season but the first"
    )
    length = positive_int("length", length, remedy="it is the rounds of a season, such as 10")
    count = len(changes) + 1
    begin = begins(offset, count, first.num_clients, seed, "recurring")
    states = [first, *(changed(f"changes[{i}]", change, first) for i, change in enumerate(changes))]
    which = (np.arange(count)[:, None] + begin) % count
    turning = phases(states, season(length, count), which=which)
    return dataclasses.replace(turning, truth=recorded(turning.truth, begins=begin))
