"""What the clients hold: which labels, and how many rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fedjax_het.check import require, short
from fedjax_het.federation import Federation
from fedjax_het.heterogeneity.counts import label_counts, sizes_of
from fedjax_het.metrics import fairness
from fedjax_het.plots.order import side_by_side
from fedjax_het.plots.strip import strip
from fedjax_het.plots.style import GREY, WIN, canvas, finish, logarithmic, steps, styled
from fedjax_het.plots.truth import clusters_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["client_sizes", "label_counts", "label_distribution"]

BUBBLES = 50
"""Clients up to which counts are bubbles; of more, shares are a heat map."""

COLUMNS = 2000
"""Clients that a heat map can show."""

NAMED = 60
"""Clients or classes up to which all are numbered."""

CAPTION = {"train": "training rows", "valid": "validation rows", "test": "test rows"}


def label_distribution(federation: Federation | np.ndarray, *, split: str = "train", phase: int = 0) -> Figure:
    """Which labels each client holds: bubbles for up to 50 clients, a heat map of shares for more.

    Args:
        federation: of labelled rows; or counts [N, K].
        split: "train", "valid" or "test".
        phase: of a federation that changes over time.

    Returns:
        A matplotlib Figure. Alike clients are neighbours. Latent clusters, where there are any, stand side by
        side under a strip that names them. Clients without rows are on the right.

    Raises:
        TypeError: neither a Federation nor an array.
        ValueError: rows without labels, no such split or phase, counts that are negative or not [N, K].
    """
    given = isinstance(federation, Federation)
    counts = label_counts(federation, split=split, phase=phase) if given else _counts(federation, 2, "[N, K]")
    what = CAPTION[split] if given else "rows"
    name = f" of {federation.spec.pool.name}" if isinstance(federation, Federation) else ""
    clients, classes = counts.shape
    total = counts.sum(1)
    with styled():
        figure, (axes,) = canvas(
            f"Labels by client: {_many(clients)} clients, {_many(counts.sum())} {what}{name}",
            height=float(np.clip(1.6 + 0.27 * classes, 3.2, 8)),
        )
        draw = _bubbles if clients <= BUBBLES else _heat_map
        note = draw(figure, axes, counts, total, clusters_of(federation) if given else None)
        if classes <= NAMED:
            axes.set_yticks(
                range(classes), [str(c) for c in range(classes)], fontsize=9 if classes <= 25 else 6
            )
        axes.set_ylabel("class")
        held = (counts > 0).sum(1)[total > 0]
        words = (
            f" Half of the clients hold {np.median(held):.0f} of {classes} classes or fewer."
            if len(held)
            else ""
        )
        return finish(figure, note + words + _phase(federation, phase))


def client_sizes(federation: Federation | np.ndarray, *, split: str = "train", phase: int = 0) -> Figure:
    """How many rows each client holds, from the largest down; the Lorenz curve with the Gini coefficient.

    Args:
        federation: any; or sizes [N].
        split: "train", "valid" or "test".
        phase: of a federation that changes over time.

    Raises:
        TypeError: neither a Federation nor an array.
        ValueError: no such split or phase, sizes that are negative or not [N].
    """
    given = isinstance(federation, Federation)
    size = sizes_of(federation, split=split, phase=phase) if given else _counts(federation, 1, "[N]")
    what = CAPTION[split] if given else "rows"
    name = f" of {federation.spec.pool.name}" if isinstance(federation, Federation) else ""
    ordered = np.sort(size)[::-1]
    clients, total = len(ordered), float(ordered.sum())
    with styled():
        title = f"Rows by client: {_many(clients)} clients, {_many(total)} {what}{name}"
        figure, (axes, beside) = canvas(title, columns=2, width=9.6, height=3.8)
        axes.get_gridspec().set_width_ratios([2.2, 1])  # pyright: ignore[reportOptionalMemberAccess]
        axes.stairs(*steps(ordered), fill=True, color=WIN, alpha=0.75, linewidth=0)
        axes.set_xlim(0.5, clients + 0.5)
        axes.set_xlabel("clients, from the largest to the smallest")
        axes.set_ylabel(what)
        if ordered[-1] > 0 and ordered[0] > 30 * ordered[-1]:
            axes.set_ylim(ordered[-1] / 2, ordered[0] * 1.5)
            logarithmic(axes)
        axes.grid(visible=False, axis="x")
        for value, words in ((total / clients, "mean"), (float(np.median(ordered)), "median")):
            axes.axhline(value, color="black", linewidth=1, linestyle="-" if words == "mean" else (0, (4, 2)))
        # where the bars are lowest there is room for the words
        _levels(axes, total / clients, float(np.median(ordered)), clients)
        tenth = ordered[: max(1, round(clients / 10))].sum() / total if total else 0.0
        gini = abs(float(fairness.gini(ordered.astype(float), np.ones(clients, bool)))) if total else 0.0
        caption = (
            f"Largest {_many(ordered[0])}, median {_many(np.median(ordered))}, smallest {_many(ordered[-1])}. "
            f"The largest tenth of the clients holds {100 * tenth:.0f} % of the rows. "
            f"Gini {gini:.2f}, twice the area on the right (0: all hold as much, 1: one holds all)."
        )
        _lorenz(beside, ordered)
        empty = int((ordered == 0).sum())
        caption += f" {empty} hold none." if empty else ""
        return finish(figure, caption + _phase(federation, phase))


def _counts(values: Any, rank: int, shape: str) -> np.ndarray:
    """An array of counts of this rank."""
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"federation must be a Federation or an array {shape}, got {short(values)}")
    require(
        array.ndim == rank and array.size > 0,
        f"federation must be a Federation or an array {shape}, got shape {array.shape}: one entry a client",
    )
    require(
        bool(np.isfinite(array).all() and (array >= 0).all()),
        "counts must be finite and >= 0, got others: they are numbers of rows",
    )
    return array


def _many(count: float) -> str:
    return f"{count:,.0f}"


def _phase(federation: Any, phase: int) -> str:
    many = federation.spec.phases if isinstance(federation, Federation) else 1
    return f" Phase {phase} of {many}." if many > 1 else ""


def _beside(what: str, cluster: np.ndarray | None) -> str:
    return f"{what}, alike ones side by side" + ("" if cluster is None else " within their cluster")


def _bubbles(
    figure: Figure, axes: Axes, counts: np.ndarray, total: np.ndarray, cluster: np.ndarray | None
) -> str:
    """A circle a client and class, its area in proportion to the rows."""
    order = side_by_side(counts / np.maximum(total, 1e-30)[:, None], total, cluster)
    client, label = np.nonzero(counts[order])
    rows = counts[order][client, label]
    largest = max(float(counts.max()), 1.0)
    # in points; a little wider than its cell, since neighbours are seldom both the largest
    cell = min(1.3 * 6.6 / len(counts), 0.27) * 72
    axes.scatter(client, label, s=rows / largest * cell**2 * 0.9, color=WIN, alpha=0.8, linewidth=0, zorder=3)
    axes.set_xlim(-0.7, len(counts) - 0.3)
    axes.set_ylim(-0.7, counts.shape[1] - 0.3)
    axes.set_xticks(range(len(counts)), [str(i) for i in order], fontsize=9 if len(counts) <= 25 else 7)
    axes.set_xlabel(_beside("client", cluster))
    empty = int((total == 0).sum())
    words = f"Area: rows of the class; the largest circle is {_many(largest)} rows."
    words += f" {empty} clients hold none and are on the right." if empty else ""
    held = len(counts) - empty
    return words + ("" if cluster is None else strip(axes, cluster[order[:held]], -0.5, held - 0.5))


def _heat_map(
    figure: Figure, axes: Axes, counts: np.ndarray, total: np.ndarray, cluster: np.ndarray | None
) -> str:
    """A column a client, the share of each class in its rows."""
    from matplotlib.ticker import PercentFormatter

    share = counts / np.maximum(total, 1e-30)[:, None]
    order = side_by_side(share, total, cluster, COLUMNS)
    image = axes.imshow(
        share[order].T, aspect="auto", origin="lower", interpolation="nearest", vmin=0, vmax=1,
        extent=(0.5, len(counts) + 0.5, -0.5, counts.shape[1] - 0.5),
    )  # fmt: skip
    bar = figure.colorbar(image, ax=axes, format=PercentFormatter(1.0), pad=0.015)
    bar.set_label("share of the client's rows")
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    axes.grid(visible=False)
    axes.set_xlabel(_beside("clients", cluster))
    few = f" {COLUMNS:,} of them are drawn." if len(counts) > COLUMNS else ""
    few += f" {int((total == 0).sum())} hold none and are on the right." if (total == 0).any() else ""
    words = f"A column is a client.{few}"
    if cluster is None:
        return words
    held = order[total[order] > 0]
    return words + strip(axes, cluster[held], 0.5, 0.5 + len(counts) * len(held) / len(order))


def _levels(axes: Axes, mean: float, median: float, clients: int) -> None:
    """Names of the two lines, at the right where the bars are lowest; the upper one above its line."""
    above, below = (
        ((mean, "mean"), (median, "median")) if mean >= median else ((median, "median"), (mean, "mean"))
    )
    for (value, words), side in ((above, "bottom"), (below, "top")):
        axes.annotate(
            f"{words} {_many(value)}", (clients + 0.5, value), (-3, 2 if side == "bottom" else -2),
            textcoords="offset points", ha="right", va=side, fontsize=9, color=GREY,
        )  # fmt: skip


def _lorenz(axes: Axes, ordered: np.ndarray) -> None:
    """The share of rows that the smallest clients hold together; the bow below the diagonal is Gini's."""
    from matplotlib.ticker import PercentFormatter

    held = np.concatenate([[0.0], np.cumsum(ordered[::-1], dtype=float)])
    place = np.linspace(0, len(ordered), min(len(held), 1001)).round().astype(int)
    x = place / len(ordered)
    y = held[place] / held[-1] if held[-1] > 0 else x
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 2)))
    axes.plot(x, y, color=WIN)
    axes.fill_between(x, y, x, color=WIN, alpha=0.15, linewidth=0)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))
    axes.set_box_aspect(1)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("clients, the smallest first")
    axes.set_ylabel("rows they hold together")
