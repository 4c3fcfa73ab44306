"""A description of a federation as text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fedjax_het.heterogeneity.describe import Description, Reading

__all__ = ["table"]

WORDS = {
    "tv": ("total variation", "0 alike .. 1: share of a client's rows that would need another label"),
    "hellinger": ("Hellinger distance", "0 alike .. 1: heavier on classes that a client lacks"),
    "js": ("Jensen-Shannon", "0 alike .. 1: bits by which a label tells the client from all"),
    "emd": ("EMD of Zhao et al.", "0 alike .. 2: twice the total variation"),
    "wasserstein": ("Wasserstein-1", "only if classes have an order: steps that an average label is off"),
    "effective_classes": ("effective classes", "as diverse as this many classes of equal size"),
    "gini": ("Gini", "0 all hold as much .. 1 one holds all"),
    "cv": ("variation", "standard deviation of the sizes over their mean"),
    "effective_clients": ("effective clients", "clients of equal size that would average as many"),
    "unique": ("unique sizes", "share of clients whose size nobody else has"),
}
"""Name of a measure -> (name in the table, what it says)."""


def table(told: Description) -> str:
    """Facts, measures beside what chance shows, changes from phase to phase, and notices, as aligned text."""
    return "\n".join([*_facts(told), *_measures(told), *_phases(told), *_remarks(told)])


def _cell(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _facts(told: Description) -> list[str]:
    shape = " x ".join(map(str, told.features)) or "one number"
    kinds = f"{told.classes} {'tokens' if told.task == 'tokens' else 'classes'}, " if told.classes else ""
    size = told.sizes
    lines = [
        f"{told.name}: {told.task}, {told.clients:,} clients, {kinds}features {shape}",
        "rows: " + ", ".join(f"{split} {many:,}" for split, many in told.rows.items()),
        f"{told.split} rows of a client: {size.min():,} least, {np.median(size):,.0f} median, "
        f"{size.max():,} most",
    ]
    if told.counts is not None and size.any():
        many = (told.counts[size > 0] > 0).sum(1)
        lines.append(f"classes of a client: {many.min()} least, {np.median(many):g} median, {many.max()} most")
    if told.phases > 1:
        lines.append(f"phase {told.phase} of {told.phases}")
    if told.truth:
        lines.append("truth: " + ", ".join(told.truth))
    return lines


def _measures(told: Description) -> list[str]:
    rows = []
    for name, reading in told.measures.items():
        band = reading.chance
        chance = f"{_cell(band.mean)} ({_cell(band.low)} to {_cell(band.high)})" if band else "-"
        rows.append((WORDS[name][0], _cell(reading.value), chance, _judged(name, reading), WORDS[name][1]))
    lines = ["", *_aligned([("measure", "value", "IID split of the same sizes", "reading", "meaning"), *rows])]
    bands = [reading.chance for reading in told.measures.values() if reading.chance]
    if bands:
        lines.append(
            "Labels: mean over clients, weighted by rows, against the pooled labels. IID split: mean of "
            f"{bands[0].draws} random deals{', cut by label as here' if told.cut else ''}; "
            f"{100 * bands[0].coverage:.0f} % of IID splits lie in the brackets."
        )
    return lines


def _judged(name: str, reading: Reading) -> str:
    """A value against its null distribution, in words."""
    band, value = reading.chance, reading.value
    if band is None or math.isnan(value):
        return ""
    if band.holds(value):
        return "as an IID split"
    more, fewer = ("above", "below") if name != "effective_classes" else ("below", "above")
    side = "above" if value > band.high else "below"
    if side == fewer:
        return "evener than IID"
    if more == "below" or band.mean <= 0:
        return "skewed"
    return f"skewed: {value / band.mean:.1f} x IID"


def _phases(told: Description) -> list[str]:
    if not told.changes:
        return []
    rows = [("phases", "new rows", "rows ratio", "labels (TV)", "by chance", "features (sd)", "by chance")]
    for entry in told.changes:
        band = entry.labels_chance
        rows.append(
            (
                f"{entry.earlier} -> {entry.later}",
                f"{100 * entry.new_rows:.0f} %",
                f"{entry.size_ratio:.2f}",
                "-" if entry.labels is None else f"{entry.labels:.3g}",
                f"{_cell(band.mean)} ({_cell(band.low)} to {_cell(band.high)})" if band else "-",
                "-" if entry.features is None else f"{entry.features:.3g}",
                "-" if entry.features_chance is None else f"{entry.features_chance:.3g}",
            )
        )
    return ["", *_aligned(rows), "By chance: each client's rows of one phase only, shuffled between the two."]


def _remarks(told: Description) -> list[str]:
    return ["", *(f"! {text}" for text in told.notices)] if told.notices else []


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    width = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(cell.ljust(many) for cell, many in zip(row, width)).rstrip() for row in rows]
