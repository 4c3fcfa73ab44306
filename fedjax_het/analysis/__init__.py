"""Understanding heterogeneity: what to measure, and what theory says of it."""

from fedjax_het.analysis.dissimilarity import GradientDissimilarity, gradient_dissimilarity

__all__ = ["GradientDissimilarity", "gradient_dissimilarity"]
