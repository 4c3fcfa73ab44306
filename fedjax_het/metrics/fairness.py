"""How evenly a metric is spread over clients."""

from __future__ import annotations

import numpy as np

__all__ = ["mean", "worst_decile"]


def mean(values: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Unweighted mean over the clients that hold rows.

    Args:
        values: one number a client [..., N].
        held: whether the client counts, bool [..., N].

    Returns:
        [...]; 0 if nobody counts.
    """
    return np.where(held, values, 0).sum(-1) / np.maximum(held.sum(-1), 1)


def worst_decile(values: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Mean over the worst tenth (rounded up) of the clients that hold rows; low is bad.

    Args:
        values: one number a client [..., N].
        held: whether the client counts, bool [..., N].

    Returns:
        [...]; 0 if nobody counts.
    """
    ordered = np.sort(np.where(held, values, np.inf), axis=-1)
    count = np.ceil(held.sum(-1, keepdims=True) / 10)
    worst = np.arange(values.shape[-1]) < count
    return np.where(worst, ordered, 0).sum(-1) / np.maximum(worst.sum(-1), 1)
