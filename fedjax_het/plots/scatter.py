"""Rows of a few clients in the plane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fedjax_het.federation import Federation
from fedjax_het.heterogeneity.counts import labelled, sizes_of
from fedjax_het.heterogeneity.rows import expect_numbers
from fedjax_het.plots.directions import leading, standardised
from fedjax_het.plots.seen import few, flat, taken
from fedjax_het.plots.style import canvas, finish, key, looks, styled
from fedjax_het.plots.truth import said

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["sample_rows"]

CLIENTS = 12
"""Clients that fit in a picture."""

ROWS = 250
"""Rows of a client that are drawn, at most."""

CLASSES = 7
"""Classes that are told apart by colour and mark; of more, the number of the class is a colour."""


def sample_rows(
    federation: Federation, *, clients: int | Sequence[int] = 8, split: str = "train", phase: int = 0
) -> Figure:
    """Rows of a few clients along the two leading principal components, after all transforms; a panel a client.

    Clouds at different places: P(x) differs. The same cloud in other colours: P(y | x) differs.

    Args:
        federation: rows of numbers. Features are standardised, unless they are pixels.
        clients: which; or how many, 12 at most, see `sample_images`.
        split: "train", "valid" or "test".
        phase: of a federation that changes over time.

    Returns:
        A matplotlib Figure. Colours are labels, or targets.

    Raises:
        TypeError: not a Federation, clients that are not whole numbers.
        ValueError: tokens, no such split, phase or clients.
    """
    expect_numbers(federation)
    ids = few(federation, clients, split=split, phase=phase, most=CLIENTS)
    size = sizes_of(federation, split=split, phase=phase)[ids]
    many = np.minimum(size, ROWS)
    most = max(int(many.max()), 1)
    position = np.arange(most) * np.maximum(size[:, None], 1) // np.maximum(many[:, None], 1)
    x, y = taken(federation, ids, position, split=split, phase=phase)
    held = np.arange(most) < many[:, None]
    owner = np.repeat(np.arange(len(ids)), many)
    place, share = _plane(flat(x[held]), federation.spec.pool.feature_shape)
    value = y[held].reshape(len(owner), -1)[:, 0]
    columns = min(len(ids), 4)
    rows = -(-len(ids) // columns)
    with styled():
        figure, panels = canvas(
            f"Rows of clients: {len(ids)} of {federation.num_clients:,} clients of {federation.spec.pool.name}",
            rows=rows,
            columns=columns,
            width=2.2 + 2.1 * columns,
            height=1.4 + 2.2 * rows,
            share=True,
        )
        grouped = labelled(federation) and int(federation.spec.pool.num_classes or 0) <= CLASSES
        scale = {"vmin": float(value.min()), "vmax": float(max(value.max(), value.min() + 1e-9))}
        shown: Any = None
        for number, axes in enumerate(panels):
            if number >= len(ids):
                axes.set_visible(False)
                continue
            axes.scatter(*place.T, s=4, color="#D0D0D0", linewidth=0, rasterized=True)
            mine, label = place[owner == number], value[owner == number]
            if grouped:
                style = looks(int(federation.spec.pool.num_classes or 0))
                for one in np.unique(label).astype(int):
                    look = {"color": style[one]["color"], "marker": style[one]["marker"]}
                    axes.scatter(*mine[label == one].T, s=12, linewidth=0, alpha=0.8, **look)
            else:
                shown = axes.scatter(*mine.T, s=12, linewidth=0, alpha=0.8, c=label, cmap="viridis", **scale)
            words = said(federation, int(ids[number]), 1)
            axes.set_title(", ".join([f"client {ids[number]}", *words]), fontsize=9)
        _explain(figure, panels, federation, shown)
        caption = (
            "Coloured: rows of the client; grey: those of all clients shown. Clouds at other places: features "
            "differ; the same cloud in other colours: concepts differ. The plane shows "
            f"{100 * share:.0f} % of the variance."
        )
        caption += f" At most {ROWS} rows of a client are drawn." if (size > ROWS).any() else ""
        caption += f" Phase {phase} of {federation.spec.phases}." if federation.spec.phases > 1 else ""
        return finish(figure, caption)


def _plane(x: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, float]:
    """(coordinates [n, 2], share of the variance that they show)."""
    mean, unit = standardised(x, shape)
    z = (x - mean) * unit
    axes = leading(z, 2)
    place = np.zeros((len(x), 2))
    place[:, : axes.shape[1]] = z @ axes
    total = float((z**2).sum())
    return place, float((place**2).sum()) / total if total > 0 else 1.0


def _explain(figure: Figure, panels: list[Any], federation: Federation, shown: Any) -> None:
    """The legend of the classes, or the scale of the colours."""
    from matplotlib.lines import Line2D

    what = "class" if labelled(federation) else "target"
    if shown is not None:
        bar = figure.colorbar(shown, ax=panels, shrink=0.75, pad=0.015)
        bar.set_label(what)
        bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
        return
    classes = int(federation.spec.pool.num_classes or 0)
    handles = [
        Line2D([], [], linestyle="none", marker=style["marker"], color=style["color"])
        for style in looks(classes)
    ]
    key(figure, handles, [str(label) for label in range(classes)], what)
