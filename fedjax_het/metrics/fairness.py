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
        [...]; NaN if nobody counts.
    """
    count = held.sum(-1)
    total = np.where(held, values, 0).sum(-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def worst_decile(values: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Mean over the worst tenth (rounded up) of the clients that hold rows; low is bad.

    Args:
        values: one number a client [..., N].
        held: whether the client counts, bool [..., N].

    Returns:
        [...]; NaN if nobody counts.
    """
    ordered = np.sort(np.where(held, values, np.inf), axis=-1)
    count = np.ceil(held.sum(-1, keepdims=True) / 10)
    worst = np.arange(values.shape[-1]) < count
    total = np.where(worst, ordered, 0).sum(-1)
    return np.where(count[..., 0] > 0, total / np.maximum(worst.sum(-1), 1), np.nan)
