"""A model with BatchNorm, its statistics averaged over the cohort or kept by each client."""

from __future__ import annotations

import flax.linen as nn

import fedjax_het as fh
from fedjax_het.typing import Array
from probes.blobs import pool_of

__all__ = ["Normalised", "averaged", "local"]


class Normalised(nn.Module):
    """Dense, BatchNorm, ReLU, Dense."""

    classes: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Logits [B, K] of x [B, ...]."""
        x = nn.Dense(6, name="first")(x.reshape(x.shape[0], -1))
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x)
        return nn.Dense(self.classes, name="head")(nn.relu(x))


def _problem(federation: fh.Federation, buffers: str) -> fh.Problem:
    module = Normalised(federation.spec.pool.num_classes)
    return fh.models.from_linen(module, pool_of(federation), buffers=buffers, head=("head",))


def averaged(federation: fh.Federation) -> fh.Problem:
    """Statistics travel like parameters, and their weighted mean is the global model's."""
    return _problem(federation, "averaged")


def local(federation: fh.Federation) -> fh.Problem:
    """Statistics never leave their client; there is no global model then."""
    return _problem(federation, "local")
