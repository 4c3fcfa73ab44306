"""Step sizes that change: over the global step, over rounds, or within a round.

A number in an optimiser is either a scalar leaf or a `Schedule`, whose own numbers are leaves too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het.check import known, number, short
from fedjax_het.typing import Array, static

__all__ = ["Clock", "Schedule", "geometric", "inverse_time", "schedule", "value_at"]

UNITS = ("step", "round", "local")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Clock:
    """When a local step happens; int32 scalars.

    Attributes:
        step: steps since the run began: the round times the client's full plan, plus `local`.
        round: the round's number.
        local: steps since the round began.
    """

    step: Array
    round: Array
    local: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Schedule:
    """A number that depends on the clock.

    Attributes:
        function: count -> number, a `jax.tree_util.Partial`: its bound numbers are leaves.
        unit: which count it reads, "step", "round" or "local"; static.
    """

    function: Any
    unit: str = static()

    def __call__(self, clock: Clock) -> Array:
        """The number now, a scalar of the default float type."""
        count = {"step": clock.step, "round": clock.round, "local": clock.local}[self.unit]
        with jax.numpy_dtype_promotion("standard"):  # optax schedules mix counts and floats
            return jnp.asarray(self.function(count), jnp.result_type(float))


def schedule(function: Callable[..., Any], *numbers: Any, unit: str = "step") -> Schedule:
    """A schedule from a function (*numbers, count) -> number, an optax schedule for instance.

    Args:
        function: called with the numbers, then the count (int32 scalar). One function object is one
            compiled program, so define it once.
        numbers: leaves; changing one compiles nothing.
        unit: "step" (since the run began), "round", or "local" (restarts every round).

    Raises:
        TypeError: `function` cannot be called.
        ValueError: unknown unit.
    """
    known("unit", unit, UNITS)
    if not callable(function):
        raise TypeError(f"function must be callable, got {short(function)}: pass a function of the step count")
    return Schedule(
        jax.tree_util.Partial(
            function, *(number("numbers", n, remedy="bind anything else inside the function") for n in numbers)
        ),
        unit,
    )


def _inverse_time(numerator: Array, offset: Array, count: Array) -> Array:
    return numerator / (offset + count)


def inverse_time(numerator: Any, offset: Any, *, unit: str = "step") -> Schedule:
    """eta_t = numerator / (offset + t): Li et al. (ICLR 2020) use 2/mu and gamma = max(8 L/mu, E).

    Raises:
        ValueError: a number that is not positive.
    """
    numerator = number(
        "numerator", numerator, above=0, remedy="it is the step size times offset + t, e.g. 2/mu"
    )
    offset = number("offset", offset, above=0, remedy="the first step size is numerator / offset")
    return schedule(_inverse_time, numerator, offset, unit=unit)


def _geometric(initial: Array, factor: Array, count: Array) -> Array:
    return initial * factor**count


def geometric(initial: Any, factor: Any, *, unit: str = "round") -> Schedule:
    """eta_t = initial * factor**t, by default once a round.

    Raises:
        ValueError: a number that is not positive.
    """
    initial = number("initial", initial, above=0, remedy="it is the first step size, such as 0.1")
    factor = number("factor", factor, above=0, remedy="below 1 the step sizes fall, such as 0.99")
    return schedule(_geometric, initial, factor, unit=unit)


def value_at(value: Array | Schedule, clock: Clock) -> Array:
    """The number itself, or the schedule's value now."""
    return value(clock) if isinstance(value, Schedule) else value
