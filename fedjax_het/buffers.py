"""Large arrays on their way from NumPy to JAX, without a second copy of them."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.typing import Array

__all__ = ["room", "taken"]

LINE = 64
"""Bytes at multiples of which an array must begin for JAX's CPU backend to use it where it lies."""


def room(shape: int | tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array to be filled, that `taken` then hands over where it lies."""
    shape = (shape,) if isinstance(shape, int) else shape
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.empty(size + LINE, np.uint8)
    start = -raw.ctypes.data % LINE
    return raw[start : start + size].view(dtype).reshape(shape)


def taken(array: np.ndarray) -> Array:
    """`array` as JAX has it: without a copy if it came from `room` and is locked, since nobody writes to it."""
    return jnp.asarray(array) if array.flags.writeable else jax.device_put(array)
