"""Images of a few clients, as they see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fedjax_het.check import positive_ints, require
from fedjax_het.federation import Federation
from fedjax_het.heterogeneity.counts import label_counts, labelled, sizes_of
from fedjax_het.heterogeneity.rows import expect_images
from fedjax_het.plots.seen import few, labels_seen, taken
from fedjax_het.plots.style import canvas, finish, styled
from fedjax_het.plots.truth import said

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["sample_images"]

CLIENTS = 16
"""Clients that fit in a picture."""

WORDS = {"train": "training", "valid": "validation", "test": "test"}

SLACK = 1e-6
"""How far beyond the ends of the pool rounding may lead."""

COLUMNS = 10
"""Images of a client, at most."""


def sample_images(
    federation: Federation,
    *,
    clients: int | Sequence[int] = 8,
    classes: Sequence[int] | None = None,
    split: str = "train",
    phase: int = 0,
) -> Figure:
    """The first images of the same few classes that clients hold, after all transforms; a row a client.

    Args:
        federation: images [H, W] or [H, W, C].
        clients: which; or how many, 16 at most, taken from all latent clusters in turn, or from the lowest to
            the highest angle (or whatever tells clients apart), or evenly over their numbers.
        classes: which; by default those of which these clients hold most, 10 at most. A class is what the
            client calls it.
        split: "train", "valid" or "test".
        phase: of a federation that changes over time.

    Returns:
        A matplotlib Figure. Images are grey, or in colours where they have three channels; of other numbers
        of channels the mean is shown. Black and white are the ends of the pool, before any transform, in all
        images: what lies beyond is cut.

    Raises:
        TypeError: not a Federation, clients or classes that are not whole numbers.
        ValueError: rows that are no images, no such split, phase, clients or classes.
    """
    expect_images(federation)
    ids = few(federation, clients, split=split, phase=phase, most=CLIENTS)
    chosen = _classes(federation, ids, classes, split, phase)
    position, columns = _places(federation, ids, chosen, split, phase)
    x, _ = taken(federation, ids, np.maximum(position, 0), split=split, phase=phase)
    x = _grey(x.astype(np.float64))
    x[position < 0] = np.nan
    height, width = x.shape[2:4]
    name, cell = federation.spec.pool.name, 0.72
    with styled():
        figure, (axes,) = canvas(
            f"What clients see: {len(ids)} of {federation.num_clients:,} clients of {name}",
            width=max(6.5, 2.6 + cell * len(columns)),
            height=1.5 + cell * height / width * len(ids),
        )
        mosaic, step = _mosaic(x)
        low, high = _range(federation)
        outside = float(np.mean((x < low - SLACK) | (x > high + SLACK), where=~np.isnan(x)))
        if mosaic.ndim == 3:
            mosaic = np.where(np.isnan(mosaic), 1, np.clip((mosaic - low) / (high - low), 0, 1))
        axes.imshow(mosaic, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        names = [f"client {i}" + "".join(f"\n{words}" for words in said(federation, int(i))) for i in ids]
        axes.set_yticks(step[0] * np.arange(len(ids)) + height / 2 - 0.5, names, fontsize=8)
        axes.set_xticks(step[1] * np.arange(len(columns)) + width / 2 - 0.5, columns)
        axes.tick_params(length=0, labelbottom=False, labeltop=True)
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(False)
        caption = (
            f"A row is a client: the first {WORDS[split]} images that it holds, as its local work sees them."
        )
        if chosen is not None:
            axes.xaxis.set_label_position("top")
            axes.set_xlabel("class, as the client has it")
            caption += " Where a place is empty it holds no image of the class." if (position < 0).any() else ""
        if outside:
            caption += (
                f" Black is {low:.3g} or less, white {high:.3g} or more: the ends of the pool, which "
                f"{100 * outside:.2g} % of the values lie beyond."
            )
        caption += f" Phase {phase} of {federation.spec.phases}." if federation.spec.phases > 1 else ""
        return finish(figure, caption)


def _classes(
    federation: Federation, ids: np.ndarray, classes: Sequence[int] | None, split: str, phase: int
) -> np.ndarray | None:
    """The classes that are shown, ascending, int [c]; None where rows have no labels."""
    if not labelled(federation):
        require(classes is None, f"classes must be None for rows without labels, got {classes!r}: drop it")
        return None
    many = int(federation.spec.pool.num_classes or 0)
    if classes is not None:
        told = positive_ints("classes", classes, least=0, remedy="pass labels such as [0, 1]")
        require(
            0 < len(told) <= COLUMNS and max(told) < many,
            f"classes must be 1..{COLUMNS} labels below {many}, got {list(told)}: pass such",
        )
        return np.array(told)
    held = label_counts(federation, split=split, phase=phase)[ids].sum(0)
    often = np.argsort(-held, kind="stable")[:COLUMNS]
    return np.sort(often[held[often] > 0])


def _places(
    federation: Federation, ids: np.ndarray, chosen: np.ndarray | None, split: str, phase: int
) -> tuple[np.ndarray, list[str]]:
    """(the position of each image among its client's rows, -1 for none, int [m, c]; the columns' names)."""
    size = sizes_of(federation, split=split, phase=phase)[ids]
    if chosen is None:
        position = np.broadcast_to(np.arange(COLUMNS), (len(ids), COLUMNS))
        return np.where(position < size[:, None], position, -1), [""] * COLUMNS
    times = max(1, min(4, COLUMNS // max(len(chosen), 1)))
    longest = max(int(size.max()), 1)
    label = labels_seen(federation, ids, longest, split=split, phase=phase)
    inside = np.arange(longest) < size[:, None]
    position = np.full((len(ids), len(chosen) * times), -1)
    for column, one in enumerate(chosen):
        is_one = (label == one) & inside
        # rows of the class first, in their order
        first = np.argsort(~is_one, axis=1, kind="stable")[:, :times]
        found = np.take_along_axis(is_one, first, 1)
        position[:, column * times : column * times + first.shape[1]] = np.where(found, first, -1)
    return position, [str(one) for one in chosen for _ in range(times)]


def _range(federation: Federation) -> tuple[float, float]:
    """What is black and what is white: the ends of the whole pool after scaling, no matter what clients add."""
    scale = 1.0 if federation.spec.pool.scale is None else federation.spec.pool.scale
    low, high = (float(end) * scale for end in (federation.x.min(), federation.x.max()))
    return min(0.0, low), max(high, 1e-9)


def _grey(x: np.ndarray) -> np.ndarray:
    """Images [m, c, H, W], or [m, c, H, W, 3] in colours."""
    return x.mean(-1) if x.ndim == 5 and x.shape[-1] != 3 else x


def _mosaic(x: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """All images in one, NaN between them, and how far one is from the next."""
    many, columns, height, width = x.shape[:4]
    step = height + max(1, height // 9), width + max(1, width // 9)
    out = np.full((many * step[0], columns * step[1], *x.shape[4:]), np.nan)
    for i, j in np.ndindex(many, columns):
        out[i * step[0] : i * step[0] + height, j * step[1] : j * step[1] + width] = x[i, j]
    return out[: many * step[0] - step[0] + height, : columns * step[1] - step[1] + width], step
