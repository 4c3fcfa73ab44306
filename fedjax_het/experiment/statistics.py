"""Statistics: paired differences between methods over seeds, with the interval that the seeds allow."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from jax.typing import ArrayLike

from fedjax_het.check import known, require, short

__all__ = ["LEAST", "LEVEL", "Paired", "differences", "paired"]

LEAST = 5
"""Seeds without which no interval is given: Student's factor is 12.7 for two, 4.3 for three, 2.8 for five."""

LEVEL = 0.95
"""Of the intervals."""


@dataclasses.dataclass(frozen=True)
class Paired:
    """How much one method differs from another under the same seeds.

    Attributes:
        mean: of the differences.
        low: the lower end of the 95 % interval of their mean.
        high: its upper end.
        seeds: how many differences there are.
    """

    mean: float
    low: float
    high: float
    seeds: int

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def paired(a: ArrayLike, b: ArrayLike) -> Paired:
    """The mean of a - b over seeds, and its 95 % interval by Student's t: mean -+ t sd / sqrt(S).

    Methods that share a seed share their first weights, cohorts and batches, so differences vary less than
    either method does. The interval says what other seeds would give on this very federation, and nothing of
    other federations. It takes the differences for a normal sample.

    Args:
        a: one value a seed, [S].
        b: the other method's under the same seeds, in the same order, [S].

    Raises:
        ValueError: not two lists of the same length; values that are not finite; fewer than 5 seeds.
    """
    first, second = _values("a", a), _values("b", b)
    require(
        first.shape == second.shape,
        f"a and b must have the same seeds, got {len(first)} and {len(second)} values: run both with all seeds",
    )
    count = len(first)
    require(
        count >= LEAST,
        f"a and b must have at least {LEAST} seeds, got {count}: an interval of fewer says more of the seeds "
        f"than of the methods; set seeds={list(range(LEAST))}",
    )
    from scipy.special import stdtrit

    difference = first - second
    mean = float(difference.mean())
    half = float(stdtrit(count - 1, (1 + LEVEL) / 2)) * float(difference.std(ddof=1)) / math.sqrt(count)
    return Paired(mean, mean - half, mean + half, count)


def differences(values: Mapping[str, ArrayLike | None], reference: str, *, decimals: int = 4) -> str:
    """A table of every method's paired difference to one of them, as text.

    Args:
        values: method -> one value a seed, [S]; None for a method that has no such value: it shows a dash.
        reference: a key of `values`, subtracted from the others.
        decimals: of the numbers.

    Raises:
        ValueError: no such reference, or one without values; see `paired`.
    """
    known("reference", reference, values)
    base = values[reference]
    if base is None:
        having = ", ".join(name for name, held in values.items() if held is not None)
        raise ValueError(f"reference must have values, got {reference!r} without: take one of {having}")
    rows = [("method", f"minus {reference}", f"{LEVEL:.0%} interval", "")]
    for name, held in values.items():
        if name == reference:
            continue
        if held is None:
            rows.append((name, "-", "-", ""))
            continue
        seen = paired(held, base)
        mean, low, high = (f"{number:+.{decimals}f}" for number in (seen.mean, seen.low, seen.high))
        rows.append((name, mean, f"[{low}, {high}]", "*" if seen.clear else ""))
    seeds = len(_values(reference, base))
    note = (
        f"{seeds} seeds, paired. * the interval leaves out 0; each holds by itself, not all of them together."
    )
    return "\n".join([*_aligned(rows), note])


def _values(name: str, given: ArrayLike) -> np.ndarray:
    values = np.asarray(given, np.float64)
    require(
        values.ndim == 1, f"{name} must hold one value a seed, got {short(given)}: take the mean of each run"
    )
    bad = np.flatnonzero(~np.isfinite(values))
    require(
        not len(bad),
        f"{name} must be finite, got {values[bad[:1]].tolist()} at place {bad[:1].tolist()}: a method that "
        "failed under a seed cannot be compared by means",
    )
    return values


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """The names to the left, all else to the right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        ).rstrip()
        for row in rows
    ]
