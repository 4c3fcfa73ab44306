"""Step sizes along a run, as bounds read them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.check import number, positive_int, require, short
from fedjax_het.local.schedules import Clock, Schedule

__all__ = ["after_rounds", "lengths", "rates"]


def lengths(local_steps: Any, horizon: Any) -> tuple[int, int]:
    """(E, T), checked.

    Raises:
        TypeError, ValueError: not whole numbers >= 1.
    """
    steps = positive_int("local_steps", local_steps, remedy="the gradient steps of a client in a round")
    return steps, positive_int("horizon", horizon, remedy="the gradient steps of the run, rounds * local_steps")


def after_rounds(local_steps: int, horizon: int, *, first: int = 0) -> np.ndarray:
    """The steps at which clients are averaged: first * E, ..., up to T, int [m]."""
    return np.arange(first * local_steps, max(horizon, first * local_steps) + 1, local_steps)


def rates(
    schedule: float | Schedule | Callable[[np.ndarray], Any], local_steps: int, horizon: int
) -> np.ndarray:
    """eta_s of steps s = 0, ..., T - 1, float [T].

    Args:
        schedule: a number, a `Schedule` of `fedjax_het.local.schedules`, or a function of the steps [T].
        local_steps: E.
        horizon: T.

    Raises:
        TypeError: none of these, or a function of something else.
        ValueError: a step size that is not positive and finite.
    """
    remedy = "a step size is positive, such as 0.1 or 1 / (4 L E)"
    step = np.arange(horizon)
    if isinstance(schedule, Schedule):
        with jax.enable_x64(True):
            clock = Clock(*(jnp.asarray(each, jnp.int32) for each in _clock(step, local_steps)))
            values = np.asarray(jax.vmap(schedule)(clock), np.float64)
    elif callable(schedule):
        values = schedule(step)
    else:
        number("schedule", schedule, above=0, remedy=remedy)
        require(np.ndim(schedule) == 0, f"schedule must be one number, got {short(schedule)}: {remedy}")
        values = np.float64(schedule)
    with jax.enable_x64(True):
        number("schedule", values, above=0, remedy=remedy)
    values = np.asarray(values, np.float64)
    require(
        values.shape in ((), step.shape),
        f"schedule must give one step size for each of {horizon} steps, got shape {list(values.shape)}: let it "
        "take an array of steps",
    )
    return np.broadcast_to(values, step.shape)


def _clock(step: np.ndarray, local_steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return step, step // local_steps, step % local_steps
