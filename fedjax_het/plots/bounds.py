"""Bounds beside what was measured, with the ratio of the two in the legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fedjax_het.analysis.bounds.curve import TAGS, Curve
from fedjax_het.check import require, short
from fedjax_het.plots.style import GREY, canvas, finish, key, looks, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["bounds_by_step"]

KINDS = {
    "S": "published",
    "D": "derived",
    "M": "constants from memory",
    "O": "shape only",
    "X": "no theorem",
}


UNITS = {
    "l": "unit of the loss",
    "w": "unit of the parameters",
    "w^2": "squared unit of the parameters",
    "l^2/w^2": "squared unit of the gradient",
}


def bounds_by_step(
    steps: Any,
    measured: Any,
    curves: Sequence[Curve],
    *,
    prediction: Any = None,
    quantity: str | None = None,
    title: str = "Bounds and the error",
) -> Figure:
    """A measured error, its exact prediction and bounds on it, on a logarithmic axis.

    Bounds whose statement is certain are solid; those from memory, of unknown constants, or that are none, are
    dashed, and shapes are scaled so that they touch what was measured. The legend has the ratio of measured to
    bound at the last step that they share. A bound whose conditions are violated is not drawn: the caption says
    which they are.

    Args:
        steps: gradient steps at which the error was measured, whole numbers [P].
        measured: the error there [P].
        curves: bounds of the same unit, with steps among those measured.
        prediction: the exact expectation at `steps` [P], or None.
        quantity: what is on the axis; what the first curve bounds if None.
        title: of the picture.

    Returns:
        A matplotlib Figure.

    Raises:
        TypeError: something else than curves.
        ValueError: no curves, curves of unlike units, shapes that do not fit, or no common step.
    """
    steps, measured = np.asarray(steps), np.asarray(measured, np.float64)
    require(
        steps.ndim == 1 and steps.shape == measured.shape,
        f"measured must have one value for each of steps, got {short(measured)}: arrays [P]",
    )
    if prediction is not None:
        prediction = np.asarray(prediction, np.float64)
        require(
            prediction.shape == steps.shape,
            f"prediction must have one value for each of steps, got {short(prediction)}: an array [P]",
        )
    for each in curves:
        if not isinstance(each, Curve):
            raise TypeError(f"curves must be Curves, got {short(each)}: see fh.analysis.bounds")
    require(len(curves) > 0, "curves must not be empty, got none: pass the bounds to compare with")
    units = {each.statement.unit for each in curves}
    require(
        len(units) == 1,
        f"curves must bound quantities of one unit, got {', '.join(sorted(units))}: see "
        "fh.analysis.bounds.gap_of_distance",
    )
    with styled():
        figure, (axes,) = canvas(title, width=9.5)
        style = looks(len(curves) + 1)
        handles = axes.plot(steps, np.where(measured > 0, measured, np.nan), color="black", lw=2.4, zorder=5)
        texts = ["measured"]
        if prediction is not None:
            known = np.where(prediction > 0, prediction, np.nan)
            handles += axes.plot(steps, known, color=GREY, linestyle=(0, (1.2, 1.3)), lw=2.4, zorder=6)
            texts.append("exact prediction")
        left = []
        for look, each in zip(style, curves):
            if each.validity:
                left.append(f"{each.statement.name}: {'; '.join(one.split(':')[0] for one in each.validity)}")
                continue
            values, words = _fitted(each, steps, measured)
            handles += axes.plot(
                each.steps,
                np.where(values > 0, values, np.nan),
                color=look["color"],
                linestyle="--" if each.tag not in ("S", "D") else "-",
            )
            texts.append(f"{each.statement.name} ({KINDS[each.tag]})\n{words}")
        axes.set_yscale("log")
        axes.set_xlabel("gradient steps of a client")
        unit = curves[0].statement.unit
        axes.set_ylabel(f"{quantity or curves[0].quantity} ({UNITS.get(unit, unit)})")
        key(figure, handles, texts, "error and bounds")
        caption = "Solid bounds are proved, with their constants; dashed ones are not."
        for tag in ("M", "O", "X"):
            if any(each.tag == tag and not each.validity for each in curves):
                caption += f" {KINDS[tag].capitalize()}: {TAGS[tag]}."
        if left:
            caption += f" Not drawn, for conditions that are violated: {'. '.join(left)}."
        return finish(figure, caption)


def _fitted(curve: Curve, steps: np.ndarray, measured: np.ndarray) -> tuple[np.ndarray, str]:
    """(values to draw, words of the legend): a shape is scaled to touch, a bound told by its ratio."""
    _, mine, theirs = np.intersect1d(curve.steps, steps, return_indices=True)
    good = np.isfinite(curve.values[mine]) & (curve.values[mine] > 0) & (measured[theirs] > 0)
    mine, theirs = mine[good], theirs[good]
    require(
        len(mine) > 0,
        f"steps must share one with {curve.statement.name!r} where both are positive, got none: measure after "
        "whole rounds",
    )
    ratio = measured[theirs] / curve.values[mine]
    if not curve.shape_only:
        return curve.values, f"measured / bound {ratio[-1]:.2g}"
    factor = ratio.max() if curve.statement.side == "upper" else ratio.min()
    return factor * curve.values, f"scaled by {factor:.2g} to touch"
