"""The table of experiments, and how one is run by its name."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from fedjax_het.check import known
from fedjax_het.theory.best_steps import best_steps
from fedjax_het.theory.bias_map import bias_map
from fedjax_het.theory.bounds import bounds
from fedjax_het.theory.contraction import contraction
from fedjax_het.theory.ellipses import ellipses
from fedjax_het.theory.figure1 import li2020
from fedjax_het.theory.finding import Finding
from fedjax_het.theory.floor import floor
from fedjax_het.theory.local_steps import local_steps
from fedjax_het.theory.network import network
from fedjax_het.theory.paths import paths
from fedjax_het.theory.toy import toy

__all__ = ["EXPERIMENTS", "Entry", "experiment"]


@dataclasses.dataclass(frozen=True)
class Entry:
    """An experiment.

    Attributes:
        function: runs it; its keyword arguments are the settings.
        caption: what it shows, in a line.
        small: settings with which it takes seconds.
    """

    function: Callable[..., Finding]
    caption: str
    small: Mapping[str, Any]


EXPERIMENTS: dict[str, Entry] = {
    "toy": Entry(toy, "why the usual toy shows no drift, and unlike curvatures do", {"rounds": 20}),
    "local-steps": Entry(
        local_steps, "error against rounds for several E, with exact floors", {"rounds": 300, "clients": 4}
    ),
    "floor": Entry(floor, "the floor against the rate, and the line (E - 1) eta |b1|", {"points": 5}),
    "bias-map": Entry(
        bias_map, "bias over Hessian and gradient heterogeneity, zero on both axes", {"points": 4}
    ),
    "paths": Entry(
        paths, "where FedAvg and FedProx end in the plane, beside SCAFFOLD and FedDyn", {"points": 5}
    ),
    "contraction": Entry(
        contraction, "contraction against E, where SCAFFOLD diverges, and the best E", {"most": 100}
    ),
    "best-steps": Entry(
        best_steps, "rounds to a target against E, and how the best E moves", {"rounds": 120, "points": 3}
    ),
    "ellipses": Entry(
        ellipses, "stationary covariances on clouds of the engine's runs", {"runs": 400, "rounds": 40}
    ),
    "bounds": Entry(
        bounds, "measured error, exact expectation, E1 and Li's Theorem 1", {"runs": 8, "rounds": 60}
    ),
    "li2020": Entry(
        li2020,
        "figure 1 of Li et al. 2020: rounds against E and K, and the schemes",
        {
            "local_steps": [5, 50],
            "clients_per_round": [5, 10],
            "rounds": 60,
            "scheme_rounds": 15,
            "num_clients": 20,
            "digit_holders": 20,
            "largest": 100,
            "digits_target": 1.4,
            "data": ["synthetic(0,0)", "digits, unbalanced"],
            "schemes": ["scheme I", "scheme II"],
        },
    ),
    "network": Entry(
        network,
        "drift by round, layer and step, and G^2, of a network on digits",
        {"rounds": 8, "steps": 8, "clients": 8, "hidden": 8},
    ),
}
"""By name, in the order of a first reading."""


def experiment(name: str, settings: Mapping[str, Any]) -> Finding:
    """Run an experiment.

    Args:
        name: one of `EXPERIMENTS`.
        settings: of its function, by name.

    Raises:
        ValueError: no such experiment or setting; the nearest one is suggested.
        TypeError, ValueError: a setting of the wrong kind or range.
    """
    known("name", name, EXPERIMENTS)
    function = EXPERIMENTS[name].function
    for key in settings:
        known(f"setting of {name}", key, inspect.signature(function).parameters)
    return function(**settings)
