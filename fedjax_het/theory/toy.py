"""The toy: why the example that everybody draws shows no client drift, and what it takes to see some."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedjax_het.check import positive_int, require, scalar, short
from fedjax_het.plots.theory import Line, Panel, chart
from fedjax_het.theory.finding import Claim, Finding, in_double
from fedjax_het.theory.runs import TOY, increasing, measured, predicted, toy_federation

__all__ = ["toy"]

START = (0.5, 0.5)
"""Where the server begins."""


@in_double
def toy(
    *,
    rounds: int = 50,
    steps: Any = (1, 5, 50),
    learning_rate: float = 0.1,
    curvatures: Any = (4.0, 1.0, 1.0, 1.0),
) -> Finding:
    """Four clients F_k = c_k/2 |w - a_k|^2 of equal weight under FedAvg: all c_k = 1, beside unlike c_k.

    Left, identical curvatures, the example of many tutorials: "IID" (all a_k alike), and a_k apart with E = 1
    and E = 5. FedAvg's limit is sum_k p_k a_k = w* for every E, so that more local steps are only faster.
    Right, c = (4, 1, 1, 1): the limit moves from w* with E, and a floor appears.

    Args:
        rounds: T.
        steps: E of the right picture.
        learning_rate: eta.
        curvatures: c_k of the right picture, four numbers > 0.

    Returns:
        Arrays "iid", "error_1", "error_5" [T + 1], the engine's |w_t - w*|; "measured" and "exact"
        [len(steps), T + 1]; "floor" [len(steps)], the oracle's |w_inf - w*|.

    Raises:
        TypeError, ValueError: a setting of the wrong kind or range.
    """
    rounds = positive_int("rounds", rounds, remedy="a run has at least one")
    listed = increasing("steps", steps)
    rate = scalar("learning_rate", learning_rate, above=0, remedy="0.1 is stable here")
    apart, same = toy_federation((1.0,) * 4), toy_federation((1.0,) * 4, np.tile(TOY.mean(0), (4, 1)))
    require(
        isinstance(curvatures, (list, tuple)) and len(curvatures) == 4,
        f"curvatures must be four numbers, got {short(curvatures)}: such as [4, 1, 1, 1]",
    )
    unlike = toy_federation([scalar("curvatures", c, above=0, remedy="such as 4") for c in curvatures])

    every = sorted({1, 5, *listed})  # one program for all three federations
    numbers: dict[str, Any] = {"learning_rate": rate, "steps": every, "rounds": rounds}
    iid, flat, seen = (measured(federation, START, **numbers) for federation in (same, apart, unlike))
    exact, floor = predicted(unlike, START, **numbers)
    level = predicted(apart, START, **numbers)[1][every.index(5)]
    iid, flat = iid[0], flat[[0, every.index(5)]]
    chosen = [every.index(each) for each in listed]
    seen, exact, floor = seen[chosen], exact[chosen], floor[chosen]
    claims = (
        Claim(
            f"identical curvatures have no floor: |w_inf - w*| = {level:.1e} at E = 5, and after {rounds} "
            f"rounds E = 5 stands at {flat[1, -1]:.3g}, E = 1 at {flat[0, -1]:.3g}",
            bool(level < 1e-12 and flat[1, -1] < flat[0, -1]),
        ),
        Claim(
            "IID and non-IID have one and the same curve at E = 1", bool(np.allclose(iid, flat[0], rtol=1e-9))
        ),
        Claim(
            "unlike curvatures have floors "
            + ", ".join(f"{value:.4f} at E = {each}" for each, value in zip(listed, floor)),
            bool((np.diff(floor) > 0).all()),
        ),
        Claim(
            f"the engine is the oracle's path to {np.abs(seen - exact).max():.1e}",
            bool(np.abs(seen - exact).max() < 1e-9),
        ),
    )
    settings = {"rounds": rounds, "steps": listed, "learning_rate": rate, "curvatures": list(curvatures)}
    t = np.arange(rounds + 1)

    def draw() -> Any:
        left = [
            Line("IID, E = 1", t, iid, 2, "line"),
            Line("non-IID, E = 1", t, flat[0], 0, "points"),
            Line("non-IID, E = 5", t, flat[1], 1, "both"),
        ]
        right = []
        for place, each in enumerate(listed):
            right += [
                Line(f"E = {each}", t, exact[place], place),
                Line("", t, seen[place], place, "points"),
            ]
            if floor[place] > 1e-12:
                right.append(Line("", t[[0, -1]], floor[place], place, "dashed"))
        up, down = "|w - w*| (parameter)", "rounds done"
        return chart(
            "The toy: client drift needs unlike curvatures",
            [
                Panel("all curvatures 1: no bias, whatever E", left, down, up, bottom=1e-13, legend="engine"),
                Panel(
                    f"curvatures {', '.join(f'{c:g}' for c in curvatures)}: a floor for E > 1",
                    right, down, up, bottom=1e-4, legend="FedAvg",
                ),
            ],
            f"Four clients c/2 |w - a|², a at the ends of a cross, FedAvg with full batches, eta = {rate:g}. "
            "Right: lines are the exact path, points the engine's runs, dashed lines the exact floors "
            + ", ".join(f"{value:.3f}" for value in floor)
            + f" at E = {', '.join(map(str, listed))}.",
        )  # fmt: skip

    arrays = {
        "iid": iid, "error_1": flat[0], "error_5": flat[1], "measured": seen, "exact": exact, "floor": floor,
    }  # fmt: skip
    rows = [(each, floor[i], seen[i, -1], exact[i, -1]) for i, each in enumerate(listed)]
    columns = ("E", "exact floor", f"engine after {rounds}", "exact")
    return Finding("Why the usual toy shows nothing", settings, arrays, columns, rows, claims, draw)
