"""How alike clients or tasks are, as heat maps: similarities of updates, and the covariance of tasks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fedjax_het.check import require, short
from fedjax_het.plots.membership import cluster_colours
from fedjax_het.plots.order import by_relation
from fedjax_het.plots.style import GREY, WIN, canvas, finish, plain, shorten, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["similarity_map", "task_relationship"]

CLIENTS = 1000
"""Clients that a heat map can show; of more, evenly spaced ones of each cluster."""

LEVEL = 20
"""Clients up to which their names along the bottom are not turned."""

NAMED = 40
"""Clients or tasks up to which each has its name."""

WRITTEN = 12
"""Tasks up to which numbers are written into the squares."""

PIECES = 25
"""Clusters up to which the strip carries their numbers."""


def similarity_map(
    similarity: np.ndarray, cluster: np.ndarray | None = None, *, truth: np.ndarray | None = None
) -> Figure:
    """Similarities of clients, such as cosines of their updates, cluster by cluster.

    Args:
        similarity: float [N, N], symmetric; NaN in the row and the column of a client that has none.
        cluster: of each client, int [N]; lines part them. By default all are in one.
        truth: latent cluster of each client, int [N], shown as a strip above.

    Returns:
        A matplotlib Figure. Within a cluster alike clients are neighbours; clients without a similarity come
        last.

    Raises:
        TypeError: no numbers.
        ValueError: shapes that do not fit, or a matrix that is not symmetric.
    """
    matrix = _square("similarity", similarity)
    many = len(matrix)
    group, latent = (_labels(name, each, many) for name, each in (("cluster", cluster), ("truth", truth)))
    blank = np.isnan(matrix).all(1)
    blocks = np.zeros(many, int) if group is None else np.unique(group, return_inverse=True)[1].reshape(-1)
    blocks = np.where(blank, blocks.max() + 1, blocks)
    chosen = np.argsort(blocks, kind="stable")
    if many > CLIENTS:
        chosen = chosen[np.linspace(0, many - 1, CLIENTS).round().astype(int)]
    order = chosen[by_relation(matrix[np.ix_(chosen, chosen)], blocks[chosen])]
    with styled():
        figure, (axes,) = canvas(f"Similarity of {many:,} clients", width=7.4, height=6.6)
        shown = matrix[np.ix_(order, order)]
        _heat_map(figure, axes, shown, "similarity")
        edges = np.flatnonzero(np.diff(blocks[order])) + 0.5 if group is not None else np.zeros(0)
        for edge in edges:
            axes.axhline(edge, color="black", linewidth=1)
            axes.axvline(edge, color="black", linewidth=1)
        if len(order) <= NAMED:
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_ticks(range(len(order)), [str(client) for client in order], fontsize=7)
            axes.tick_params(axis="x", rotation=90 if len(order) > LEVEL else 0)
        axes.set_xlabel("clients, " + ("alike ones side by side" if group is None else "cluster by cluster"))
        words = "A square: two clients, blue where alike, orange where opposed."
        if latent is not None:
            words += " " + _strip(axes, latent[order])
        words += _told(matrix, group)
        words += f" Grey, at the end: without a similarity ({int(blank.sum())})." if blank.any() else ""
        words += f" {CLIENTS:,} of {many:,} clients are drawn." if many > CLIENTS else ""
        return finish(figure, words)


def task_relationship(
    covariance: np.ndarray, names: Sequence[str] | None = None, *, correlation: bool = True, order: bool = True
) -> Figure:
    """The relationship of tasks that a multi-task method learned, Omega or Sigma: who helps whom.

    Args:
        covariance: of tasks, float [T, T], symmetric, diagonal >= 0; its inverse, the precision, is another
            matrix with opposite signs.
        names: of the tasks, [T]; by default their numbers.
        correlation: show S_st / sqrt(S_ss S_tt) rather than S_st; the bars have the S_tt.
        order: whether alike tasks are made neighbours.

    Returns:
        A matplotlib Figure: the heat map, and a bar a task for its variance. A task of no variance has no
        correlation: it is grey.

    Raises:
        TypeError: no numbers.
        ValueError: a matrix that is not square and symmetric, a variance below 0 or NaN, or another number of
            names.
    """
    matrix = _square("covariance", covariance)
    tasks, variance = len(matrix), np.diag(matrix).copy()
    require(
        bool((variance >= 0).all()),
        f"covariance must have a diagonal >= 0, got {short(variance.tolist())}: pass the covariance of tasks",
    )
    words = [str(t) for t in range(tasks)] if names is None else [str(name) for name in names]
    require(len(words) == tasks, f"names must have one entry for each of {tasks} tasks, got {len(words)}")
    scale = np.sqrt(np.outer(variance, variance))
    related = np.divide(matrix, scale, out=np.full_like(matrix, np.nan), where=scale > 0)
    place = by_relation(related, np.zeros(tasks, int)) if order else np.arange(tasks)
    shown = (related if correlation else matrix)[np.ix_(place, place)]
    side = float(np.clip(2 + 0.35 * tasks, 4, 6.6))
    with styled():
        figure, (axes, beside) = canvas(
            f"Relationship of {tasks:,} tasks",
            columns=2,
            width=side + 3.2,
            height=side,
        )
        axes.get_gridspec().set_width_ratios([3.4, 1])  # pyright: ignore[reportOptionalMemberAccess]
        _heat_map(figure, axes, shown, "correlation" if correlation else "covariance", aspect="auto")
        beside.barh(np.arange(tasks), variance[place], color=WIN, height=0.8)
        beside.set_ylim(tasks - 0.5, -0.5)
        beside.set_xlabel("variance")
        beside.grid(visible=False, axis="y")
        beside.set_yticks([])
        if tasks <= NAMED:
            ticks = [shorten(words[t], 14) for t in place]
            axes.set_yticks(range(tasks), ticks, fontsize=8)
            long = max(len(tick) for tick in ticks) > 3
            axes.set_xticks(range(tasks), ticks, fontsize=8, rotation=90 if long else 0)
            plain([*axes.get_xticklabels(), *axes.get_yticklabels()])
        if tasks <= WRITTEN:
            _write(axes, shown, "{:.2f}" if correlation else "{:.2g}")
        low, high = _off_diagonal(related)
        caption = f"Trace {variance.sum():.3g}. Correlations of two tasks: {low:.2f} to {high:.2f}."
        caption += " A square: two tasks, blue where they help each other, orange where they are opposed."
        caption += " Alike tasks are side by side." if order and tasks > 2 else ""
        return finish(figure, caption)


def _square(name: str, values: Any) -> np.ndarray:
    """A symmetric float matrix."""
    array = np.asarray(values)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} must be a matrix of numbers, got {short(values)}")
    require(
        array.ndim == 2 and array.shape[0] == array.shape[1] and array.size > 0,
        f"{name} must be a square matrix, got shape {array.shape}: a row and a column for each",
    )
    array = array.astype(float)
    size = np.nanmax(np.abs(array), initial=0.0)
    apart = np.abs(array - array.T)
    require(
        bool((np.isnan(array) == np.isnan(array.T)).all() and np.nanmax(apart, initial=0.0) <= 1e-4 * size),
        f"{name} must be symmetric, got another matrix: pass (A + A.T) / 2 if it is meant to be",
    )
    return array


def _labels(name: str, values: Any, many: int) -> np.ndarray | None:
    if values is None:
        return None
    array = np.asarray(values)
    require(
        array.shape == (many,) and array.dtype.kind in "iu",
        f"{name} must have a whole number for each of {many} clients, got {short(values)}",
    )
    return array


def _heat_map(figure: Figure, axes: Axes, shown: np.ndarray, words: str, aspect: Any = "equal") -> None:
    """Blue above 0, orange below; white is 0 whatever the range."""
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("relation", ["#8C3B00", "#D55E00", "white", WIN, "#00395C"])
    off = shown[~np.eye(len(shown), dtype=bool)]
    # a diagonal of ones would hide small differences beside it
    limit = np.nanmax(np.abs(off), initial=0.0) or np.nanmax(np.abs(shown), initial=0.0) or 1.0
    axes.set_facecolor("#D9D9D9")
    image = axes.imshow(
        np.ma.masked_invalid(shown),
        cmap=colours,
        vmin=-limit,
        vmax=limit,
        interpolation="nearest",
        aspect=aspect,
    )
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.set_yticks([])
    more = bool((np.nan_to_num(np.abs(shown)) > limit * (1 + 1e-9)).any())
    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02, extend="max" if more else "neither")
    bar.set_label(words)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]


def _strip(axes: Axes, latent: np.ndarray) -> str:
    """A coloured piece for each run of equal latent clusters, each cluster in a colour of its own."""
    from matplotlib.patches import Rectangle

    labels, place = np.unique(latent, return_inverse=True)
    colours = cluster_colours(len(labels))
    edges = np.concatenate([[0], np.flatnonzero(np.diff(latent)) + 1, [len(latent)]])
    across = axes.get_xaxis_transform()
    for first, last in itertools.pairwise(edges):
        box = Rectangle(
            (first - 0.5, 1.012), last - first, 0.03, transform=across, clip_on=False, linewidth=0,
            color=colours[place.reshape(-1)[first]],
        )  # fmt: skip
        axes.add_patch(box)
        if len(edges) <= PIECES:
            axes.text(
                (first + last) / 2 - 0.5, 1.05, str(latent[first]), transform=across, ha="center", va="bottom",
                fontsize=8,
            )  # fmt: skip
    axes.text(-0.01, 1.05, "latent", transform=axes.transAxes, ha="right", va="bottom", fontsize=8, color=GREY)
    return "The strip above: latent clusters."


def _off_diagonal(matrix: np.ndarray) -> tuple[float, float]:
    """Least and largest value of two different ones; NaN without any."""
    off = matrix[~np.eye(len(matrix), dtype=bool)]
    off = off[~np.isnan(off)]
    return (float(off.min()), float(off.max())) if len(off) else (np.nan, np.nan)


def _told(matrix: np.ndarray, group: np.ndarray | None) -> str:
    """The least similarity within a cluster and the largest across two."""
    if group is None:
        low, high = _off_diagonal(matrix)
        return "" if np.isnan(low) else f" Of two clients: {low:.2f} to {high:.2f}."
    same = group[:, None] == group
    pairs = ~np.eye(len(matrix), dtype=bool) & ~np.isnan(matrix)
    words = []
    if (same & pairs).any():
        words.append(f"least within a cluster {matrix[same & pairs].min():.2f}")
    if (~same & pairs).any():
        words.append(f"largest across two {matrix[~same & pairs].max():.2f}")
    said = ", ".join(words)
    return f" {said[0].upper()}{said[1:]}." if said else ""


def _write(axes: Axes, shown: np.ndarray, form: str) -> None:
    """The numbers, white on dark squares."""
    off = shown[~np.eye(len(shown), dtype=bool)]
    limit = np.nanmax(np.abs(off), initial=0.0) or 1.0
    for row, column in np.ndindex(*shown.shape):
        value = shown[row, column]
        if np.isfinite(value):
            dark = abs(value) > 0.45 * limit
            axes.text(
                column, row, form.format(value + 0.0), ha="center", va="center",
                fontsize=7, color="white" if dark else "black",
            )  # fmt: skip
