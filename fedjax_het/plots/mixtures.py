"""The weights of mixture components by client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fedjax_het.check import require, short
from fedjax_het.metrics import clustering
from fedjax_het.plots.membership import cluster_colours
from fedjax_het.plots.style import canvas, finish, key, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["mixture_weights"]

COLUMNS = 2000
"""Clients that are drawn; of more, evenly spaced ones."""

NAMED = 60
"""Clients up to which bars carry the client's id."""

HATCHES = ("", "//", "..", "xx", "\\\\", "oo", "--")
"""Marks that tell components apart in grey print, where bars are wide enough."""


def mixture_weights(weights: np.ndarray, truth: np.ndarray | None = None) -> Figure:
    """The mixture of each client, pi_k: a bar a client, a colour a component.

    Args:
        weights: pi, float [N, M], >= 0, each row summing to 1; NaN for a client that has none.
        truth: pi*, float [N, M']. Components are then matched to the true ones by one permutation, see
            `fedjax_het.metrics.clustering.match_components`, and a second panel has the true mixtures.

    Returns:
        A matplotlib Figure. Clients stand by their largest component (of the true mixture, where given), then
        by its weight.

    Raises:
        TypeError: no numbers.
        ValueError: shapes that do not fit, or rows that are no mixtures.
    """
    pi = _mixtures("weights", weights)
    star = None if truth is None else _mixtures("truth", truth)
    held = np.isfinite(pi.sum(1))
    distance, names = None, [str(m) for m in range(pi.shape[1])]
    if star is not None:
        require(len(star) == len(pi), f"truth must have {len(pi)} rows, got {len(star)}: one a client")
        held = held & np.isfinite(star.sum(1))
        require(bool(held.any()), "weights must be known of some client, got NaN only: pass what was learned")
        place = clustering.match_components(pi, star, held)
        distance = clustering.mixture_distance(pi, star, held)
        most = len(place)
        names = [str(m) if m < pi.shape[1] else "-" for m in place]
        pi, star = (np.pad(each, ((0, 0), (0, most - each.shape[1]))) for each in (pi, star))
        pi, star = (np.where(held[:, None], each, np.nan) for each in (pi[:, place], star))
    order = _order(pi if star is None else star, held)
    if len(order) > COLUMNS:
        order = order[np.linspace(0, len(order) - 1, COLUMNS).round().astype(int)]
    many, components = pi.shape
    colours = cluster_colours(components)
    with styled():
        figure, panels = canvas(
            f"Mixtures of clients: {many:,} clients, {components} components",
            rows=1 if star is None else 2,
            width=9.0,
            height=3.8 if star is None else 5.4,
            share=True,
        )
        for axes, values, words in zip(panels, (pi, star), ("weight learned", "true weight")):
            assert values is not None
            _stack(axes, values[order], colours)
            axes.set_ylabel(words)
        bottom = panels[-1]
        if len(order) <= NAMED:
            size = 9 if len(order) <= 25 else 6
            bottom.set_xticks(np.arange(1, len(order) + 1), [str(c) for c in order], fontsize=size)
        else:
            bottom.set_xticks([])
        bottom.set_xlabel("clients, by their largest component" + ("" if star is None else " in truth"))
        _legend(figure, colours, names, matched=star is not None, hatched=len(order) <= NAMED)
        caption = "A bar is a client; its parts are the weights of the components."
        if distance is not None:
            known = distance[held]
            caption += (
                f" Learned against true, components matched: |pi - pi*|_1 is {known.mean():.3f} on average "
                f"(0: equal, 2: disjoint), at most {known.max():.3f}."
            )
        blank = int((~held).sum())
        caption += f" Blank, on the right: without a mixture ({blank})." if blank else ""
        caption += f" {len(order):,} of {many:,} clients are drawn." if len(order) < many else ""
        return finish(figure, caption)


def _mixtures(name: str, values: Any) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} must hold numbers, got {short(values)}: a mixture each client, [N, M]")
    require(
        array.ndim == 2 and array.size > 0,
        f"{name} must have shape [N, M], got {array.shape}: a mixture each client",
    )
    array = array.astype(float)
    some = array[~np.isnan(array).any(1)]
    require(
        bool((some >= -1e-6).all() and (np.abs(some.sum(1) - 1) < 1e-3).all()),
        f"{name} must be >= 0 with rows that sum to 1, got others: divide each row by its sum",
    )
    return array


def _order(mixture: np.ndarray, held: np.ndarray) -> np.ndarray:
    """By the largest component, then by its weight from the most down; clients without a mixture come last."""
    filled = np.nan_to_num(mixture)
    return np.lexsort((-filled.max(1), filled.argmax(1), ~held))


def _stack(axes: Axes, values: np.ndarray, colours: list[Any]) -> None:
    """Steps rather than bars, so that thousands of clients are one shape a component."""
    edges = np.arange(len(values) + 1) + 0.5
    low, few = np.zeros(len(values)), len(values) <= NAMED
    for number, (part, colour) in enumerate(zip(np.nan_to_num(values).T, colours)):
        high = low + part
        axes.stairs(
            high,
            edges,
            baseline=low,
            fill=True,
            facecolor=colour,
            edgecolor="white",
            linewidth=0.5 if few else 0,
            hatch=HATCHES[number % len(HATCHES)] if few else None,
        )
        low = high
    if few:
        axes.vlines(edges[1:-1], 0, 1, color="white", linewidth=1.2)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, 1)
    axes.grid(visible=False)


def _legend(figure: Figure, colours: list[Any], names: list[str], *, matched: bool, hatched: bool) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor=colour, edgecolor="white", hatch=HATCHES[m % len(HATCHES)] if hatched else None)
        for m, colour in enumerate(colours)
    ]
    texts = [f"{m} (learned {name})" for m, name in enumerate(names)] if matched else names
    key(figure, handles[::-1], texts[::-1], "true component" if matched else "component")
