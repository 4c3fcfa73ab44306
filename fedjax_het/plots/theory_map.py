"""A heat map over two kinds of heterogeneity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedjax_het.plots.style import canvas, finish, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["heat_map"]


def heat_map(
    title: str, x: np.ndarray, y: np.ndarray, values: np.ndarray, *, labels: tuple[str, str, str], caption: str
) -> Figure:
    """Values over a grid as colours, with lines of equal height.

    Args:
        title: what is shown.
        x: ascending [q].
        y: ascending [p].
        values: [p, q].
        labels: of x, of y and of the colours, with their units.
        caption: how to read it.
    """
    with styled():
        figure, (axes,) = canvas(title, width=7.4, height=5.2)
        mesh = axes.pcolormesh(x, y, values, shading="gouraud", cmap="Blues")
        if np.ptp(values) > 0:
            axes.contour(x, y, values, levels=6, colors="white", linewidths=0.8)
        bar = figure.colorbar(mesh, ax=axes, pad=0.02)
        bar.set_label(labels[2])
        bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        axes.grid(visible=False)
        return finish(figure, caption)
