"""How the clients change from round to round."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fedjax_het.check import known, positive_int, require
from fedjax_het.federation import SPLITS, Federation
from fedjax_het.heterogeneity.counts import labelled
from fedjax_het.phases import Season, Switch
from fedjax_het.plots.drift import changed_share, label_totals, phase_by_round, sizes_by_phase
from fedjax_het.plots.style import GREY, WIN, canvas, finish, key, styled
from fedjax_het.transforms import expect_federation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["phase_timeline"]

CLASSES = 12
"""Classes that have an area of their own; the rarer ones share one."""

CLIENTS = 200
"""Clients of which each has a line; of more, evenly spaced ones."""

SEARCHED = 1000
"""Rounds in which the last phase of a schedule of one's own is looked for."""

NAMED = 25
"""Clients up to which lines carry their number."""


def phase_timeline(federation: Federation, *, rounds: int | None = None, split: str = "train") -> Figure:
    """What changes when: the phase of each round, the rows of each class in it, and who has changed how much.

    Args:
        federation: of at least two phases.
        rounds: how many are shown; by default so many that all phases are seen, and those of a season twice.
        split: "train", "valid" or "test".

    Returns:
        A matplotlib Figure of three panels over the rounds. In the last a line is a client, and its colour the
        share of its rows that it did not hold in phase 0 or saw otherwise there, such as turned or with another
        label.

    Raises:
        TypeError: not a Federation.
        ValueError: a federation of one phase, no such split.
    """
    expect_federation("federation", federation)
    known("split", split, SPLITS)
    require(
        federation.spec.phases > 1,
        "federation must have phases for this, got one: make it change by fh.heterogeneity.temporal",
    )
    if rounds is not None:
        rounds = positive_int("rounds", rounds, remedy="it is how many are shown")
    phase = phase_by_round(federation, rounds or _horizon(federation))
    edges = np.concatenate([[0], np.flatnonzero(np.diff(phase)) + 1, [len(phase)]])
    during = phase[edges[:-1]]
    many = federation.num_clients
    ids = np.arange(many) if many <= CLIENTS else np.linspace(0, many - 1, CLIENTS).round().astype(int)
    share = changed_share(federation, ids, split=split)[:, during]
    order = np.lexsort((-np.nan_to_num(share).mean(1), (np.nan_to_num(share) > 0).argmax(1)))
    # who never changes comes last
    order = order[np.argsort(~(np.nan_to_num(share[order]) > 0).any(1), kind="stable")]
    name = federation.spec.pool.name
    with styled():
        figure, panels = canvas(
            f"Phases by round: {federation.spec.phases} phases, {many:,} clients of {name}",
            rows=3,
            width=9.0,
            height=7.6,
        )
        panels[0].get_gridspec().set_height_ratios([0.55, 1.5, 1.6])  # pyright: ignore[reportOptionalMemberAccess]
        _schedule(panels[0], phase)
        _areas(figure, panels[1], federation, edges, during, split)
        image = _clients(panels[2], edges, share[order], ids[order])
        bar = figure.colorbar(image, ax=panels[2], location="bottom", shrink=0.45, aspect=35, pad=0.04)
        bar.set_label("share of a client's rows that differ from phase 0", fontsize=9)
        bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
        for axes in panels:
            axes.set_xlim(0, len(phase))
        for axes in panels[:2]:
            axes.tick_params(labelbottom=False)
        caption = (
            "Top: the phase of each round. Middle: rows of all clients together, as they see them. Bottom: a "
            "line is a client; dark where it holds other rows than in phase 0, or sees them otherwise. Grey: "
            "no rows."
        )
        if not np.nan_to_num(share).any():
            caption += " Nothing differs from phase 0."
        if len(ids) < many:
            caption += f" {CLIENTS} of {many:,} clients are drawn."
        return finish(figure, caption)


def _horizon(federation: Federation) -> int:
    """Rounds in which everything has been seen."""
    schedule: Any = federation.schedule
    if isinstance(schedule, Season):
        return int(schedule.length) * (int(schedule.once) + 2 * int(schedule.phases))
    if isinstance(schedule, Switch):
        last = int(np.asarray(schedule.at)[-1])
    else:
        phase = phase_by_round(federation, SEARCHED)
        last = int((phase == phase.max()).argmax())
    return last + max(1, round(last / 4))


def _schedule(axes: Axes, phase: np.ndarray) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.stairs(phase, np.arange(len(phase) + 1), color="black", linewidth=1.6, baseline=None)
    axes.set_ylim(-0.4, phase.max() + 0.4)
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=True, steps=[1, 2, 5, 10]))
    axes.set_ylabel("phase")


def _areas(
    figure: Figure, axes: Axes, federation: Federation, edges: np.ndarray, during: np.ndarray, split: str
) -> None:
    """Rows of each class, one on the other; of a federation without labels, rows."""
    import matplotlib
    from matplotlib.patches import Patch
    from matplotlib.ticker import StrMethodFormatter

    axes.set_ylabel("rows")
    if labelled(federation):
        total = label_totals(federation, split=split)
        often = np.sort(np.argsort(-total.sum(0), kind="stable")[:CLASSES])
        parts, names = total[:, often].T, [str(label) for label in often]
        colours = list(matplotlib.colormaps["viridis"](np.linspace(0, 1, len(often))))
        if len(often) < total.shape[1]:
            parts = np.vstack([parts, total.sum(1) - parts.sum(0)])
            names, colours = [*names, "others"], [*colours, GREY]
    else:
        parts, names, colours = sizes_by_phase(federation, split=split).sum(1)[None], [], [WIN]
    low = np.zeros(len(during))
    for part, colour in zip(parts, colours):
        high = low + part[during]
        axes.fill_between(
            edges,
            [*low, low[-1]],
            [*high, high[-1]],
            step="post",
            color=colour,
            edgecolor="white",
            linewidth=0.4,
        )
        low = high
    axes.set_ylim(0, max(float(low.max()), 1.0) * 1.03)
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.grid(visible=False, axis="x")
    if names:
        handles = [Patch(color=colour) for colour in colours]
        # from the top, as the areas lie
        key(figure, handles[::-1], names[::-1], "class")


def _clients(axes: Axes, edges: np.ndarray, share: np.ndarray, ids: np.ndarray) -> Any:
    axes.set_facecolor("#D9D9D9")
    image = axes.pcolormesh(edges, np.arange(len(share) + 1), np.ma.masked_invalid(share), vmin=0, vmax=1)
    axes.grid(visible=False)
    axes.set_ylim(len(share), 0)
    if len(share) <= NAMED:
        axes.set_yticks(np.arange(len(share)) + 0.5, [str(i) for i in ids], fontsize=7)
        axes.set_ylabel("client")
    else:
        axes.set_yticks([])
        axes.set_ylabel("clients, by when they change")
    axes.set_xlabel("round")
    return image
