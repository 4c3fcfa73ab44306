"""Experiments: whole studies in one call."""

from fedjax_het.experiment.comparison import METHODS, Comparison, compare

__all__ = ["METHODS", "Comparison", "compare"]
