"""Clients as dots in the plane: near each other if alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fedjax_het.check import known, require
from fedjax_het.federation import Federation
from fedjax_het.heterogeneity.counts import label_counts, labelled, sizes_of
from fedjax_het.plots.evidence import KINDS, Evidence, applies, evidence
from fedjax_het.plots.seen import expect_rows
from fedjax_het.plots.style import GREY, WIN, canvas, finish, key, looks, styled
from fedjax_het.plots.truth import UNITS, clusters_of, numbers_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["client_map", "in_the_plane"]

TITLES = {
    "labels": "by labels: P(y)",
    "tokens": "by tokens: P(token)",
    "features": "by features: P(x)",
    "both": "by features within labels: P(x | y)",
}

PRODUCT = "by features times target: P(x, y)"

AXES = {
    "labels": "Hellinger distance",
    "tokens": "Hellinger distance",
    "features": "standard deviations of a row",
    "both": "standard deviations of a row",
}

GROUPS = 14
"""Clusters or classes that have a colour and a mark of their own."""

NAMED = 20
"""Clients up to which dots carry their number."""

ALIKE = 0.95
"""Share of the clients of a random deal that lie within the ring."""


def client_map(
    federation: Federation,
    *,
    by: str | None = None,
    colour: str | None = None,
    split: str = "train",
    phase: int = 0,
) -> Figure:
    """Clients in the plane, near each other if they are alike; within the ring they differ by chance only.

    by="labels" is classical scaling of the Hellinger distances of label shares, by="tokens" of the shares of
    tokens in the targets; by="features" the plane of the
    means of a client's rows; by="both" that of the means of its rows within each label. Label skew shows in
    the first (and in the second, since other classes look different), a feature shift in the last two,
    exchanged labels in the last alone. The plane is that of the two leading principal components of the
    clients' vectors; how much of their variance it shows stands below.

    Args:
        federation: at least two clients with rows. Without labels "both" looks at the product of features and
            target, for a target of one number.
        by: "labels", "tokens", "features" or "both"; by default all that apply, side by side.
        colour: "cluster" (latent), "class" (the largest), "size", or a number of `truth` such as "angle"; by
            default the first of cluster, such a number, class and size that there is.
        split: "train", "valid" or "test".
        phase: of a federation that changes over time.

    Returns:
        A matplotlib Figure. Clients without rows are left out.

    Raises:
        TypeError: not a Federation.
        ValueError: no such split, phase, evidence or colour; fewer than two clients with rows.

    Reference: Torgerson, "Multidimensional scaling: I. Theory and method", Psychometrika 17, 1952.
    """
    holders = expect_rows(federation, split=split, phase=phase, least=2)
    kinds = [kind for kind in KINDS if applies(federation, kind)]
    if by is not None:
        known("by", by, KINDS)
        require(
            by in kinds,
            f"by must be one of {kinds}, got {by!r}: {federation.spec.pool.name!r} has no such rows",
        )
        kinds = [by]
    require(
        len(kinds) > 0,
        "federation must hold labels, tokens or numbers as features, got task "
        f"{federation.spec.pool.task!r} of {federation.spec.pool.name!r}: draw client_sizes",
    )
    what, values, grouped = _colours(federation, colour, holders, split, phase)
    size = sizes_of(federation, split=split, phase=phase)[holders]
    told = evidence(federation, kinds, holders, split=split, phase=phase)
    with styled():
        figure, panels = canvas(
            f"Clients by likeness: {len(holders):,} clients of {federation.spec.pool.name}",
            columns=len(kinds),
            width=3.0 + 3.1 * len(kinds),
            height=4.4,
        )
        for axes, kind, one in zip(panels, kinds, told):
            axes.set_title(PRODUCT if kind == "both" and not labelled(federation) else TITLES[kind])
            _panel(axes, kind, one, holders, size, values, grouped, what == "latent cluster")
        _legend(figure, panels, what, values, grouped)
        empty = federation.num_clients - len(holders)
        caption = (
            "A dot is a client, its area the rows; near each other: alike. Dashed ring: clients with "
            f"{100 * ALIKE:.0f} % of the rows would lie in it if rows were dealt at random. In brackets: how "
            "much of the variance between clients the plane shows."
        )
        caption += f" {empty} clients without rows are left out." if empty else ""
        caption += f" Phase {phase} of {federation.spec.phases}." if federation.spec.phases > 1 else ""
        return finish(figure, caption)


def in_the_plane(told: Evidence, rows: np.ndarray) -> tuple[np.ndarray, float, float]:
    """(coordinates [n, 2], share of the variance that they show, radius of the ring).

    Clients count by their rows: the vectors of small ones are mostly noise.

    Args:
        told: a vector a client, and the same of a random deal.
        rows: of each client, int [n].
    """
    place, share = _leading(told.values, rows)
    radius = np.hypot(*_leading(told.chance, rows)[0].T)
    order = np.argsort(radius)
    within = np.searchsorted(np.cumsum(rows[order]), ALIKE * rows.sum())
    return place, share, float(radius[order[min(within, len(order) - 1)]])


def _leading(values: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, float]:
    """The two leading principal components [n, 2], and their share of the variance (1 if there is none)."""
    weight = rows / rows.sum()
    off = values - weight @ values
    scaled = np.sqrt(weight)[:, None] * off
    if scaled.shape[1] <= len(scaled):
        power, axes = np.linalg.eigh(scaled.T @ scaled)
        axes = axes[:, ::-1][:, :2]
    else:
        power, left = np.linalg.eigh(scaled @ scaled.T)
        axes = scaled.T @ left[:, ::-1][:, :2] / np.sqrt(np.maximum(power[::-1][:2], 1e-30))
    # the sign of an axis is arbitrary: its largest entry is made positive, so that a picture is reproducible
    axes = axes * np.where(axes[np.abs(axes).argmax(0), range(axes.shape[1])] < 0, -1, 1)
    place = np.zeros((len(values), 2))
    place[:, : axes.shape[1]] = off @ axes
    total = float(np.maximum(power, 0).sum())
    return place, float(np.maximum(power[::-1][:2], 0).sum()) / total if total > 1e-24 else 1.0


def _colours(
    federation: Federation, colour: str | None, holders: np.ndarray, split: str, phase: int
) -> tuple[str, np.ndarray, bool]:
    """(what the colour says, its value for each client with rows, whether it names groups)."""
    cluster, numbers = clusters_of(federation), numbers_of(federation)
    there = [*(["cluster"] if cluster is not None else []), *numbers]
    there += ["class"] if labelled(federation) else []
    there.append("size")
    if colour is None:
        colour = there[0]
    known("colour", colour, there)
    if colour == "cluster" and cluster is not None:
        return "latent cluster", cluster[holders], len(np.unique(cluster[holders])) <= GROUPS
    if colour == "class":
        top = label_counts(federation, split=split, phase=phase)[holders].argmax(1)
        return "largest class", top, len(np.unique(top)) <= GROUPS
    if colour == "size":
        return "rows", sizes_of(federation, split=split, phase=phase)[holders], False
    unit = UNITS.get(colour.split("/")[0], "")
    return colour + (f" ({unit.strip()})" if unit else ""), numbers[colour][holders], False


def _panel(
    axes: Axes,
    kind: str,
    told: Evidence,
    holders: np.ndarray,
    rows: np.ndarray,
    values: np.ndarray,
    grouped: bool,
    named: bool,
) -> None:
    """One plane."""
    place, share, ring = in_the_plane(told, rows)
    many = len(holders)
    size = np.clip(5000 / many, 3, 45) * np.clip(rows / rows.mean(), 0.25, 4)
    alpha = 0.85 if many <= 500 else 0.5
    if grouped:
        found = np.unique(values)
        for style, group in zip(looks(len(found)), found):
            axes.scatter(
                *place[values == group].T, s=size[values == group], color=style["color"],
                marker=style["marker"], alpha=alpha, linewidth=0,
            )  # fmt: skip
    else:
        axes.scatter(*place.T, s=size, c=values, alpha=alpha, linewidth=0, **_scale(values))
    turn = np.linspace(0, 2 * np.pi, 200)
    axes.plot(ring * np.cos(turn), ring * np.sin(turn), color="black", linewidth=1, linestyle=(0, (4, 2)))
    if many <= NAMED and not named:
        for client, (x, y) in zip(holders, place):
            axes.annotate(str(client), (x, y), (3, 3), textcoords="offset points", fontsize=7, color=GREY)
    # never narrower than the ring, so that an IID split does not look like a skewed one
    reach = 1.15 * max(ring, float(np.abs(place).max()), 1e-9)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-reach, reach)
    axes.set_box_aspect(1)
    axes.locator_params(nbins=5)
    axes.set_xlabel(f"{AXES[kind]} ({100 * share:.0f} %)", fontsize=9)


def _scale(values: np.ndarray) -> dict[str, Any]:
    """Colours of numbers: on a logarithmic scale where they span decades."""
    from matplotlib.colors import LogNorm, Normalize

    low, high = float(values.min()), float(values.max())
    wide = low > 0 and high > 30 * low
    return {"cmap": "viridis", "norm": LogNorm(low, high) if wide else Normalize(low, max(high, low + 1e-9))}


def _legend(figure: Figure, panels: list[Axes], what: str, values: np.ndarray, grouped: bool) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.lines import Line2D

    if not grouped:
        if float(np.ptp(values)) > 0:
            bar = figure.colorbar(ScalarMappable(**_scale(values)), ax=panels, shrink=0.75, pad=0.015)
            bar.set_label(what)
            bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
        return
    found = np.unique(values)
    handles = [
        Line2D([], [], linestyle="none", marker=style["marker"], color=style["color"] or WIN)
        for style in looks(len(found))
    ]
    key(figure, handles, [str(group) for group in found], what)
