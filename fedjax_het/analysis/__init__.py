"""Understanding heterogeneity: what to measure, and what theory says of it."""

from fedjax_het.analysis import (
    alignment,
    bounds,
    constants,
    divergence,
    estimators,
    gradients,
    label_skew,
    oracles,
    softmax,
    variances,
)
from fedjax_het.analysis.at_optimum import dissimilarity_at_optimum, gamma_gap, zeta_star_sq
from fedjax_het.analysis.concept_shift import ConceptShift, concept_shift
from fedjax_het.analysis.curvature import (
    SpectralNorms,
    hessian_dissimilarity,
    hessian_spread,
    hessians,
    smoothness,
)
from fedjax_het.analysis.dissimilarity import GradientDissimilarity, gradient_dissimilarity
from fedjax_het.analysis.drift import ClientDrift, LayerDrift, client_drift, layer_drift
from fedjax_het.analysis.drift_law import drift_exponent, drift_growth, quadratic_path
from fedjax_het.analysis.drift_vector import DriftVector, drift_vector
from fedjax_het.analysis.feature_shift import FeatureShift, feature_shift
from fedjax_het.analysis.front import Front, dissimilarity_front, visited_front
from fedjax_het.analysis.gradient_bound import LocalGradients, local_gradients
from fedjax_het.analysis.gradient_noise import GradientNoise, gradient_noise
from fedjax_het.analysis.inexactness import Inexactness, inexactness
from fedjax_het.analysis.local_path import LocalPath, local_path
from fedjax_het.analysis.null_band import Measured
from fedjax_het.analysis.update_cosines import UpdateCosines, update_cosines

__all__ = [
    "ClientDrift",
    "ConceptShift",
    "DriftVector",
    "FeatureShift",
    "Front",
    "GradientDissimilarity",
    "GradientNoise",
    "Inexactness",
    "LayerDrift",
    "LocalGradients",
    "LocalPath",
    "Measured",
    "SpectralNorms",
    "UpdateCosines",
    "alignment",
    "bounds",
    "client_drift",
    "concept_shift",
    "constants",
    "dissimilarity_at_optimum",
    "dissimilarity_front",
    "divergence",
    "drift_exponent",
    "drift_growth",
    "drift_vector",
    "estimators",
    "feature_shift",
    "gamma_gap",
    "gradient_dissimilarity",
    "gradient_noise",
    "gradients",
    "hessian_dissimilarity",
    "hessian_spread",
    "hessians",
    "inexactness",
    "label_skew",
    "layer_drift",
    "local_gradients",
    "local_path",
    "oracles",
    "quadratic_path",
    "smoothness",
    "softmax",
    "update_cosines",
    "variances",
    "visited_front",
    "zeta_star_sq",
]
