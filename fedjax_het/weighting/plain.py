"""Weights that need no more than sizes, or that are given."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from fedjax_het.algorithm import Cohort
from fedjax_het.check import number, require
from fedjax_het.typing import Array

__all__ = ["given", "normalise", "proportional", "uniform"]


def normalise(shares: Array, cohort: Cohort) -> Array:
    """Shares times multiplicity, scaled to sum to 1 over the clients present; zeros if nobody is.

    Args:
        shares: non-negative, float [C].
        cohort: who is there.
    """
    kept = jnp.where(cohort.present, shares * cohort.multiplicity, 0)
    total = jnp.sum(kept)
    return kept / jnp.where(total > 0, total, 1)


def _uniform(sizes: Array, cohort: Cohort) -> Array:
    return normalise(jnp.ones_like(sizes), cohort)


def _proportional(sizes: Array, cohort: Cohort) -> Array:
    return normalise(sizes, cohort)


def _given(weights: Array, sizes: Array, cohort: Cohort) -> Array:
    require(
        weights.shape == (cohort.population,),
        f"weights must be one number for each of the {cohort.population} clients, got shape {weights.shape}: "
        "0 leaves a client out",
    )
    return normalise(weights.at[cohort.id].get(mode="clip").astype(sizes.dtype), cohort)


def uniform() -> Any:
    """omega_k = 1/|S|: every client counts alike."""
    return jax.tree_util.Partial(_uniform)


def proportional() -> Any:
    """omega_k = n_k / sum over the cohort of n: every row counts alike (scheme R of the specification)."""
    return jax.tree_util.Partial(_proportional)


def given(weights: Any) -> Any:
    """omega_k proportional to weights[k], whatever the sizes.

    Args:
        weights: one non-negative number a client, [N]; a leaf, so gradients with respect to it exist.

    Raises:
        TypeError, ValueError: not numbers, negative, or all zero.
    """
    if not isinstance(weights, Tracer):
        values = number("weights", weights, least=0, remedy="0 leaves a client out")
        require(
            values.ndim == 1 and bool(np.any(np.asarray(values) > 0)),
            f"weights must be one number a client, not all zero, got {weights!r}: 0 leaves a client out",
        )
        weights = values
    return jax.tree_util.Partial(_given, weights)
