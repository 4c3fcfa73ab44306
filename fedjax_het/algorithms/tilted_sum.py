"""Sums over a cohort in which a client weighs exp(a_k), by a reference that the server carries along.

What a method needs is a quotient of two such sums, so a common factor is free: every client weighs
exp(a_k - r), with r the highest exponent of the last cohort. One pass suffices, and nothing overflows.
"""

from __future__ import annotations

import math

import jax.numpy as jnp

from fedjax_het.algorithm import Cohort
from fedjax_het.typing import Array

__all__ = ["highest", "raised", "reach"]


def reach() -> float:
    """How far an exponent may lie from the reference: two thirds of what the default float type holds.

    59 in single precision and 473 in double. The rest is room for gradients and for their sums.
    """
    return 2 / 3 * math.log(float(jnp.finfo(jnp.result_type(float)).max))


def raised(exponent: Array, reference: Array) -> Array:
    """exp(a_k - r), finite and positive whatever a_k.

    Exponents further than `reach` from the reference count as if they were that far: those above weigh alike,
    and those below too, which matters only if nobody in the cohort comes nearer. The next round's reference is
    that of this cohort.

    Args:
        exponent: a_k, scalar.
        reference: r, scalar.
    """
    return jnp.exp(jnp.clip(exponent - reference, -reach(), reach()))


def highest(exponents: Array, cohort: Cohort) -> Array:
    """The next reference: the highest exponent of those present, scalar.

    Args:
        exponents: a_k, float [C].
        cohort: who is there; at least one client.
    """
    return jnp.max(jnp.where(cohort.present, exponents, -jnp.inf))
