"""Probes: algorithms, samplers, weightings and hooks that ask of the engine what later methods will.

None of them is part of the package and none needs a change in `fedjax_het.engine`. `PROBES` lists them by name
in a form that a suite can run without knowing any of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

import fedjax_het as fh
from probes import batchnorm, phases_and_rotation
from probes.capped_weights import capped
from probes.clipping_hook import clipped
from probes.stragglers import idle

__all__ = ["PROBES", "Case"]


@dataclasses.dataclass(frozen=True)
class Case:
    """One probe, ready to run. Every field that makes something is a function, called anew under the precision
    in force, so that the table holds no arrays; None means the caller's default.

    Attributes:
        build: (problem, solver) -> algorithm.
        federation: () -> Federation, of classification unless `problem` is given too.
        problem: federation -> Problem; the caller's default must be of classification.
        sampler: cohort size -> sampler; the size is the number of slots unless the sampler says otherwise.
        weighting: number of clients -> weighting that replaces the algorithm's own.
        hook: () -> upload hook.
        full_participation: the method is defined only when every client takes part in every round; `sampler`
            is None then, and cohorts smaller than N, absent slots and "drop" do not apply.
        capacity_in_state: client states have an axis of the federation's capacity, so states of a federation
            padded to another capacity are compared on the rows that exist.
        absent_slots: the sampler leaves slots empty, and may leave all of them empty.
        joins: whether `join` serves unseen clients; if not it raises ValueError with the reason.
        learns: whether some rounds at sensible rates lower the training loss.
        notes: what the probe asks of the contract.
    """

    build: Callable[[Any, Any], Any]
    federation: Callable[[], Any] | None = None
    problem: Callable[[Any], Any] | None = None
    sampler: Callable[[int], Any] | None = None
    weighting: Callable[[int], Any] | None = None
    hook: Callable[[], Any] | None = None
    full_participation: bool = False
    capacity_in_state: bool = False
    absent_slots: bool = False
    joins: bool = True
    learns: bool = True
    notes: str = ""


def _fedavg(problem: Any, solver: Any) -> Any:
    return fh.algorithms.fedavg(problem, solver)


def _fedprox(problem: Any, solver: Any) -> Any:
    return fh.algorithms.fedprox(problem, solver, mu=0.5)


def _scaffold(problem: Any, solver: Any) -> Any:
    return fh.algorithms.scaffold(problem, solver)


PROBES: dict[str, Case] = {
    "batchnorm_averaged": Case(
        _fedavg,
        problem=batchnorm.averaged,
        notes="buffers that travel like parameters",
    ),
    "stragglers_keep": Case(
        _fedprox,
        sampler=lambda size: fh.sampling.stragglers(fh.sampling.uniform(size), 0.3, epochs=4),
        notes="partial work is kept",
    ),
    "stragglers_idle": Case(
        _scaffold,
        sampler=lambda size: idle(fh.sampling.uniform(size), 0.3),
        notes="work 0: present, without a step",
    ),
    "stragglers_drop": Case(
        _scaffold,
        sampler=lambda size: fh.sampling.stragglers(
            fh.sampling.dropout(fh.sampling.uniform(size), 0.2), 0.3, epochs=4, policy="drop"
        ),
        absent_slots=True,
        notes="late clients become absent slots",
    ),
    "capped_weights": Case(
        _fedavg, weighting=lambda clients: capped(0.4), notes="a weight that depends on the whole cohort"
    ),
    "given_weights": Case(
        _fedavg,
        weighting=lambda clients: fh.weighting.given(np.arange(1, clients + 1)),
        notes="weights as a leaf [N] that gradients reach",
    ),
    "phases_and_rotation": Case(
        _fedavg,
        federation=phases_and_rotation.federation,
        notes="rows and features that change with the round",
    ),
    "clipping_hook": Case(
        _fedavg, hook=lambda: clipped(0.1, noise=1e-3), notes="clipping and keyed noise before the sum"
    ),
    "power_of_choice": Case(
        _fedavg,
        sampler=lambda size: fh.sampling.power_of_choice(size, candidates=size + 1),
        notes="a sampler that reads losses",
    ),
    "bernoulli": Case(
        _scaffold,
        sampler=lambda size: fh.sampling.bernoulli(0.4, slots=size),
        absent_slots=True,
        notes="a sampler with a state; absent slots, and empty rounds",
    ),
    "drawn_twice": Case(
        _fedavg,
        sampler=lambda size: fh.sampling.given(size, np.arange(12) / 66),
        weighting=lambda clients: fh.weighting.per_draw(draws=5),
        absent_slots=True,
        notes="draws with replacement as multiplicities, five of them",
    ),
}
