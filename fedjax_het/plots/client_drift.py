"""Client drift: step by step within a round, and by layer over the rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fedjax_het.check import positive_int, require, short
from fedjax_het.engine import History
from fedjax_het.plots.lines import Curve, draw
from fedjax_het.plots.series import Metric, by_seed
from fedjax_het.plots.style import GREY, LOSE, WIN, canvas, finish, key, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["drift_by_layer", "drift_by_step"]


def drift_by_step(drift: Any, *, steps: Any = None, expected: Any = None, unit: str = "parameters") -> Figure:
    """How far each client has gone by each local step of a round, on logarithmic axes with a line of slope 1.

    Args:
        drift: d_k(j), float [C, E + 1] from j = 0, such as "by_client" of `fh.analysis.local_path` in a round;
            what is nan is left out.
        steps: tau_k, int [C]: a client's line ends there. E if None.
        expected: a prediction of the same shape, drawn dashed: a closed form, say.
        unit: of the parameters, for the axis.

    Returns:
        A matplotlib Figure: a thin line a client, and the root mean square over the clients that still move.

    Raises:
        ValueError: arrays of other shapes, or nobody who moved.
    """
    from matplotlib.lines import Line2D

    drift = np.asarray(drift, float)
    require(
        drift.ndim == 2 and drift.shape[1] > 2,
        f"drift must have shape [C, E + 1] with E >= 2, got {list(drift.shape)}: one row a client, from j = 0",
    )
    last = np.full(len(drift), drift.shape[1] - 1) if steps is None else np.asarray(steps)
    require(last.shape == drift.shape[:1], f"steps must be one number a client, got {short(steps)}: int [C]")
    law = None if expected is None else np.asarray(expected, float)
    require(
        law is None or law.shape == drift.shape,
        f"expected must have the shape of drift, {list(drift.shape)}, got {short(expected)}: d_k(j) predicted",
    )
    j = np.arange(1, drift.shape[1])
    on = (j <= last[:, None]) & np.isfinite(drift[:, 1:]) & (drift[:, 1:] > 0)
    require(bool(on.any()), "drift must be > 0 somewhere, got none: nobody moved in this round")
    moving = np.where(on, drift[:, 1:], np.nan)
    count = on.sum(axis=0)
    square = np.nansum(moving**2, axis=0) / np.maximum(count, 1)
    mean = np.where(count > 0, np.sqrt(square), np.nan)
    with styled():
        figure, (axes,) = canvas("client drift within a round")
        for row in moving:
            axes.plot(j, row, color=GREY, alpha=0.45, linewidth=0.8)
        axes.plot(j, mean, color=WIN, linewidth=2.2)
        axes.plot(j, mean[0] * j, color=LOSE, linestyle=(0, (1.2, 1.3)))
        if law is not None:
            for row, seen in zip(law[:, 1:], on):
                axes.plot(j, np.where(seen, row, np.nan), color="black", linestyle=(0, (5, 1.6)), linewidth=0.8)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("local step j")
        axes.set_ylabel(f"distance from the start (unit of the {unit})")
        shown: list[tuple[str, dict[str, Any]]] = [
            ("a client", {"color": GREY, "linewidth": 0.8}),
            ("root mean square", {"color": WIN, "linewidth": 2.2}),
            ("linear in j", {"color": LOSE, "linestyle": (0, (1.2, 1.3))}),
        ]
        if law is not None:
            shown.append(("predicted", {"color": "black", "linestyle": (0, (5, 1.6)), "linewidth": 0.8}))
        key(figure, [Line2D([], [], **look) for _, look in shown], [name for name, _ in shown], "")
        caption = (
            f"{int(on.any(axis=1).sum())} clients. Along the dotted line gradients stay what they were; below "
            "it clients near their own minima. Clients with fewer steps end early."
        )
        return finish(figure, caption)


def drift_by_layer(history: History, measure: str, *, smooth: int | None = None) -> Figure:
    """How far local work moves each array of the parameters, round by round.

    Args:
        history: of a run with `fh.analysis.layer_drift()` among its measures.
        measure: its name there.
        smooth: rounds of a running mean, since every round has another cohort; default a 25th of the run.

    Raises:
        TypeError: not a History.
        ValueError: it holds no such measure.
    """
    if not isinstance(history, History):
        raise TypeError(f"history must be a History, got {short(history)}: the second value of fh.simulate")
    start = f"measure/{measure}/"
    names = [name for name in history if name.startswith(start)]
    require(
        bool(names),
        f"history must hold {start}LAYER, got none: pass measures={{{measure!r}: fh.analysis.layer_drift()}} "
        "to simulate",
    )
    rounds = by_seed(history, "round")[0] + 1.0
    window = max(1, len(rounds) // 25) if smooth is None else positive_int("smooth", smooth, remedy="1 is all")
    window = min(window, len(rounds))
    curves: dict[str, Curve | None] = {}
    for name in names:
        parts = [
            np.lib.stride_tricks.sliding_window_view(y, window, axis=-1).mean(axis=-1)
            for y in (rounds, by_seed(history, name).astype(float))
        ]
        curves[name.removeprefix(start)] = Curve(*parts)
    metric = Metric("drift of local models", "drift (unit of the parameters)", False, True)
    note = f"Running mean over {window} rounds." if window > 1 else ""
    about = "root mean square over each round's cohort"
    return draw(curves, metric, x_label="round", title="by layer", about=about, note=note)
