"""Exact constants of l2-regularised softmax regression: L, mu, w*, F*, Gamma, zeta_*, delta, noise.

    made = softmax.constants(fh.models.softmax(federation.pool, l2=0.1), federation)
    made.constants.L, made.optima.certificate, made.heterogeneity.drift_bias

Everything is computed in double precision, whatever the session's, and comes back as NumPy arrays.
"""

from fedjax_het.analysis.softmax.at_optimum import AtOptimum, at_optimum
from fedjax_het.analysis.softmax.constants import Exact, constants, value
from fedjax_het.analysis.softmax.newton import Minimum, newton
from fedjax_het.analysis.softmax.noise import largest_noise, of_batches, row_variance, second_moment
from fedjax_het.analysis.softmax.optima import Optima, optima
from fedjax_het.analysis.softmax.regression import Regression, regression
from fedjax_het.analysis.softmax.smoothness import smoothness, strong_convexity

__all__ = [
    "AtOptimum",
    "Exact",
    "Minimum",
    "Optima",
    "Regression",
    "at_optimum",
    "constants",
    "largest_noise",
    "newton",
    "of_batches",
    "optima",
    "regression",
    "row_variance",
    "second_moment",
    "smoothness",
    "strong_convexity",
    "value",
]
