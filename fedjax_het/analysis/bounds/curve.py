"""Curve: what a theorem says of a run, where it says anything, and why it is silent where it is not."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedjax_het.check import require, short

__all__ = ["SURE", "TAGS", "Curve", "Statement", "curve"]

TAGS = {
    "S": "the published statement was read, constants included",
    "D": "derived and proved here, constants included",
    "M": "a published statement from memory, its constants may be off",
    "O": "known up to a constant or logarithms, only the shape means anything",
    "X": "no theorem, kept because it is quoted",
}
"""How certain a statement is."""

SURE = ("exact", "trajectory_max")
"""Provenances of constants that leave no guess in a bound."""


@dataclasses.dataclass(frozen=True)
class Statement:
    """What is fixed of a bound.

    Attributes:
        name: for legends.
        quantity: what is bounded.
        unit: of it, in l of the loss and w of the parameters.
        tag: a key of `TAGS`.
        reference: authors, year, venue, number.
        side: "upper" or "lower".
    """

    name: str
    quantity: str
    unit: str
    tag: str
    reference: str
    side: str = "upper"


@dataclasses.dataclass(frozen=True)
class Curve:
    """A bound along a run; host arrays in double precision.

    Attributes:
        statement: what it is.
        steps: local gradient steps since the start, int [m]; rounds times local steps.
        values: the bound there, float [m]; nan throughout where a condition is violated.
        terms: what its values are the sum of, name -> float [m]; of one entry where it is no sum.
        validity: each violated condition, by name, with what it asks for and the nearest legal value.
        provenance: constant -> how it is known, of all that were used.
    """

    statement: Statement
    steps: np.ndarray
    values: np.ndarray
    terms: dict[str, np.ndarray]
    validity: tuple[str, ...]
    provenance: dict[str, str]

    @property
    def tag(self) -> str:
        """A key of `TAGS`."""
        return self.statement.tag

    @property
    def quantity(self) -> str:
        """What is bounded."""
        return self.statement.quantity

    @property
    def shape_only(self) -> bool:
        """Whether a factor is unknown, so that it is drawn scaled to touch what was measured."""
        return self.tag in ("O", "X")

    @property
    def may_hold(self) -> bool:
        """Whether a violation would be a contradiction: proved, in its conditions, with no constant guessed."""
        certain = all(kind in SURE for kind in self.provenance.values())
        return self.tag in ("S", "D") and not self.validity and certain

    def ratio(self, measured: Any) -> np.ndarray:
        """measured / bound, float [m]; at most 1 where an upper bound holds, 0 where both are 0.

        Args:
            measured: the quantity at `steps` [m].

        Raises:
            ValueError: another number of values.
        """
        measured = np.asarray(measured, np.float64)
        require(
            measured.shape == self.steps.shape,
            f"measured must have shape {list(self.steps.shape)}, got {short(measured)}: one value at each of "
            "the curve's steps",
        )
        none = (self.values == 0) & (measured == 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(none, 0.0, measured / self.values)


def curve(
    statement: Statement,
    steps: np.ndarray,
    terms: Mapping[str, Any],
    violated: Sequence[str],
    provenance: dict[str, str],
) -> Curve:
    """The `Curve` whose values are the sum of its terms; nan where a condition is violated.

    Args:
        statement: what it is.
        steps: where, int [m].
        terms: name -> float, scalar or [m].
        violated: messages, as of `conditions`.
        provenance: of the constants used.
    """
    silent = np.nan if violated else 1.0
    with np.errstate(invalid="ignore"):
        made = {
            name: silent * np.broadcast_to(np.asarray(term, np.float64), steps.shape)
            for name, term in terms.items()
        }
    return Curve(statement, steps, np.sum(list(made.values()), axis=0), made, tuple(violated), provenance)
