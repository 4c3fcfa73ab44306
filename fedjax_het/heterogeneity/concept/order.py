"""Classes in an order that does not depend on their names."""

from __future__ import annotations

import numpy as np

from fedjax_het.federation import Federation
from fedjax_het.heterogeneity.strata import appearance
from fedjax_het.transforms import expect_federation

__all__ = ["classes"]


def classes(federation: Federation) -> np.ndarray:
    """All classes of a federation's pool in the order of their first rows, int [K]; absent ones come last.

    What is drawn for the first, the second ... of them follows the classes when their labels are renamed.

    Raises:
        TypeError: not a federation.
        ValueError: its rows have no label each.
    """
    pool = expect_federation("federation", federation).pool
    present = appearance(pool.labels)[1]
    return np.concatenate([present, np.setdiff1d(np.arange(pool.spec.num_classes or 0), present)])
