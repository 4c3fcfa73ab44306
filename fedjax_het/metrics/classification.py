"""Accuracy by class: balanced over classes, and what it says of clients with other label mixtures."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.check import require
from fedjax_het.metrics.metric import Metric
from fedjax_het.typing import Array, Metrics

__all__ = ["balanced_accuracy", "class_accuracy", "reweighted_accuracy"]


def _right_by_class(out: Array, y: Array) -> tuple[Array, Array]:
    dtype = jnp.result_type(float)
    of_class = (y[:, None] == jnp.arange(out.shape[-1], dtype=y.dtype)[None]).astype(dtype)
    right = (jnp.argmax(out, axis=-1).astype(y.dtype) == y).astype(dtype)
    return of_class * right[:, None], of_class


def _balanced(sums: tuple[Array, Array], count: Array) -> Metrics:
    right, rows = sums
    recall = jnp.where(rows > 0, right / jnp.maximum(rows, 1), 0)
    classes = jnp.maximum(jnp.sum(rows > 0, axis=-1), 1).astype(recall.dtype)
    return {"balanced_accuracy": jnp.sum(recall, axis=-1) / classes}


def balanced_accuracy() -> Metric:
    """The share predicted right of each class, averaged over the classes present: "balanced_accuracy".

    For logits [B, K] and labels [B]. A client with 90 rows of one class and 10 of another, all called the
    first, is 90 % accurate and 50 % balanced.
    """
    return Metric(jax.tree_util.Partial(_right_by_class), jax.tree_util.Partial(_balanced), "classification")


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
