"""Finding: what an experiment came to, as numbers, as sentences and as a picture."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import jax
import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Claim", "Finding", "in_double"]

P = ParamSpec("P")
R = TypeVar("R")


@dataclasses.dataclass(frozen=True)
class Claim:
    """A sentence of the caption with the numbers behind it.

    Attributes:
        text: what is claimed, with its numbers.
        holds: whether these numbers bear it out; with settings of your own it need not.
    """

    text: str
    holds: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Finding:
    """What an experiment came to.

    Attributes:
        title: what was asked.
        settings: with which it was run, by name.
        arrays: all numbers of the picture, by name.
        columns: headers of the table.
        rows: its lines, numbers and words.
        claims: what the picture shows.
        draw: makes the picture.
    """

    title: str
    settings: dict[str, Any]
    arrays: dict[str, np.ndarray]
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]
    claims: tuple[Claim, ...]
    draw: Callable[[], Figure] = dataclasses.field(repr=False)

    def figure(self) -> Figure:
        """The picture, a matplotlib Figure; `fh.plots.save` writes it."""
        return self.draw()

    def as_dict(self) -> dict[str, Any]:
        """Everything but the picture, as plain numbers, lists and text; None for what is not finite."""
        return {
            "title": self.title,
            "settings": {name: _plain(value) for name, value in self.settings.items()},
            "claims": [{"text": claim.text, "holds": bool(claim.holds)} for claim in self.claims],
            "table": {
                "columns": list(self.columns),
                "rows": [[_plain(cell) for cell in row] for row in self.rows],
            },
            "arrays": {name: _plain(value) for name, value in self.arrays.items()},
        }

    def __str__(self) -> str:
        """The table and the claims, to read."""
        cells = [list(self.columns), *([_text(cell) for cell in row] for row in self.rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.columns))]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths)).rstrip() for row in cells]
        said = [f"{'holds' if claim.holds else 'FAILS'}: {claim.text}" for claim in self.claims]
        return "\n".join([self.title, "", *lines, "", *said])


def in_double(function: Callable[P, R]) -> Callable[P, R]:
    """The same function with double precision on while it runs, whatever the session has."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.enable_x64(True):
            return function(*args, **kwargs)

    return wrapped


def _plain(value: Any) -> Any:
    """Numbers as strict JSON has them."""
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    listed = np.asarray(value).tolist() if isinstance(value, (np.ndarray, np.generic, jax.Array)) else value
    if isinstance(listed, list):
        return [_plain(entry) for entry in listed]
    return None if isinstance(listed, float) and not math.isfinite(listed) else listed


def _text(value: Any) -> str:
    """A cell of the table."""
    if isinstance(value, (float, np.floating)):
        return "-" if math.isnan(value) else f"{value:.4g}"
    return str(value)
