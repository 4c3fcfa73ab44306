"""Feature shifts: the same label looks different from client to client, P(x | y), or P(x), changes."""

from fedjax_het.heterogeneity.feature.affine import affine
from fedjax_het.heterogeneity.feature.blur import blur
from fedjax_het.heterogeneity.feature.channels import channels
from fedjax_het.heterogeneity.feature.covariate import by_cluster, by_feature
from fedjax_het.heterogeneity.feature.domains import domains
from fedjax_het.heterogeneity.feature.gaussian import gaussian
from fedjax_het.heterogeneity.feature.noise import noise
from fedjax_het.heterogeneity.feature.rotate import rotate

__all__ = ["affine", "blur", "by_cluster", "by_feature", "channels", "domains", "gaussian", "noise", "rotate"]
