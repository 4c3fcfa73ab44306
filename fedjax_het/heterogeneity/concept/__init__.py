"""Concept shifts: the same features mean something else from client to client, P(y | x) changes."""

from fedjax_het.heterogeneity.concept.linear import linear
from fedjax_het.heterogeneity.concept.oppose import oppose
from fedjax_het.heterogeneity.concept.permute import permute
from fedjax_het.heterogeneity.concept.swap import swap

__all__ = ["linear", "oppose", "permute", "swap"]
