"""Which label becomes which."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedjax_het.federation import Federation
from fedjax_het.heterogeneity.counts import expect_labels
from fedjax_het.plots.seen import expect_rows, labels_of_rows
from fedjax_het.plots.style import canvas, finish, styled
from fedjax_het.plots.truth import clusters_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["label_map", "relabelled_shares"]

PANELS = 8
"""Latent clusters that have a panel of their own; of more, all clients are in one."""

NAMED = 20
"""Classes up to which all are numbered."""


def label_map(federation: Federation, *, split: str = "train", phase: int = 0) -> Figure:
    """Which label of the pool becomes which label of the clients, a panel for each latent cluster.

    It is counted on the rows, so it shows permuted, swapped, opposed and redrawn labels alike. Where labels
    stay what they are all lies on the diagonal.

    Args:
        federation: of labelled rows.
        split: "train", "valid" or "test".
        phase: of a federation that changes over time.

    Raises:
        TypeError: not a Federation.
        ValueError: rows without one label each, no such split or phase, no rows.
    """
    from matplotlib.ticker import PercentFormatter

    expect_rows(federation, split=split, phase=phase)
    expect_labels(federation)
    shares, names = relabelled_shares(federation, split=split, phase=phase)
    classes, columns = shares.shape[-1], min(len(shares), 4)
    rows = -(-len(shares) // columns)
    with styled():
        figure, panels = canvas(
            f"Labels of {federation.spec.pool.name} and what clients call them",
            rows=rows,
            columns=columns,
            width=2.4 + (2.3 if columns > 1 else 3.6) * columns,
            height=1.3 + (2.4 if columns > 1 else 3.6) * rows,
            share=True,
        )
        for number, axes in enumerate(panels):
            if number >= len(shares):
                axes.set_visible(False)
                continue
            image = axes.imshow(shares[number].T, origin="lower", vmin=0, vmax=1, interpolation="nearest")
            axes.plot([-0.5, classes - 0.5], [-0.5, classes - 0.5], color="#D55E00", linewidth=0.7)
            moved = float(names[number][1])
            axes.set_title(f"{names[number][0]}: {100 * moved:.0f} % of rows renamed", fontsize=9)
            axes.grid(visible=False)
            if classes <= NAMED:
                axes.set_xticks(range(classes), [str(c) for c in range(classes)], fontsize=8)
                axes.set_yticks(range(classes), [str(c) for c in range(classes)], fontsize=8)
            if number % columns == 0:
                axes.set_ylabel("label of the client")
            if number + columns >= len(shares):
                axes.xaxis.set_tick_params(labelbottom=True)
                axes.set_xlabel("label of the pool")
        bar = figure.colorbar(image, ax=panels, format=PercentFormatter(1.0), shrink=0.75, pad=0.015)
        bar.set_label("share of the label's rows")
        bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
        caption = "A dark square off the line: the label of the pool below is called the label on the left."
        caption += f" Phase {phase} of {federation.spec.phases}." if federation.spec.phases > 1 else ""
        return finish(figure, caption)


def relabelled_shares(
    federation: Federation, *, split: str, phase: int
) -> tuple[np.ndarray, list[tuple[str, float]]]:
    """Share of the rows of each label of the pool that clients give each label, float [G, K, K], by cluster.

    Args:
        federation: of labelled rows.
        split: "train", "valid" or "test".
        phase: of a federation that changes over time.

    Returns:
        (the shares, rows of 0 for labels that a cluster does not hold; name of each cluster and the share of
        its rows that are renamed).
    """
    classes = int(federation.spec.pool.num_classes or 0)
    owner, before, after = labels_of_rows(federation, split=split, phase=phase)
    cluster, name = clusters_of(federation), "cluster"
    if cluster is None or len(np.unique(cluster)) > PANELS:
        cluster, name = np.zeros(federation.num_clients, np.int64), "all clients"
    found, group = np.unique(cluster, return_inverse=True)
    flat = (group[owner] * classes + before) * classes + after
    counts = np.bincount(flat, minlength=len(found) * classes**2).reshape(len(found), classes, classes)
    rows = counts.sum((1, 2))
    kept = np.trace(counts, axis1=1, axis2=2)
    names = [name if name == "all clients" else f"{name} {one}" for one in found]
    moved = 1 - kept / np.maximum(rows, 1)
    moved = np.where(rows > 0, moved, 0.0)
    return counts / np.maximum(counts.sum(2, keepdims=True), 1), list(zip(names, moved.tolist()))
