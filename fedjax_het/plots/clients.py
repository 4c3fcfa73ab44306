"""How a metric is spread over clients, and what each client gains over a baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fedjax_het.check import require
from fedjax_het.engine import History
from fedjax_het.metrics import fairness
from fedjax_het.plots.series import WHO, Metric, by_client, metric_of, named
from fedjax_het.plots.style import GREY, LOSE, WIN, canvas, finish, looks, plain, shorten, steps, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["client_distribution", "client_gain"]

DOTS = 400
"""Clients of one method that are drawn as dots; of more, evenly spaced ones from worst to best."""

NAMED = 40
"""Clients up to which bars carry the client's id."""


def client_distribution(
    histories: History | Mapping[str, History],
    metric: str = "accuracy",
    who: str = "personal",
    *,
    split: str = "test",
) -> Figure:
    """How each method's clients fare at the end: a dot a client, a box for the middle half, worst tenth, mean.

    Args:
        histories: by method name; each client's value is its mean over seeds.
        metric: such as "accuracy".
        who: "personal", "shared" or "local".
        split: "test" or "valid".

    Returns:
        A matplotlib Figure, methods from the best mean down; a method without such a model has a dash.

    Raises:
        TypeError: something that is no History.
        ValueError: nothing was evaluated, or no history has this metric.
    """
    histories = named(histories)
    found = by_client(histories, metric, who, split)
    shown = metric_of(metric)
    values = {name: both[1] for name, both in found.items() if both is not None}
    sign = 1 if shown.lower else -1
    order = sorted(values, key=lambda name: sign * _mean(values[name]))
    order += [name for name in found if found[name] is None]
    style = dict(zip(found, looks(len(found))))
    most = max(len(v) for v in values.values())
    with styled():
        figure, (axes,) = canvas(f"{shown.words} of each client at the end", height=1.9 + 0.42 * len(order))
        axes.set_title(WHO[who].split(",")[0], color=GREY, pad=18)
        for row, name in enumerate(order):
            if name in values:
                _strip(axes, row, values[name], shown, style[name])
        _percent(axes.xaxis, shown)
        axes.set_xlabel(shown.label)
        axes.set_yticks(range(len(order)), [shorten(name) for name in order])
        plain(axes.get_yticklabels())
        axes.set_ylim(len(order) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        _column(axes, 1.09, "worst tenth", [_cell(values.get(n), shown, worst=True) for n in order])
        _column(axes, 1.22, "mean", [_cell(values.get(n), shown, worst=False) for n in order])
        dots = (
            "A dot: one client"
            if most <= DOTS
            else f"Dots: {DOTS} of up to {most:,} clients, evenly from worst to best, each"
        )
        caption = f"{dots}, its mean over seeds. Box: middle half and median. Diamond: mean of the worst tenth."
        if len(values) < len(order):
            caption += " -: no such model."
        return finish(figure, caption)


def client_gain(
    histories: History | Mapping[str, History],
    baseline: History,
    metric: str = "accuracy",
    who: str = "personal",
    *,
    against: str = "local-only training",
    split: str = "test",
) -> Figure:
    """What each client gains over a baseline at the end, sorted; one panel a method, the losers counted.

    Args:
        histories: by method name; or one History.
        baseline: what a client would have anyway, such as the History of `local_only`.
        metric: such as "accuracy"; where less is better, the gain is the decrease.
        who: "personal", "shared" or "local"; of the baseline it is always the clients' own models.
        against: the baseline's name, for the text.
        split: "test" or "valid".

    Returns:
        A matplotlib Figure. Clients that both runs scored, each client's mean over seeds.

    Raises:
        TypeError: something that is no History.
        ValueError: nothing was evaluated, no history has this metric, or no client was scored in both.
    """
    methods = named(histories)
    found = by_client(methods, metric, who, split)
    base = by_client(named({against: baseline}), metric, "personal", split)[against]
    shown = metric_of(metric)
    gains = {name: None if both is None else _gain(name, both, base, shown) for name, both in found.items()}
    columns = min(len(gains), 1 if len(gains) == 1 else 2 if len(gains) < 5 else 3 if len(gains) < 13 else 4)
    rows = -(-len(gains) // columns)
    with styled():
        figure, panels = canvas(
            f"Gain in {shown.words if metric == 'auc' else metric.replace('_', ' ')} over {against}",
            rows=rows,
            columns=columns,
            width=8.0 if columns < 3 else 10.0 if columns < 4 else 14.0,  # a title as wide as its panel
            height=4.5 if rows == 1 else 1.3 + 2.1 * rows,
            share=True,
        )
        for axes, (name, gain) in zip(panels, gains.items()):
            _bars(axes, name, gain, shown, alone=len(gains) == 1)
        for axes in panels[len(gains) :]:
            axes.set_visible(False)
        for place, axes in enumerate(panels):
            if place % columns == 0:
                axes.set_ylabel("gain (percentage points)" if shown.percent else f"gain in {shown.label}")
            if place + columns >= len(gains):
                axes.xaxis.set_tick_params(labelbottom=True)
                axes.set_xlabel("clients, sorted by gain")
        caption = f"A bar is a client, its mean over seeds ({WHO[who].split(',')[0]}). Orange bars lose."
        return finish(figure, caption)


def _percent(axis: Any, metric: Metric) -> None:
    from matplotlib.ticker import PercentFormatter

    if metric.percent:
        axis.set_major_formatter(PercentFormatter(1.0))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else np.inf


def _worst(values: np.ndarray, metric: Metric) -> float:
    """Mean over the worst tenth of clients."""
    everyone = np.ones(len(values), bool)
    return float(fairness.worst_decile(values, everyone, low_is_good=metric.lower))


def _cell(values: np.ndarray | None, metric: Metric, *, worst: bool) -> str:
    if values is None or not len(values):
        return "-"
    return metric.text(_worst(values, metric) if worst else _mean(values))


def _strip(axes: Axes, row: int, values: np.ndarray, metric: Metric, style: dict[str, Any]) -> None:
    """One method's dots, box and worst tenth."""
    values = np.sort(values[np.isfinite(values)])
    if not len(values):
        return
    shown = values if len(values) <= DOTS else values[np.linspace(0, len(values) - 1, DOTS).round().astype(int)]
    # a fixed zigzag spreads equal values, where random jitter would draw another picture every time
    offset = 0.26 * (np.arange(len(shown)) * 0.618034 % 1 - 0.5) * 2
    axes.plot(
        shown,
        row + offset,
        linestyle="none",
        marker="o",
        markersize=3.5,
        color=style["color"],
        alpha=0.45,
        markeredgewidth=0,
    )
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    axes.fill_between(
        [low, high], row - 0.17, row + 0.17, facecolor="none", edgecolor="black", linewidth=1.1, zorder=3
    )
    axes.vlines(middle, row - 0.17, row + 0.17, color="black", linewidth=2.4, zorder=3)
    axes.plot(
        _worst(values, metric),
        row,
        linestyle="none",
        marker="D",
        markersize=7,
        color=style["color"],
        markeredgecolor="black",
        zorder=4,
    )


def _column(axes: Axes, x: float, title: str, cells: list[str]) -> None:
    """Numbers beside the rows, right of the axes."""
    across = axes.get_yaxis_transform()
    axes.text(x, -0.75, title, transform=across, ha="right", va="bottom", fontsize=8, color=GREY)
    for row, cell in enumerate(cells):
        axes.text(x, row, cell, transform=across, ha="right", va="center", fontsize=9)


def _gain(
    name: str, method: tuple[np.ndarray, np.ndarray], base: tuple[np.ndarray, np.ndarray] | None, metric: Metric
) -> tuple[np.ndarray, np.ndarray]:
    """(client ids, gains), the worst first."""
    require(base is not None, f"baseline must hold each client's own model, got none of {metric.name!r}")
    assert base is not None
    ids, here, there = np.intersect1d(method[0], base[0], assume_unique=True, return_indices=True)
    require(
        len(ids) > 0,
        f"histories[{name!r}] and baseline must have scored some of the same clients, got none in common: "
        "evaluate both on the same sample",
    )
    gain = method[1][here] - base[1][there]
    gain = -gain if metric.lower else gain
    order = np.argsort(gain, kind="stable")
    return ids[order], gain[order]


def _bars(
    axes: Axes, name: str, both: tuple[np.ndarray, np.ndarray] | None, metric: Metric, *, alone: bool
) -> None:
    """One method's gains; steps rather than bars, so that a million clients are one shape."""
    if both is None:
        plain([axes.set_title(f"{shorten(name)}: - (no such model)")])
        return
    ids, gain = both
    gain = 100 * gain if metric.percent else gain
    heights, edges = steps(gain)
    for colour, part in ((LOSE, np.minimum(heights, 0)), (WIN, np.maximum(heights, 0))):
        axes.stairs(
            np.where(np.isfinite(part), part, 0), edges, baseline=0, fill=True, color=colour, linewidth=0
        )
    axes.axhline(0, color="black", linewidth=0.8)
    lose, win = int((gain < 0).sum()), int((gain > 0).sum())
    finite = gain[np.isfinite(gain)]
    mean = f"{finite.mean():+.1f} points" if metric.percent else f"{finite.mean():+.3g}"
    plain([axes.set_title(f"{shorten(name)}: {lose} lose, {win} gain, mean {mean}")])
    if alone and len(ids) <= NAMED:
        axes.set_xticks(np.arange(1, len(ids) + 1), [str(i) for i in ids], fontsize=7, rotation=90)
    axes.set_xlim(0, len(gain) + 1)
    axes.grid(visible=False, axis="x")
