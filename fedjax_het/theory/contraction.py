"""Contraction: what more local steps buy methods with and without memory, and where they destroy a round."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.algorithms import fedavg, feddyn, scaffold
from fedjax_het.analysis import oracles
from fedjax_het.check import positive_int, require, scalar, short
from fedjax_het.local import sgd
from fedjax_het.models import quadratic_federation
from fedjax_het.plots.theory import Line, Panel, chart
from fedjax_het.theory.finding import Claim, Finding, in_double
from fedjax_het.theory.runs import engine_map, problem_of
from fedjax_het.typing import Array

__all__ = ["contraction"]

METHODS = ("FedAvg", "SCAFFOLD I", "SCAFFOLD II", "FedDyn")


@in_double
def contraction(
    *, most: int = 200, learning_rate: float = 0.05, curvatures: Any = (0.1, 10.0), alpha: float = 1.0
) -> Finding:
    """rho of a round against E, two scalar quadratics of unlike curvature: FedAvg, SCAFFOLD I and II, FedDyn.

    FedDyn's clients do E steps too, so that its local problems are solved better as E grows.

    Args:
        most: the largest E.
        learning_rate: eta.
        curvatures: of the two clients, > 0.
        alpha: FedDyn's; about (mu L)^(1/2) is best.

    Returns:
        Arrays "steps" [m]; "exact" [4, m] in the order FedAvg, SCAFFOLD I, SCAFFOLD II, FedDyn; "measured"
        [4, q] at "measured_steps" [q]; "diverges" and "best" [4], the first E with rho > 1 (NaN for none) and
        the E of the lowest rho.

    Raises:
        TypeError, ValueError: a setting of the wrong kind or range.
    """
    most = positive_int("most", most, least=2, remedy="200 shows the divergence")
    rate = scalar("learning_rate", learning_rate, above=0, remedy="2 / L is the limit")
    alpha = scalar("alpha", alpha, above=0, remedy="1 is (mu L)^(1/2) here")
    require(
        isinstance(curvatures, (list, tuple)) and len(curvatures) == 2,
        f"curvatures must be two numbers, got {short(curvatures)}: such as [0.1, 10]",
    )
    bends = np.array([scalar("curvatures", c, above=0, remedy="such as 0.1") for c in curvatures])
    federation = quadratic_federation(bends[:, None, None], np.array([[1.0], [-1.0]]))
    functions, problem = oracles.quadratics_of(federation), problem_of(federation)

    def known(steps: Array) -> list[Array]:
        both: dict[str, Any] = {"learning_rate": rate, "steps": steps}
        return [
            oracles.fedavg(functions, **both).matrix,
            oracles.scaffold(functions, option="I", **both).matrix,
            oracles.scaffold(functions, option="II", **both).matrix,
            oracles.feddyn(functions, alpha=alpha, **both).matrix,
        ]

    def engine(steps: Array) -> list[Array]:
        local = sgd(rate, batch_size=None, steps=steps)
        return [
            engine_map(fedavg(problem, local), federation).matrix,
            engine_map(scaffold(problem, local, option="I"), federation, "control").matrix,
            engine_map(scaffold(problem, local, option="II"), federation, "control").matrix,
            engine_map(feddyn(problem, local, alpha=alpha), federation, "dual").matrix,
        ]

    steps = np.arange(1, most + 1)
    some = np.unique(np.geomspace(1, most, 12).round().astype(int))
    exact, seen = (
        np.stack([_rate(each) for each in jax.jit(jax.vmap(function))(jnp.asarray(at, jnp.int32))])
        for function, at in ((known, steps), (engine, some))
    )
    off = float(np.abs(exact[:, some - 1] - seen).max())
    above = exact > 1 + 1e-9
    diverges = np.array([float(steps[np.argmax(row)]) if row.any() else np.nan for row in above])
    best = steps[np.argmin(exact, axis=1)]
    turns = [int(steps[np.argmax(up)]) if (up := np.diff(row) > 1e-9).any() else most for row in exact]
    claims = (
        Claim(
            f"SCAFFOLD I diverges from E = {diverges[1]:g} on, with rho = {exact[1, -1]:.3g} at E = {most}",
            bool(np.isfinite(diverges[1]) and exact[1, -1] > 1),
        ),
        Claim(
            f"FedAvg and SCAFFOLD II are stable at every E: rho <= {exact[[0, 2]].max():.3f}",
            bool(exact[[0, 2]].max() < 1),
        ),
        Claim(
            "the best E is " + ", ".join(f"{e} for {m} (rho {exact[i, e - 1]:.3f})" for i, (m, e) in
                                         enumerate(zip(METHODS, best))),
            bool(best[1] < most),
        ),
        Claim(
            f"SCAFFOLD II's rho has a local minimum at E = {turns[2]} ({exact[2, turns[2] - 1]:.3f}) and then "
            f"rises to {exact[2, turns[2] - 1 :].max():.3f}",
            turns[2] < most,
        ),
        Claim(f"the engine's compiled rounds have the oracle's rho to {off:.1e}", off < 1e-9),
    )  # fmt: skip

    def draw() -> Any:
        lines = []
        for i, name in enumerate(METHODS):
            lines += [Line(name, steps, exact[i], i), Line("", some, seen[i], i, "points", every=True)]
        lines.append(Line("rho = 1: diverges above", [1, most], 1.0, -1, "dotted"))
        panel = Panel("", lines, "E, local steps of a round", "rho, contraction of a round", "x")
        return chart(
            "More local steps: SCAFFOLD has a best E, and option I diverges",
            [panel],
            f"Two clients of curvature {bends[0]:g} and {bends[1]:g}, eta = {rate:g}, alpha = {alpha:g}. "
            "Lines: exact; points: the engine's compiled rounds. A small rho says not where a method ends: "
            f"FedAvg's limit is biased. SCAFFOLD I has rho > 1 from E = {diverges[1]:g} on; SCAFFOLD II "
            f"has a local minimum at E = {turns[2]} (rho {exact[2, turns[2] - 1]:.3f}), and its lowest rho up "
            f"to {most} at E = {best[2]} ({exact[2].min():.3f}).",
        )

    settings = {"most": most, "learning_rate": rate, "curvatures": list(curvatures), "alpha": alpha}
    arrays = {
        "steps": steps, "exact": exact, "measured": seen, "measured_steps": some, "diverges": diverges,
        "best": best,
    }  # fmt: skip
    rows = [
        (m, exact[i, 0], int(best[i]), exact[i].min(), exact[i, -1], diverges[i]) for i, m in enumerate(METHODS)
    ]
    columns = ("method", "rho at E = 1", "best E", "its rho", f"rho at E = {most}", "diverges from")
    return Finding("Contraction against local steps", settings, arrays, columns, rows, claims, draw)


def _rate(matrices: Array) -> np.ndarray:
    """rho of each of [m, q, q]."""
    return np.abs(np.linalg.eigvals(np.asarray(matrices))).max(axis=-1)
