"""Lines with bands: what every picture of curves draws."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from fedjax_het.plots.series import Metric
from fedjax_het.plots.style import GREY, canvas, finish, key, logarithmic, looks, shorten, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Curve", "draw"]

FEW = 5
"""Seeds from which on a standard deviation says more than the lowest and the highest."""

CROWDED = 0.5
"""Part of the range below which the later values get the axis for themselves."""

BANDS = 8
"""Methods beyond which bands would hide the lines."""

MARKED = 25
"""Points beyond which only some are marked."""

SPAN = 10.0
"""Ratio of largest to smallest beyond which an axis is logarithmic."""


@dataclasses.dataclass(frozen=True)
class Curve:
    """x [P], y [seeds, P]."""

    x: np.ndarray
    y: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Mean over seeds, [P]; NaN where a seed is not finite."""
        finite = np.isfinite(self.y).all(axis=0)
        return np.where(finite, np.where(finite, self.y, 0).mean(axis=0), np.nan)

    @property
    def band(self) -> tuple[np.ndarray, np.ndarray]:
        """(low, high) [P]: the extreme seeds if they are few, else mean -+ standard deviation."""
        y = np.where(np.isfinite(self.mean), self.y, np.nan)
        if len(y) < FEW:
            return y.min(axis=0), y.max(axis=0)
        spread = y.std(axis=0, ddof=1)
        return self.mean - spread, self.mean + spread

    @property
    def last(self) -> float:
        """The mean at the end."""
        return float(self.mean[-1])

    @property
    def level(self) -> bool:
        """Whether it has no extent in x, as a method that sends nothing has none in bytes."""
        return len(self.x) > 1 and float(np.ptp(self.x)) == 0


def draw(
    curves: dict[str, Curve | None], metric: Metric, *, x_label: str, title: str, about: str, note: str = ""
) -> Figure:
    """A line a method with its band, the legend and the caption.

    Args:
        curves: by method name; None for a method without it, which gets a dash.
        metric: what is up.
        x_label: what is right, with its unit.
        title: follows the metric's name.
        about: whose values.
        note: part of the caption.
    """
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    drawn = {name: curve for name, curve in curves.items() if curve is not None}
    absent = [name for name, curve in curves.items() if curve is None]
    bands = len(drawn) <= BANDS
    longest = max(len(shorten(name)) for name in curves)
    with styled():
        width, height = 8 + 0.075 * max(0, longest - 12), max(4.5, 1.2 + 0.21 * len(curves))
        figure, (axes,) = canvas(f"{metric.words} {title}", width=width, height=height)
        axes.set_title(about, color=GREY)
        handles = {}
        for place, (name, style) in enumerate(zip(curves, looks(len(curves)))):
            curve = curves[name]
            if curve is not None:
                handles[name] = _line(axes, curve, style, place, bands)
        axes.set_xlabel(x_label)
        axes.set_ylabel(metric.label)
        whole = x_label.startswith("round")
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=whole, steps=[1, 2, 5, 10]))
        if metric.percent:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        if metric.lower and _wide(drawn):
            logarithmic(axes)
        elif (limits := _late(drawn, bands)) is not None:
            axes.set_ylim(*limits)
            note += " Axis fitted to the later values: the first ones lie beyond it."
        if len(curves) > 1:
            # from high to low, as the ends of the curves lie; NaN last
            order = sorted(drawn, key=lambda n: -drawn[n].last if np.isfinite(drawn[n].last) else np.inf)
            texts = [f"{metric.text(drawn[name].last)}  {shorten(name)}" for name in order]
            texts += [f"-  {shorten(name)}" for name in absent]
            nothing = Line2D([], [], linestyle="none")
            key(figure, [*(handles[n] for n in order), *(nothing for _ in absent)], texts, "last value, method")
        return finish(figure, _caption(drawn, absent, bands, note.strip()))


def _line(axes: Axes, curve: Curve, style: dict, place: int, bands: bool) -> Any:
    """Draws one method; returns what its legend entry shows."""
    if curve.level:
        return axes.axhline(curve.last, color=style["color"], linestyle=style["linestyle"])
    every = 1 if len(curve.x) <= MARKED else (place * len(curve.x) // 60, len(curve.x) // 12)
    if bands and len(curve.y) > 1:
        low, high = curve.band
        axes.fill_between(curve.x, low, high, color=style["color"], alpha=0.13, linewidth=0)
    return axes.plot(
        curve.x, curve.mean, markevery=every, markeredgecolor="white", markeredgewidth=0.6, **style
    )[0]


def _wide(curves: dict[str, Curve]) -> bool:
    """Whether what is drawn is positive and spans more than `SPAN`."""
    values = np.concatenate([curve.y.ravel() for curve in curves.values()])
    values = values[np.isfinite(values)]
    return bool(values.size and values.min() > 0 and values.max() > SPAN * values.min())


def _late(curves: dict[str, Curve], bands: bool) -> tuple[float, float] | None:
    """Limits that the values after the first tenth fill, where they take less than half of the whole range.

    Runs begin at chance: on an axis from there, methods that end within a few points are one line.
    """
    late, whole = [], []
    for curve in curves.values():
        ends = np.stack(curve.band) if bands else curve.mean[None]
        start = ends.shape[-1] - 1 if curve.level else -(-ends.shape[-1] // 10)
        late.append(ends[:, start:].ravel())
        whole.append(ends[:, start if curve.level else 0 :].ravel())
    some, every = (np.concatenate(values) for values in (late, whole))
    some, every = some[np.isfinite(some)], every[np.isfinite(every)]
    if not some.size or np.ptp(some) == 0 or np.ptp(some) > CROWDED * np.ptp(every):
        return None
    margin = 0.06 * np.ptp(some)
    return float(some.min() - margin), float(some.max() + margin)


def _caption(drawn: dict[str, Curve], absent: list[str], bands: bool, note: str) -> str:
    counts = sorted({len(curve.y) for curve in drawn.values()})
    most = counts[-1]
    seeds = str(most) if len(counts) == 1 else f"{counts[0]} to {most}"
    words = ["One seed." if most == 1 else f"Lines: mean of {seeds} seeds."]
    if most > 1 and bands:
        kinds = {
            "lowest to highest seed" if n < FEW else "± 1 standard deviation over seeds"
            for n in counts
            if n > 1
        }
        words.append(f"Bands: {' (below 5 seeds) or '.join(sorted(kinds, reverse=True))}.")
    elif most > 1:
        words.append(f"No bands with more than {BANDS} methods.")
    words.append(note)
    if any(curve.level for curve in drawn.values()):
        words.append("Level lines: methods that send nothing, at their last value.")
    if absent:
        words.append("-: no such model, or not measured.")
    if not all(np.isfinite(curve.y).all() for curve in drawn.values()):
        words.append("Gaps: values that are not finite.")
    return " ".join(word for word in words if word)
