"""Label skew, P(y) differs: clients hold the classes in different proportions."""

from fedjax_het.heterogeneity.label.classes import classes
from fedjax_het.heterogeneity.label.dirichlet import dirichlet
from fedjax_het.heterogeneity.label.per_client import dirichlet_per_client
from fedjax_het.heterogeneity.label.proportions import proportions
from fedjax_het.heterogeneity.label.shards import shards

__all__ = ["classes", "dirichlet", "dirichlet_per_client", "proportions", "shards"]
