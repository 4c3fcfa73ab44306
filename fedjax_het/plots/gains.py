"""What each client gains over a baseline, against how many rows it holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fedjax_het.check import require, short
from fedjax_het.engine import History
from fedjax_het.federation import Federation
from fedjax_het.heterogeneity.counts import sizes_of
from fedjax_het.metrics import gain
from fedjax_het.plots.series import WHO, Metric, by_client, metric_of, named
from fedjax_het.plots.style import LOSE, WIN, canvas, finish, plain, shorten, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["gain_by_size"]

DOTS = 2000
"""Clients of one method that are drawn; of more, evenly spaced ones by size."""


def gain_by_size(
    histories: History | Mapping[str, History],
    baseline: History,
    sizes: Federation | np.ndarray,
    metric: str = "accuracy",
    who: str = "personal",
    *,
    against: str = "local-only training",
    split: str = "test",
    groups: int = 5,
) -> Figure:
    """What each client gains over a baseline at the end, by how many rows it trains on; a panel a method.

    Args:
        histories: by method name; or one History.
        baseline: what a client would have anyway, such as the History of `local_only`.
        sizes: whose training rows count, of phase 0; or the rows of each client, [N].
        metric: such as "accuracy"; where less is better, the gain is the decrease.
        who: "personal", "shared" or "local"; of the baseline it is always the clients' own models.
        against: the baseline's name, for the text.
        split: "test" or "valid".
        groups: of clients of like size, whose median and middle half are drawn.

    Returns:
        A matplotlib Figure. Clients that both runs scored and that hold training rows, each client's mean over
        seeds.

    Raises:
        TypeError: something that is no History, or sizes that are no numbers.
        ValueError: nothing was evaluated, no history has this metric, no client was scored in both, or a client
            without a size.
    """
    methods = named(histories)
    found = by_client(methods, metric, who, split)
    base = by_client(named({against: baseline}), metric, "personal", split)[against]
    require(base is not None, f"baseline must hold each client's own model, got none of {metric!r}")
    assert base is not None
    rows, shown = _sizes(sizes), metric_of(metric)
    gains = {
        name: None if both is None else _gained(name, both, base, rows, shown) for name, both in found.items()
    }
    columns = min(len(gains), 3 if len(gains) < 10 else 4)
    lines = -(-len(gains) // columns)
    with styled():
        figure, panels = canvas(
            f"Gain over {against} by training rows",
            rows=lines,
            columns=columns,
            width=8.0 if columns < 3 else 10.0 if columns < 4 else 14.0,  # a title as wide as its panel
            height=4.2 if lines == 1 else 1.3 + 2.3 * lines,
            share=True,
        )
        for axes, (name, both) in zip(panels, gains.items()):
            _panel(axes, name, both, groups, " points" if shown.percent else "")
        for axes in panels[len(gains) :]:
            axes.set_visible(False)
        for place, axes in enumerate(panels):
            if place % columns == 0:
                axes.set_ylabel("gain (percentage points)" if shown.percent else f"gain in {shown.label}")
            if place + columns >= len(gains):
                axes.xaxis.set_tick_params(labelbottom=True)
                axes.set_xlabel("training rows of the client")
        caption = (
            f"A dot is a client, its mean over seeds ({WHO[who].split(',')[0]}); orange dots lose. Line and "
            "box: median and middle half of the clients of like size. rho: rank correlation of gain and size, "
            "below 0 where small clients gain more."
        )
        most = max((len(both[0]) for both in gains.values() if both is not None), default=0)
        caption += f" At most {DOTS:,} of {most:,} dots are drawn." if most > DOTS else ""
        return finish(figure, caption)


def _sizes(sizes: Any) -> np.ndarray:
    if isinstance(sizes, Federation):
        return sizes_of(sizes, split="train", phase=0)
    array = np.asarray(sizes)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"sizes must be a Federation or the rows of each client, got {short(sizes)}")
    require(array.ndim == 1, f"sizes must have shape [N], got {array.shape}: one entry a client")
    return array


def _gained(
    name: str,
    method: tuple[np.ndarray, np.ndarray],
    base: tuple[np.ndarray, np.ndarray],
    rows: np.ndarray,
    metric: Metric,
) -> tuple[np.ndarray, np.ndarray]:
    """(gains, in percentage points where the metric is a share; rows) of the clients that count."""
    ids, here, there = np.intersect1d(method[0], base[0], assume_unique=True, return_indices=True)
    require(
        len(ids) > 0,
        f"histories[{name!r}] and baseline must have scored some of the same clients, got none in common: "
        "evaluate both on the same sample",
    )
    require(
        int(ids.max()) < len(rows),
        f"sizes must have an entry for client {int(ids.max())}, got {len(rows)}: pass those of all clients",
    )
    gains = gain.gain(method[1][here], base[1][there], low_is_good=metric.lower)
    counts = np.isfinite(gains) & (rows[ids] > 0)
    return (100 if metric.percent else 1) * gains[counts], rows[ids][counts]


def _panel(axes: Axes, name: str, both: tuple[np.ndarray, np.ndarray] | None, groups: int, unit: str) -> None:
    if both is None:
        plain([axes.set_title(f"{shorten(name)}: - (no such model)")])
        return
    gains, rows = both
    order = np.argsort(rows, kind="stable")
    if len(order) > DOTS:
        order = order[np.linspace(0, len(order) - 1, DOTS).round().astype(int)]
    colours = np.where(gains[order] < 0, LOSE, WIN)
    axes.scatter(rows[order], gains[order], s=14, c=colours, alpha=0.6, linewidth=0)
    axes.axhline(0, color="black", linewidth=0.8)
    for group in gain.by_size(gains, rows, groups=groups):
        lower, median, upper = group.quartiles
        # wide enough to be seen where a group is one size
        left, right = group.least / 1.04, group.most * 1.04
        axes.fill_between(
            [left, right], lower, upper, facecolor="none", edgecolor="black", linewidth=1, zorder=3
        )
        axes.hlines(median, left, right, color="black", linewidth=2.4, zorder=3)
    if len(rows) and rows.max() > 4 * rows.min():
        _logarithmic(axes)
    rho = gain.size_correlation(gains, rows)
    mean = "-" if not len(gains) else f"{gains.mean():+.1f}{unit}" if unit else f"{gains.mean():+.3g}"
    words = f"{shorten(name)}: mean {mean}" + ("" if np.isnan(rho) else f", rho {rho:+.2f}")
    plain([axes.set_title(words)])


def _logarithmic(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(
        LogLocator(subs=(1, 2, 5) if high < 60 * low else (1, 3) if high < 3000 * low else (1,))
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.xaxis.set_minor_locator(NullLocator())
