"""A strip above the axes that says which latent cluster each column belongs to."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from fedjax_het.plots.style import GREY, looks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["strip"]

NAMED = 25
"""Pieces up to which each carries its cluster's number."""


def strip(axes: Axes, cluster: np.ndarray, begin: float, end: float) -> str:
    """Draw a coloured piece for each run of equal clusters; returns the words that explain it.

    Args:
        axes: above which it lies.
        cluster: of each column, in their order, int [n].
        begin: where the first column begins, in data coordinates.
        end: where the last one ends.
    """
    from matplotlib.patches import Rectangle

    if not len(cluster):
        return ""
    edges = np.concatenate([[0], np.flatnonzero(np.diff(cluster)) + 1, [len(cluster)]])
    style = looks(len(edges))
    across = axes.get_xaxis_transform()
    for number, (first, last) in enumerate(itertools.pairwise(edges)):
        left, right = (begin + (end - begin) * place / len(cluster) for place in (first, last))
        axes.add_patch(
            Rectangle(
                (left, 1.012), right - left, 0.03, transform=across, clip_on=False, linewidth=0,
                color=style[number]["color"],
            )
        )  # fmt: skip
        if len(edges) <= NAMED:
            axes.text(
                (left + right) / 2, 1.05, str(cluster[first]), transform=across, ha="center", va="bottom",
                fontsize=8,
            )  # fmt: skip
    axes.text(-0.01, 1.05, "cluster", transform=axes.transAxes, ha="right", va="bottom", fontsize=8, color=GREY)
    return " The strip above shows latent clusters."
