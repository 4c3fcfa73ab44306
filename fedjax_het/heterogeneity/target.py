"""A federation that is as heterogeneous as asked: its dial solved for by bisection."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fedjax_het.check import known, positive_int, require, scalar, short
from fedjax_het.federation import Federation
from fedjax_het.heterogeneity.measures import MEASURES
from fedjax_het.pool import Pool

__all__ = ["DIALS", "Target", "to_target"]

DIALS: dict[str, tuple[float, float, bool]] = {
    "alpha": (1e-3, 1e4, True),
    "exponent": (0.0, 6.0, False),
    "sigma": (0.0, 6.0, False),
    "rate": (0.0, 1.0, False),
    "difference": (0.0, 1.0, False),
    "spread": (0.0, 180.0, False),
    "most": (0.0, 5.0, False),
}
"""The dials that are known by name: least, most, and whether they are searched on a logarithmic scale."""


GRID = 9
"""Settings that are tried first, evenly spaced on the dial's scale."""


@dataclasses.dataclass(frozen=True)
class Target:
    """What was found.

    Attributes:
        federation: the nearest that was met.
        dial: name of the argument that was turned.
        setting: its value.
        measure: what was to be reached, in words.
        asked: the value asked for.
        reached: the value of `federation`.
        range: the smallest and the largest value of the settings tried first.
        tried: how many federations were made.
    """

    federation: Federation
    dial: str
    setting: float
    measure: str
    asked: float
    reached: float
    range: tuple[float, float]
    tried: int

    def __str__(self) -> str:
        """One line: what was asked, what was reached, and by which setting."""
        low, high = self.range
        return (
            f"{self.measure} {self.reached:.4f} for {self.asked:.4f} asked, by {self.dial} = "
            f"{self.setting:.6g} (from {low:.4f} to {high:.4f} can be reached; {self.tried} tried)"
        )


def to_target(
    make: Callable[..., Federation],
    source: Pool | Federation,
    *,
    measure: str | Callable[[Federation], float] = "js",
    value: float,
    dial: str | None = None,
    least: float | None = None,
    most: float | None = None,
    within: float = 0.002,
    tries: int = 40,
    **options: Any,
) -> Target:
    """Turn the dial of a partitioner or shift until a measure of its federation has the value asked for.

    `to_target(label.dirichlet, pool, measure="js", value=0.6, clients=100)`. The seed is the same at every
    setting, and draws follow the dial (common random numbers), so that the measure moves with it and not with
    chance. Of evenly spaced settings two neighbours on both sides of the value are taken, and the interval
    between them is halved.

    Args:
        make: a partitioner or a shift, called as make(source, **{dial: setting}, **options).
        source: what it takes.
        measure: a name of `MEASURES` (of the training rows), or a function Federation -> float.
        value: the value asked for.
        dial: the argument to turn; by default the one of `DIALS` that `make` has.
        least: the dial's smallest value; by default that of `DIALS`.
        most: its largest.
        within: how near is near enough, > 0.
        tries: halvings at most.
        options: the other arguments of `make`.

    Returns:
        The nearest federation that was met and how near it came. It may miss the value by more than `within`
        where the measure jumps from one setting to the next, as it does for a few clients of few rows.

    Raises:
        TypeError: arguments of another kind.
        ValueError: a value outside of what the dial can reach with this seed (the range is named), an unknown
            measure or dial, a measure that is not a number.
    """
    wanted = scalar("value", value, remedy="it is what the measure shall be")
    near = scalar("within", within, above=0, remedy="it is how near is near enough, such as 0.002")
    tries = positive_int("tries", tries, remedy="40 halves the interval to its end")
    if not callable(make):
        raise TypeError(
            f"make must be a partitioner or a shift, got {short(make)}: pass one such as "
            "fh.heterogeneity.label.dirichlet"
        )
    told = measure if isinstance(measure, str) else getattr(measure, "__name__", "the measure")
    of = MEASURES[known("measure", measure, MEASURES)] if isinstance(measure, str) else measure
    name = _dial(make, dial, options)
    low, high, logarithmic = _ends(name, least, most)
    best: list[tuple[float, Federation, float]] = []

    def at(setting: float) -> float:
        federation = make(source, **{name: setting}, **options)
        found = float(of(federation))
        require(
            math.isfinite(found),
            f"measure must be a finite number, got {found} of {told!r} at {name} = {setting:g}: does it "
            "suit this federation?",
        )
        if not best or abs(found - wanted) < abs(best[0][2] - wanted):
            best[:] = [(setting, federation, found)]
        return found

    # The ends of the dial need not be the extremes: few clients of a class each leave others a mix, say.
    grid = np.geomspace(low, high, GRID) if logarithmic else np.linspace(low, high, GRID)
    settings = [float(setting) for setting in grid]
    found = [at(setting) for setting in settings]
    reach = (min(found), max(found))
    require(
        reach[0] - near <= wanted <= reach[1] + near,
        f"value must lie between {reach[0]:.4f} and {reach[1]:.4f}, got {wanted:g}: that is what {told!r} "
        f"can be for {name} from {low:g} to {high:g} with these options and this seed; pass least or most "
        "to turn it farther, or another number of clients",
    )
    made = GRID
    between = [i for i in range(GRID - 1) if min(found[i : i + 2]) <= wanted <= max(found[i : i + 2])]
    if between:
        i = between[0]
        low, high, rising = settings[i], settings[i + 1], found[i] < found[i + 1]
        while made < tries + GRID and abs(best[0][2] - wanted) > near:
            middle = math.sqrt(low * high) if logarithmic else (low + high) / 2
            if middle in (low, high):
                break
            made += 1
            low, high = (middle, high) if (at(middle) < wanted) == rising else (low, middle)
    setting, federation, reached = best[0]
    return Target(federation, name, setting, told, wanted, reached, reach, made)


def _dial(make: Callable[..., Any], dial: str | None, options: dict[str, Any]) -> str:
    """The argument to turn."""
    arguments = inspect.signature(make).parameters
    if dial is not None:
        known("dial", dial, arguments)
        require(dial not in options, f"{dial} must be left out, got {short(options.get(dial))}: it is the dial")
        return dial
    free = [name for name in DIALS if name in arguments and name not in options]
    require(
        len(free) == 1,
        f"dial must be named, got None: {getattr(make, '__name__', 'make')} has {free or 'none'} of those "
        f"known by name ({', '.join(DIALS)})",
    )
    return free[0]


def _ends(name: str, least: float | None, most: float | None) -> tuple[float, float, bool]:
    """(smallest, largest, whether the scale is logarithmic)."""
    low, high, logarithmic = DIALS.get(name, (None, None, False))
    for which, given, known_end in (("least", least, low), ("most", most, high)):
        require(
            given is not None or known_end is not None,
            f"{which} must be given for the dial {name!r}, got None: say from where to where it turns",
        )
    low = scalar("least", low if least is None else least, remedy="it is the dial's smallest value")
    high = scalar("most", high if most is None else most, remedy="it is the dial's largest value")
    require(low < high, f"least must be below most, got {low:g} and {high:g}: swap them")
    return low, high, logarithmic and low > 0
