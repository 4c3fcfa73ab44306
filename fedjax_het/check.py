"""Validation with uniform messages: `name must be ..., got ...: remedy`.

Every check looks at concrete values only; a tracer passes, since its value is not known before the run.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from fedjax_het.typing import Array

__all__ = ["known", "number", "positive_int", "require", "whole"]


def require(condition: bool, message: str) -> None:
    """Raise `ValueError(message)` unless `condition` holds."""
    if not condition:
        raise ValueError(message)


def number(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
    remedy: str = "",
) -> Array:
    """`value` as an array of the default float type: a leaf that may change without a recompilation.

    Args:
        name: the argument's name, for the message.
        value: a real number, an array of them (one run each under `vmap`), or a tracer.
        above: exclusive lower limit.
        least: inclusive lower limit.
        below: exclusive upper limit.
        most: inclusive upper limit.
        remedy: what to do about it, appended to the message.

    Raises:
        TypeError: `value` is not a real number or array.
        ValueError: `value` is not finite or lies outside the limits.
    """
    if isinstance(value, Tracer):
        return value
    tail = f": {remedy}" if remedy else ""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {value!r}{tail}") from None
    if value is None or isinstance(value, (bool, str, bytes)):
        raise TypeError(f"{name} must be a number, got {value!r}{tail}")
    wanted = [
        ("finite", np.isfinite(array)),
        (f"> {above}", True if above is None else array > above),
        (f">= {least}", True if least is None else array >= least),
        (f"< {below}", True if below is None else array < below),
        (f"<= {most}", True if most is None else array <= most),
    ]
    for words, holds in wanted:
        require(bool(np.all(holds)), f"{name} must be {words}, got {value!r}{tail}")
    return jnp.asarray(array, dtype=jnp.result_type(float))


def positive_int(name: str, value: Any, *, least: int = 1, remedy: str = "") -> int:
    """`value` as a Python int of at least `least`; it fixes a shape.

    Raises:
        TypeError: `value` is not a whole number.
        ValueError: `value` is below `least`.
    """
    tail = f": {remedy}" if remedy else ""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be a whole number, got {value!r}{tail}")
    require(int(value) >= least, f"{name} must be >= {least}, got {value!r}{tail}")
    return int(value)


def whole(name: str, value: Any, *, least: int = 1, remedy: str = "") -> Array:
    """`value` as an int32 leaf of at least `least`: a count that may change without a recompilation.

    Raises:
        TypeError: `value` is not a whole number or an array of them.
        ValueError: `value` is below `least`.
    """
    if isinstance(value, Tracer):
        return value
    tail = f": {remedy}" if remedy else ""
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be a whole number, got {value!r}{tail}")
    require(bool(np.all(array >= least)), f"{name} must be >= {least}, got {value!r}{tail}")
    return jnp.asarray(array, dtype=jnp.int32)


def known(name: str, value: str, choices: Iterable[str]) -> str:
    """`value`, which must be one of `choices`; otherwise the nearest one is suggested.

    Raises:
        ValueError: `value` is none of them.
    """
    choices = list(choices)
    if value in choices:
        return value
    near = difflib.get_close_matches(str(value), choices, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"{name} must be one of the names below, got {value!r}: {hint}{', '.join(choices)}")
