"""Mixed channels: each client's colours, or its vectors, are turned by a rotation of its own."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.lax import Precision

from fedjax_het.check import require, scalar
from fedjax_het.federation import Federation, Transform
from fedjax_het.heterogeneity.groups import Clusters, given, groups, one_of
from fedjax_het.heterogeneity.rows import expect_numbers
from fedjax_het.split import generator
from fedjax_het.transforms import times, transformed
from fedjax_het.typing import Array

__all__ = ["channels"]

LONGEST = 256
"""Channels that can be mixed: a matrix of this side takes 256 KiB a client."""


def channels(
    federation: Federation,
    *,
    spread: float | None = None,
    mixing: Any = None,
    clusters: Clusters | None = None,
    seed: int = 0,
) -> Federation:
    """Mix the last axis of each client's features by a random rotation: x -> exp(spread S_k) x.

    S_k = A - A', the entries of A drawn from N(0, 1), divided by its largest singular value. So exp(spread S_k)
    is orthogonal and keeps all norms; it turns no vector by more than `spread` degrees, and some by exactly
    that. For colours it is a turn about a random axis of the colour space.

    Args:
        federation: vectors [d], or images [H, W, C] of 2 channels at least.
        spread: the largest turn, in degrees, 0 .. 180; 0 leaves all features as they are.
        mixing: the matrices themselves, [N, d, d] (x -> mixing x); or one a cluster if there are clusters.
        clusters: latent clusters whose clients share a matrix.
        seed: of the draws.

    Returns:
        The federation; truth: "mixing", float [N, d, d]; "cluster", int32 [N], if there are clusters.

    Raises:
        TypeError: not a federation, values that are no numbers.
        ValueError: grey images, tokens, more than 256 channels, both or neither of `spread` and `mixing`, a
            spread out of range, matrices of the wrong shape, more clusters than clients.

    Reference: Reisizadeh, Farnia, Pedarsani, Jadbabaie, "Robust federated learning: the case of affine
        distribution shifts", NeurIPS 2020 (x -> Λ_k x + δ_k with an orthogonal Λ_k).
    """
    size = _channels(federation)
    time = times(federation.truth, "mixing")
    group = groups(federation.num_clients, clusters, seed=seed, name="channels", time=time)
    chosen = one_of("pass spread=45 for turns of 45 degrees, or the matrices", spread=spread, mixing=mixing)
    if chosen == "mixing":
        matrix = given("mixing", mixing, group, shape=(size, size), remedy="pass square matrices")
    else:
        turn = scalar("spread", spread, least=0, remedy="it is the largest turn, in degrees")
        require(turn <= 180, f"spread must be <= 180, got {spread}: no turn is larger than half a circle")
        rng = generator(seed, "channels", time)
        matrix = _turns(rng.standard_normal((group.count, size, size)), np.deg2rad(turn))
    argument = group.argument(matrix)
    truth = {"mixing": argument[0], **group.truth}
    return transformed(federation, Transform(argument, _mixed), truth=truth)


def _channels(federation: Federation) -> int:
    spec = expect_numbers(federation).spec.pool
    shape = spec.feature_shape
    require(
        len(shape) in (1, 3) and shape[-1] > 1,
        f"federation must hold vectors (d,) or images (H, W, C) with at least 2 channels, got rows of shape "
        f"{shape} of {spec.name!r}: grey images have no colours to mix, use affine or blur",
    )
    require(
        shape[-1] <= LONGEST,
        f"federation must have at most {LONGEST} channels to mix, got {shape[-1]}: use gaussian, which shifts "
        "each feature",
    )
    return shape[-1]


def _turns(square: np.ndarray, turn: float) -> np.ndarray:
    """exp(turn S) of the skew-symmetric part of each matrix [G, d, d], scaled to a spectral norm of 1."""
    skew = square - square.swapaxes(1, 2)
    # i S is Hermitian, so that exp(turn S) = U exp(-i turn values) U*
    values, vectors = np.linalg.eigh(1j * skew)
    values = values / np.abs(values).max(1, keepdims=True)
    inner = (vectors * np.expm1(-1j * turn * values)[:, None, :]) @ vectors.conj().swapaxes(1, 2)
    return np.eye(square.shape[1]) + inner.real


def _mixed(x: Array, y: Array, matrix: Array, row: Array) -> tuple[Array, Array]:
    del row
    return jnp.einsum("...d,ed->...e", x, matrix.astype(x.dtype), precision=Precision.HIGHEST), y
