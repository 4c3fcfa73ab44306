"""Sizes cut off before they become weights."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het.algorithm import Cohort
from fedjax_het.check import number
from fedjax_het.typing import Array
from fedjax_het.weighting.plain import normalise

__all__ = ["clip_counts"]


def _clipped(most: Array, sizes: Array, cohort: Cohort) -> Array:
    return normalise(jnp.minimum(sizes, most.astype(sizes.dtype)), cohort)


def clip_counts(most: Any) -> Any:
    """omega_k proportional to min(n_k, most): rows beyond `most` do not count.

    Not a bound on omega: beside clients of few rows one of `most` rows still has nearly all of the weight
    (100, 1 and 1 rows with most=50 give 0.96). `capped` bounds the share itself.

    It reveals n_k of every client below `most`, and of the others that they have so many.

    Args:
        most: rows that count, > 0; a leaf.

    Raises:
        TypeError: no number.
        ValueError: not > 0.
    """
    most = number("most", most, above=0, remedy="it is the number of rows that count, such as 100")
    return jax.tree_util.Partial(_clipped, most)
