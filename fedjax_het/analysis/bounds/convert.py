"""From one bounded quantity to another, so that bounds can share axes."""

from __future__ import annotations

import dataclasses

from fedjax_het.analysis.bounds.conditions import read
from fedjax_het.analysis.bounds.curve import Curve
from fedjax_het.analysis.constants import Constants
from fedjax_het.check import require, short

__all__ = ["gap_of_distance"]


def gap_of_distance(curve: Curve, constants: Constants) -> Curve:
    """A bound of E|w_t - w*|^2 as one of E F(w_t) - F*, which is at most L/2 of it.

    Args:
        curve: an upper bound of a squared distance, such as `explicit.e1`.
        constants: L.

    Returns:
        The curve times L/2; its tag, conditions and steps stay.

    Raises:
        TypeError: not a `Curve`, or not `Constants`.
        ValueError: a curve of something else, or a lower bound.
    """
    if not isinstance(curve, Curve):
        raise TypeError(f"curve must be a Curve, got {short(curve)}: pass a bound, such as explicit.e1 returns")
    require(
        curve.statement.unit == "w^2" and curve.statement.side == "upper",
        f"curve must be an upper bound of a squared distance, got {curve.statement.name!r}, a bound of "
        f"{curve.quantity} from the {curve.statement.side} side: only those turn into bounds of F - F*",
    )
    (L,), told = read(constants, "L")
    statement = dataclasses.replace(
        curve.statement, name=f"{curve.statement.name}, times L/2", quantity="E F(w_t) - F*", unit="l"
    )
    return dataclasses.replace(
        curve,
        statement=statement,
        values=L / 2 * curve.values,
        terms={name: L / 2 * term for name, term in curve.terms.items()},
        provenance=curve.provenance | told,
    )
