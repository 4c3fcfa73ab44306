"""The shipped weights with a largest share: a weighting that depends on the whole cohort."""

from fedjax_het.weighting import capped

__all__ = ["capped"]
