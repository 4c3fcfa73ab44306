"""Metrics: pure functions of arrays."""

from fedjax_het.metrics import classification, fairness

__all__ = ["classification", "fairness"]
