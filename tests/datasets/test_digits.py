"""Scikit-learn's digits as a pool."""

import numpy as np

from fedjax_het.datasets import digits


def test_digits():
    flat, square = digits(), digits(flat=False)
    assert flat.x.shape == (1797, 64) and square.x.shape == (1797, 8, 8)
    assert flat.spec.num_classes == 10 and flat.spec.name == "digits"
    np.testing.assert_array_equal(flat.x.reshape(-1, 8, 8), square.x)
    assert float(flat.x.min()) == 0 and float(flat.x.max()) == 1
    np.testing.assert_array_equal(np.asarray(flat.x) * 16 % 1, 0)
    np.testing.assert_array_equal(np.bincount(flat.labels), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180])
