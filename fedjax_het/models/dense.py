"""Matrix products of dense layers, with the weight gradient in the order that runs fast on a CPU."""

from __future__ import annotations

import jax
from jax import lax

from fedjax_het.typing import Array

__all__ = ["NARROW", "product"]

NARROW = 16
"""Outputs up to which the stated order wins on a CPU; beyond it, autodiff's does (measured)."""


def product(x: Array, kernel: Array) -> Array:
    """x @ kernel.

    Args:
        x: [B, d].
        kernel: [d, K].

    Returns:
        [B, K]. Every derivative of the plain product exists and has its value.
    """
    return _narrow(x, kernel) if kernel.shape[-1] <= NARROW else x @ kernel


@jax.custom_jvp
def _narrow(x: Array, kernel: Array) -> Array:
    return x @ kernel


@_narrow.defjvp
def _(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    """The tangent x @ dk, written so that its transpose is the product (out')^T x.

    XLA's fast CPU kernels take a product only if its left side contracts its last axis; the gradient x^T out'
    as autodiff writes it contracts the first. The barrier keeps the compiler from folding the transpose back.
    """
    x, kernel = primals
    dx, dk = tangents
    transposed = lax.optimization_barrier(dk.T)
    return x @ kernel, dx @ kernel + lax.dot_general(transposed, x, (((1,), (1,)), ((), ()))).T
