"""Double precision for the oracles: an exact limit in single precision would not be one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from fedjax_het.check import require

__all__ = ["double"]

F = TypeVar("F", bound=Callable[..., Any])


def double(function: F) -> F:
    """`function` in double precision, whether or not x64 is on.

    With x64 on nothing changes, and arguments may be tracers. With x64 off it is turned on for the call:
    arguments of single precision are widened, and arrays come back as NumPy's, in double precision, which
    survive outside of the call.

    Raises:
        ValueError: a call inside jit, vmap or grad while x64 is off, where nothing can be widened any more; the
            message says how to turn it on.
    """

    @functools.wraps(function)
    def wide(*args: Any, **kwargs: Any) -> Any:
        if jnp.result_type(float) == jnp.float64:
            return function(*args, **kwargs)
        traced = isinstance(jnp.zeros(()) + 0, Tracer)
        require(
            not traced and not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((args, kwargs))),
            f"x64 must be on for {function.__name__} inside jit, vmap or grad, got off: wrap the outermost "
            "call in `with jax.enable_x64(True):`, or begin with jax.config.update('jax_enable_x64', True)",
        )
        with jax.enable_x64(True):
            args, kwargs = jax.tree.map(_widened, (args, kwargs))
            return jax.device_get(function(*args, **kwargs))

    return cast(F, wide)


def _widened(leaf: Any) -> Any:
    if isinstance(leaf, (jax.Array, np.ndarray, np.generic)) and leaf.dtype == np.float32:
        return np.asarray(leaf, np.float64)
    return leaf
