"""Weights of the clients of a cohort.

A weighting is a pytree callable (sizes float [C], cohort) -> omega float [C], 0 where absent. The engine
calls it once a round, before clients work, on the whole cohort. Each algorithm names its paper's default.
"""

from fedjax_het.weighting.plain import given, normalise, proportional, uniform

__all__ = ["given", "normalise", "proportional", "uniform"]
