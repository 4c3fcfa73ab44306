"""Charts of theory: lines are what is known exactly, points what the engine measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fedjax_het.check import known, require
from fedjax_het.plots.style import GREY, canvas, finish, plain, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["KINDS", "Line", "Panel", "chart", "track"]

KINDS = ("line", "dashed", "dotted", "points", "both", "cloud", "cross")
"""line: exact; dashed: a limit, a bound or an approximation; dotted: a mark; points: measured; both: measured
points joined by a line; cloud: very many measured points; cross: places by which others are seen."""

MARKS = 16
"""Points drawn of a measured curve, about, so that the line under them can be seen."""

PIXEL_WIDTH = 1.4
"""Width of a line; thicker ones hide what lies beneath."""


@dataclasses.dataclass(frozen=True)
class Line:
    """A curve of a panel.

    Attributes:
        label: its entry in the legend; "" for none, as of the same colour's other half.
        x: [P]; two values, of which y has one, make a level line.
        y: [P]; not drawn where it is not finite, or not positive on a logarithmic axis.
        colour: its place in the style's colours.
        kind: one of `KINDS`.
        every: whether all points are marked, however many.
        notes: words beside the points, one for each; "" for none.
        below: whether these stand left and below, not right and above.
    """

    label: str
    x: Any
    y: Any
    colour: int = 0
    kind: str = "line"
    every: bool = False
    notes: Sequence[str] = ()
    below: bool = False


@dataclasses.dataclass(frozen=True)
class Panel:
    """Axes with curves.

    Attributes:
        title: said above.
        lines: drawn in this order.
        x_label: with its unit.
        y_label: with its unit.
        log: which axes are logarithmic: "", "x", "y" or "xy".
        bottom: lowest y that is drawn, where rounding errors begin, or None.
        top: highest, or None.
        legend: title of the legend; None draws none.
        equal: whether both axes have one scale, as a plane has.
    """

    title: str
    lines: Sequence[Line]
    x_label: str
    y_label: str
    log: str = "y"
    bottom: float | None = None
    top: float | None = None
    legend: str | None = ""
    equal: bool = False


def track(label: str, points: Any, colour: int = 0, kind: str = "line", **more: Any) -> Line:
    """A `Line` through points of the plane [P, 2], or at one [2]; the rest is as there."""
    x, y = np.atleast_2d(points).T
    return Line(label, x, y, colour, kind, **more)


def chart(
    title: str, panels: Sequence[Panel], caption: str, *, columns: int | None = None, width: float | None = None
) -> Figure:
    """Panels of curves, each with its legend on its right, where it covers nothing.

    Args:
        title: of all.
        panels: row by row.
        caption: how to read them.
        columns: panels of a row; as many as there are, up to two, if None.
        width: inches; by the number of columns if None.

    Returns:
        A matplotlib Figure.

    Raises:
        ValueError: no panel, or an unknown kind of line.
    """
    require(len(panels) > 0, "panels must hold one at least, got none: say what to draw")
    columns = min(len(panels), 2) if columns is None else columns
    rows = -(-len(panels) // columns)
    with styled():
        figure, axes = canvas(
            title,
            rows=rows,
            columns=columns,
            width=(8.6 if columns == 1 else 12.4) if width is None else width,
            height=0.9 + 3.9 * rows,
        )
        for panel, place in zip(panels, axes):
            _panel(place, panel)
        for place in axes[len(panels) :]:
            place.set_visible(False)
        return finish(figure, caption)


def _panel(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title, color=GREY)
    if "x" in panel.log:
        axes.set_xscale("log")
    if "y" in panel.log:
        axes.set_yscale("log")
    for line in panel.lines:
        _line(axes, line, "y" in panel.log, panel.bottom, panel.top)
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    if panel.bottom is not None or panel.top is not None:
        axes.set_ylim(panel.bottom, panel.top)
    if "x" in panel.log:
        _round_ticks(axes)
    if panel.equal:
        axes.set_aspect("equal", adjustable="datalim")
    if panel.legend is not None:
        legend = axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.02), borderaxespad=0, title=panel.legend)
        legend._legend_box.align = "left"  # pyright: ignore[reportAttributeAccessIssue]
        plain([axes.title, *legend.get_texts()])


def _line(axes: Axes, line: Line, logarithmic: bool, bottom: float | None, top: float | None) -> None:
    import matplotlib

    known("kind", line.kind, KINDS)
    colours = matplotlib.rcParams["axes.prop_cycle"].by_key()["color"]
    colour = GREY if line.colour < 0 else colours[line.colour % len(colours)]
    x, y = np.asarray(line.x, float), np.asarray(line.y, float)
    y = np.where(np.isfinite(y), y, np.nan)
    if logarithmic:
        y = np.where(y > 0, y, np.nan)
        if bottom is not None:  # what lies below is rounding
            y = np.where(y >= bottom, y, np.nan)
    if top is not None:
        y = np.where(y <= 1e3 * abs(top), y, np.nan)
    style: dict[str, Any] = {"color": colour, "label": line.label or "_", "linewidth": PIXEL_WIDTH}
    style["linestyle"] = {"dashed": (0, (5, 2)), "dotted": (0, (1, 1.5)), "points": "none"}.get(line.kind, "-")
    if line.kind in ("cloud", "cross"):
        style["linestyle"] = "none"
        looks = {"cloud": {"marker": ".", "markersize": 2.5, "alpha": 0.35, "markeredgewidth": 0, "zorder": 1}}
        style |= looks.get(line.kind, {"marker": "X", "markersize": 8, "markeredgecolor": "white", "zorder": 4})
    elif line.kind in ("points", "both"):
        spaced = 1 if line.every else max(1, len(x) // MARKS)
        style |= {"marker": "o", "markersize": 4.5, "markevery": spaced, "markeredgewidth": 1.1}
        style |= {"markerfacecolor": "white" if line.kind == "points" else colour}
    if y.ndim == 0 or y.shape == (1,):
        x, y = (x, np.broadcast_to(y, x.shape))
    axes.plot(x, y, **style)
    for words, at, up in zip(line.notes, x, y):
        beside: dict[str, Any] = {"xytext": (-6, -10), "ha": "right"} if line.below else {"xytext": (6, 2)}
        plain([axes.annotate(words, (at, up), color=colour, fontsize=8, textcoords="offset points", **beside)])


def _round_ticks(axes: Axes) -> None:
    """1, 2, 5, 10 on a logarithmic axis of few decades."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = axes.get_xlim()
    if low > 0 and high < 3000 * low:
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 300 * low else (1, 3)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axes.xaxis.set_minor_locator(NullLocator())
