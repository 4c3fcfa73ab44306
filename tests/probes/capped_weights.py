"""Weights with a largest share that holds on the cohort: water-filling, without a loop."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het.algorithm import Cohort
from fedjax_het.check import number
from fedjax_het.typing import Array
from fedjax_het.weighting import normalise

__all__ = ["capped"]


def _capped(cap: Array, sizes: Array, cohort: Cohort) -> Array:
    share = normalise(sizes, cohort)
    cap = jnp.maximum(cap, 1 / jnp.maximum(jnp.sum((share > 0).astype(share.dtype)), 1))
    ordered = -jnp.sort(-share)
    rest = jnp.cumsum(ordered[::-1])[::-1]  # shares from the j-th on
    above = jnp.arange(share.shape[0], dtype=share.dtype)
    scale = (1 - above * cap) / jnp.where(rest > 0, rest, 1)
    fits = (rest > 0) & (scale * ordered <= cap)
    # no first j when the cap is 1/m and a rounding error says no: then everyone has the cap
    flat = jnp.where(share > 0, cap, 0)
    return jnp.where(jnp.any(fits), jnp.minimum(cap, scale[jnp.argmax(fits)] * share), flat)


def capped(cap: Any) -> Any:
    """omega_k = min(cap, s n_k) with s such that they sum to 1: the nearest weights to n_k/n under the cap.

    Where the cohort is too small for the cap, it is one over the clients present.

    Args:
        cap: the largest share, in (0, 1]; a leaf.
    """
    return jax.tree_util.Partial(_capped, number("cap", cap, above=0, most=1))
