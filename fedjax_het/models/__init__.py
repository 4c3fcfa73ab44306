"""Models: each factory takes a pool and returns a `fedjax_het.problem.Problem`."""

from fedjax_het.models.cnn import cnn
from fedjax_het.models.linear import linear, softmax
from fedjax_het.models.linen import from_linen
from fedjax_het.models.mlp import mlp
from fedjax_het.models.nnx import from_nnx
from fedjax_het.models.quadratic import quadratic, quadratic_federation, quadratic_pool
from fedjax_het.models.quadratics import quadratics
from fedjax_het.models.resnet import resnet
from fedjax_het.models.selectors import body, head, leaf_paths, matching, norm, select

__all__ = [
    "body",
    "cnn",
    "from_linen",
    "from_nnx",
    "head",
    "leaf_paths",
    "linear",
    "matching",
    "mlp",
    "norm",
    "quadratic",
    "quadratic_federation",
    "quadratic_pool",
    "quadratics",
    "resnet",
    "select",
    "softmax",
]
