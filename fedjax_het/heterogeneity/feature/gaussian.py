"""Shifted features: each client's are moved by a random vector of its own."""

from __future__ import annotations

from typing import Any

from fedjax_het.check import scalar
from fedjax_het.federation import Federation, Transform
from fedjax_het.heterogeneity.groups import Clusters, given, groups, one_of
from fedjax_het.heterogeneity.rows import expect_numbers
from fedjax_het.split import generator
from fedjax_het.transforms import times, transformed
from fedjax_het.typing import Array

__all__ = ["gaussian"]


def gaussian(
    federation: Federation,
    *,
    spread: float | None = None,
    shifts: Any = None,
    clusters: Clusters | None = None,
    seed: int = 0,
) -> Federation:
    """Move each client's features by a vector: x -> x + m_k, m_k ~ N(0, spread^2 I).

    Args:
        federation: any rows of numbers. A shift takes as many numbers a client as a row has.
        spread: standard deviation of each entry of m_k, in units of the features, >= 0.
        shifts: the vectors themselves [N, ...], each of a row's shape; or one a cluster if there are clusters.
        clusters: latent clusters whose clients share a shift.
        seed: of the draws.

    Returns:
        The federation; truth: "shift", float [N, ...]; "cluster", int32 [N], if there are clusters.

    Raises:
        TypeError: not a federation, values that are no numbers.
        ValueError: tokens, both or neither of `spread` and `shifts`, a negative spread, shifts of the wrong
            shape, more clusters than clients.

    Reference: Reisizadeh, Farnia, Pedarsani, Jadbabaie, "Robust federated learning: the case of affine
        distribution shifts", NeurIPS 2020 (x -> Λ_k x + δ_k with Λ_k = I).
    """
    shape = expect_numbers(federation).spec.pool.feature_shape
    time = times(federation.truth, "shift")
    group = groups(federation.num_clients, clusters, seed=seed, name="gaussian", time=time)
    if one_of("pass spread=0.5, or the shifts", spread=spread, shifts=shifts) == "shifts":
        shift = given("shifts", shifts, group, shape=shape, remedy="pass one row to add a client")
    else:
        deviation = scalar("spread", spread, least=0, remedy="it is a standard deviation")
        shift = deviation * generator(seed, "gaussian", time).standard_normal((group.count, *shape))
    argument = group.argument(shift)
    truth = {"shift": argument[0], **group.truth}
    return transformed(federation, Transform(argument, _moved), truth=truth)


def _moved(x: Array, y: Array, shift: Array, row: Array) -> tuple[Array, Array]:
    del row
    return x + shift.astype(x.dtype)[None], y
