"""Understanding heterogeneity: what to measure, and what theory says of it."""

from fedjax_het.analysis import oracles
from fedjax_het.analysis.concept_shift import ConceptShift, concept_shift
from fedjax_het.analysis.dissimilarity import GradientDissimilarity, gradient_dissimilarity
from fedjax_het.analysis.feature_shift import FeatureShift, feature_shift
from fedjax_het.analysis.inexactness import Inexactness, inexactness
from fedjax_het.analysis.null_band import Measured

__all__ = [
    "ConceptShift",
    "FeatureShift",
    "GradientDissimilarity",
    "Inexactness",
    "Measured",
    "concept_shift",
    "feature_shift",
    "gradient_dissimilarity",
    "inexactness",
    "oracles",
]
