"""Local steps: error against rounds, and the floors that constant steps leave."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedjax_het.check import positive_int, scalar
from fedjax_het.models import quadratics
from fedjax_het.plots.theory import Line, Panel, chart
from fedjax_het.theory.finding import Claim, Finding, in_double
from fedjax_het.theory.runs import increasing, measured, predicted

__all__ = ["local_steps"]

SETTLED = 1e-9
"""How far from its floor a run may end, in parameters, to count as there."""


@in_double
def local_steps(
    *,
    steps: Any = (1, 2, 5, 10, 50),
    rounds: int = 400,
    learning_rate: float = 0.2,
    clients: int = 10,
    dimension: int = 5,
    dissimilarity: float = 1.0,
    hessian_dissimilarity: float = 0.3,
    seed: int = 0,
) -> Finding:
    """FedAvg's |w_t - w*|^2 against rounds for several E, on quadratics with L = 1, mu = 0.1, and the floors.

    Args:
        steps: E, increasing.
        rounds: T.
        learning_rate: eta, at most 2 / L = 2.
        clients: N.
        dimension: d.
        dissimilarity: zeta_*.
        hessian_dissimilarity: delta.
        seed: of the quadratics.

    Returns:
        Arrays "measured" and "exact", |w_t - w*|^2 of engine and oracle, [len(steps), T + 1]; "floor",
        |w_inf - w*|^2 [len(steps)]; "rounds" [T + 1].

    Raises:
        TypeError, ValueError: a setting of the wrong kind or range.
    """
    listed, rounds = increasing("steps", steps), positive_int("rounds", rounds, remedy="a run has at least one")
    rate = scalar("learning_rate", learning_rate, above=0, remedy="2 / L = 2 is the limit")
    federation = quadratics(
        clients,
        dimension,
        dissimilarity=dissimilarity,
        hessian_dissimilarity=hessian_dissimilarity,
        distance=3.0,
        seed=seed,
    )
    start = np.zeros(dimension)
    numbers: dict[str, Any] = {"learning_rate": rate, "steps": listed, "rounds": rounds}
    seen, (exact, floor) = measured(federation, start, **numbers), predicted(federation, start, **numbers)
    apart = float(np.abs(seen - exact).max())
    there = np.abs(seen[:, -1] - floor)
    settled = [each for each, left in zip(listed, there) if left < SETTLED]
    early = [int(np.argmin(seen[:, t])) for t in (1, rounds)]
    claims = (
        Claim(f"the engine's path is the oracle's to {apart:.1e} in every round", apart < 1e-9),
        Claim(
            f"runs end on their exact floors to {SETTLED:g}: E = {', '.join(map(str, settled))}",
            len(settled) == len(listed),
        ),
        Claim(
            "the floor |w_inf - w*|^2 rises with E: "
            + ", ".join(f"{value**2:.2g}" for value in floor),
            bool((np.diff(floor) > 0).all()),
        ),
        Claim(
            f"after one round E = {listed[early[0]]} is ahead, after {rounds} rounds E = {listed[early[1]]}",
            early[0] > early[1],
        ),
    )  # fmt: skip
    t = np.arange(rounds + 1)

    def draw() -> Any:
        lines = []
        for place, each in enumerate(listed):
            lines += [
                Line(f"E = {each}", t, exact[place] ** 2, place),
                Line("", t, seen[place] ** 2, place, "points"),
            ]
            if floor[place] ** 2 > 1e-20:
                lines.append(Line("", t[[0, -1]], floor[place] ** 2, place, "dashed"))
        return chart(
            "More local steps: faster at first, then a floor",
            [Panel("", lines, "rounds done", "|w - w*|² (parameter²)", bottom=1e-16, legend="FedAvg")],
            f"{clients} quadratics in {dimension} dimensions, L = 1, mu = 0.1, zeta* = {dissimilarity:g}, "
            f"delta = {hessian_dissimilarity:g}, eta = {rate:g}, full batches. Lines: the exact path; points: "
            "the engine; dashed: the exact floor |w_inf - w*|². E = 1 is gradient descent and has none.",
        )

    settings = {
        "steps": listed, "rounds": rounds, "learning_rate": rate, "clients": clients, "dimension": dimension,
        "dissimilarity": dissimilarity, "hessian_dissimilarity": hessian_dissimilarity, "seed": seed,
    }  # fmt: skip
    arrays = {"rounds": t, "measured": seen**2, "exact": exact**2, "floor": floor**2}
    rows = [(each, floor[i] ** 2, seen[i, -1] ** 2, exact[i, -1] ** 2) for i, each in enumerate(listed)]
    columns = ("E", "exact floor", f"engine after {rounds}", "exact")
    title = "Error against rounds, by the number of local steps"
    return Finding(title, settings, arrays, columns, rows, claims, draw)
