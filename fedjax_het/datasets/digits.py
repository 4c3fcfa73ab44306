"""Handwritten digits that come with scikit-learn: images at the size of a unit test."""

from __future__ import annotations

import numpy as np

from fedjax_het.pool import Pool, pool

__all__ = ["digits"]


def digits(*, flat: bool = True) -> Pool:
    """1797 images of 8 x 8 grey values, ten classes of 174 to 183 images each.

    Args:
        flat: whether an image is a row of 64 numbers, or 8 x 8.

    Returns:
        A Pool "digits": x float [1797, 64] or [1797, 8, 8], the grey values 0..16 divided by 16; y int32
        [1797].

    Reference: Alpaydin, Kaynak, "Optical recognition of handwritten digits", UCI Machine Learning Repository
        1998 (its test set, as bundled by scikit-learn).
    """
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)
    x = np.asarray(values, np.float64) / 16
    return pool(x if flat else x.reshape(-1, 8, 8), labels, num_classes=10, name="digits")
