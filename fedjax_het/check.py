"""Validation with uniform messages: `name must be ..., got ...: remedy`.

Every check looks at concrete values only; a tracer passes, since its value is not known before the run.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence, Sized
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from fedjax_het.typing import Array

__all__ = ["known", "number", "positive_int", "positive_ints", "require", "scalar", "short", "whole"]

LONGEST = 80
"""Characters of a value that a message repeats."""

MOST = 2**31 - 1
"""The largest int32."""


def require(condition: bool, message: str) -> None:
    """Raise `ValueError(message)` unless `condition` holds."""
    if not condition:
        raise ValueError(message)


def short(value: Any) -> str:
    """`value` for a message: its repr, or for what holds arrays or is long its type, shape and length."""
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        return type(value).__name__
    if hasattr(value, "shape") and hasattr(value, "dtype") and value.shape != ():
        return f"{type(value).__name__} of shape {tuple(value.shape)} and dtype {value.dtype}"
    text = repr(value)
    if len(text) <= LONGEST and "\n" not in text:
        return text
    length = f" of length {len(value)}" if isinstance(value, Sized) else ""
    return f"{type(value).__name__}{length}"


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
    given = _array(value)
    if given is None or not (given.dtype.kind in "iu" or jnp.issubdtype(given.dtype, jnp.floating)):
        raise TypeError(f"{name} must be a number, got {short(value)}{tail}")
    array, dtype = given.astype(np.float64), jnp.result_type(float)
    with np.errstate(over="ignore"):
        kept = array.astype(dtype)
    wanted = [
        ("finite", np.isfinite(array)),
        (f"finite as {dtype}", np.isfinite(kept)),
        (f"> {above}", True if above is None else array > above),
        (f">= {least}", True if least is None else array >= least),
        (f"< {below}", True if below is None else array < below),
        (f"<= {most}", True if most is None else array <= most),
    ]
    for words, holds in wanted:
        require(bool(np.all(holds)), f"{name} must be {words}, got {short(value)}{tail}")
    return jnp.asarray(kept)


def _array(value: Any) -> np.ndarray | None:
    """`value` as an array; None if it is ragged, or a list with a bool in it."""
    if isinstance(value, (list, tuple)) and any(isinstance(item, (bool, np.bool_)) for item in value):
        return None
    try:
        return np.asarray(value)
    except (TypeError, ValueError):
        return None


def scalar(
    name: str, value: Any, *, above: float | None = None, least: float | None = None, remedy: str = ""
) -> float:
    """`value` as a Python float; see `number`, which also takes arrays.

    Raises:
        TypeError: `value` is not one real number.
        ValueError: `value` is not finite or lies outside the limits.
    """
    if np.ndim(number(name, value, above=above, least=least, remedy=remedy)) != 0:
        raise TypeError(f"{name} must be one number, got {short(value)}" + (f": {remedy}" if remedy else ""))
    return float(value)


def positive_int(name: str, value: Any, *, least: int = 1, remedy: str = "") -> int:
    """`value` as a Python int of at least `least`; it fixes a shape.

    Raises:
        TypeError: `value` is not a whole number.
        ValueError: `value` is below `least`.
    """
    tail = f": {remedy}" if remedy else ""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be a whole number, got {short(value)}{tail}")
    require(int(value) >= least, f"{name} must be >= {least}, got {short(value)}{tail}")
    return int(value)


def positive_ints(name: str, value: Any, *, least: int = 1, remedy: str = "") -> list[int]:
    """`value` as a list of Python ints of at least `least` each.

    Raises:
        TypeError: `value` is not a sequence, or an entry is not a whole number.
        ValueError: an entry is below `least`.
    """
    listed = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
    if not listed and not (hasattr(value, "__array__") and np.ndim(value) == 1):
        tail = f": {remedy}" if remedy else ""
        raise TypeError(f"{name} must be a sequence of whole numbers, got {short(value)}{tail}")
    entries = value if listed else np.asarray(value)
    return [positive_int(name, entry, least=least, remedy=remedy) for entry in entries]


def whole(name: str, value: Any, *, least: int = 1, remedy: str = "") -> Array:
    """`value` as an int32 leaf of at least `least`: a count that may change without a recompilation.

    Raises:
        TypeError: `value` is not a whole number or an array of them.
        ValueError: `value` is below `least`.
    """
    if isinstance(value, Tracer):
        return value
    tail = f": {remedy}" if remedy else ""
    array = _array(value)
    if array is None or array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be a whole number, got {short(value)}{tail}")
    require(bool(np.all(array >= least)), f"{name} must be >= {least}, got {short(value)}{tail}")
    require(bool(np.all(array <= MOST)), f"{name} must be <= {MOST}, got {short(value)}{tail}")
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
    raise ValueError(f"{name} must be one of the names below, got {short(value)}: {hint}{', '.join(choices)}")
