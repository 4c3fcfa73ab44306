"""Rows that a shift can work on, and normal draws that belong to them."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.check import require
from fedjax_het.federation import Federation
from fedjax_het.permutation import scramble
from fedjax_het.transforms import expect_federation
from fedjax_het.typing import Array

__all__ = ["expect_images", "expect_numbers", "normal", "words"]


def expect_numbers(federation: Federation) -> Federation:
    """`federation`, whose features must be numbers that can be computed with.

    Raises:
        TypeError: not a federation.
        ValueError: its rows are tokens.
    """
    spec = expect_federation("federation", federation).spec.pool
    require(
        spec.task != "tokens",
        f"federation must hold numbers as features, got tokens of {spec.name!r}: token numbers cannot be "
        "scaled or added to, so change who holds which rows instead",
    )
    return federation


def expect_images(federation: Federation) -> tuple[int, int]:
    """(height, width) of a federation's images, which have rows of shape [H, W] or [H, W, C].

    Raises:
        TypeError: not a federation.
        ValueError: rows of another shape, or tokens.
    """
    spec = expect_numbers(federation).spec.pool
    require(
        len(spec.feature_shape) in (2, 3),
        f"federation must hold images of shape (H, W) or (H, W, C), got rows of shape {spec.feature_shape} of "
        f"{spec.name!r}: reshape x in the pool, as fh.datasets.digits(flat=False) does; the models flatten it",
    )
    return spec.feature_shape[0], spec.feature_shape[1]


def words(rng: np.random.Generator, count: int) -> np.ndarray:
    """Random keys of `normal`, uint32 [count, 2]."""
    return rng.integers(2**32, size=(count, 2), dtype=np.uint32)


def normal(word: Array, row: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    """Standard normal draws that belong to rows: the same whenever a row is taken, [B, *shape].

    By hashing: `jax.random` under a key for each row costs seconds of compilation in every program that takes
    a row. A draw is the normal quantile of one of 2^23 even steps, so none is larger than 5.4.

    Args:
        word: whose draws they are, uint32 [2].
        row: row numbers of the pool, int32 [B].
        shape: of one row's draws.
        dtype: of the draws.
    """
    number = row.astype(jnp.uint32)
    first, second = (scramble(scramble(number ^ word[i]) + word[1 - i])[:, None] for i in (0, 1))
    place = jnp.arange(math.prod(shape), dtype=jnp.uint32)[None]
    bits = scramble(scramble(place ^ first) + second) >> 9
    signed = (bits.astype(dtype) + 0.5) * 2.0**-22 - 1
    return (math.sqrt(2) * jax.lax.erf_inv(signed)).reshape(len(row), *shape)
