"""Reads a picture back: lines, words, and what is under the legend."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

__all__ = ["caption", "key_words", "lines", "overlaps"]


def lines(figure: Figure) -> list[np.ndarray]:
    """(x, y) [2, P] of each line that has points."""
    found = [np.asarray(line.get_data(), float) for line in figure.axes[0].get_lines()]
    return [line for line in found if line.size]


def key_words(figure: Figure) -> list[str]:
    """The legend's entries from the top."""
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def caption(figure: Figure) -> str:
    """The words below."""
    return " ".join(figure.get_supxlabel().split())


def overlaps(figure: Figure) -> bool:
    """Whether the legend covers a part of the axes, or leaves the figure."""
    figure.draw_without_rendering()
    (title,) = [text for text in figure.texts if text.get_text() == figure.get_suptitle()]
    words = [title, *(axes.title for axes in figure.axes), *(axes._left_title for axes in figure.axes)]  # pyright: ignore
    for legend in figure.legends:
        box = legend.get_window_extent()
        if any(box.overlaps(axes.get_window_extent()) for axes in figure.axes):
            return True
        if any(box.overlaps(text.get_window_extent()) for text in words if text.get_text()):
            return True
        if box.x1 > figure.bbox.x1 or box.y0 < figure.bbox.y0:
            return True
    return False
