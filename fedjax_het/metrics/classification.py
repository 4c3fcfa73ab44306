"""Accuracy by class, and what it says of clients with other label mixtures."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from fedjax_het.check import require
from fedjax_het.typing import Array

__all__ = ["class_accuracy", "reweighted_accuracy"]


def class_accuracy(out: Array, y: Array, num_classes: int) -> Array:
    """The share of each class's rows that is predicted right.

    Args:
        out: scores [B, K].
        y: labels, int [B].
        num_classes: K.

    Returns:
        float [K]; 0 for a class without rows.
    """
    right = (jnp.argmax(out, axis=-1) == y).astype(jnp.result_type(float))
    of_class = (y[:, None] == jnp.arange(num_classes, dtype=y.dtype)[None]).astype(right.dtype)
    return (right @ of_class) / jnp.maximum(of_class.sum(axis=0), 1)


def reweighted_accuracy(by_class: np.ndarray, proportions: np.ndarray) -> np.ndarray:
    """Each client's accuracy on the common test set, its classes weighted as in the client's own data.

    A client with 40 rows of two classes has a handful of test rows, which say little; the common test set,
    reweighted, estimates the same thing from all of it. Valid where p(x | y) is the same for all clients, that
    is under pure label skew.

    Args:
        by_class: accuracy of each client's model by class [..., N, K].
        proportions: the client's label mixture, rows sum to 1 [N, K].

    Returns:
        float [..., N].

    Raises:
        ValueError: proportions that do not sum to 1.
    """
    sums = proportions.sum(axis=-1)
    require(
        bool(np.allclose(sums, 1, atol=1e-4)),
        f"proportions must sum to 1 over classes, got {sums.min():.4f}..{sums.max():.4f}: normalise them",
    )
    return np.sum(by_class * proportions, axis=-1)
