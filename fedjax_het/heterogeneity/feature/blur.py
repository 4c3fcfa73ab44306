"""Blurred images: each client's camera is out of focus by a width of its own."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.lax import Precision

from fedjax_het.check import scalar
from fedjax_het.federation import Federation, Transform
from fedjax_het.heterogeneity.groups import Clusters, given, groups, one_of
from fedjax_het.heterogeneity.rows import expect_images
from fedjax_het.split import generator
from fedjax_het.transforms import times, transformed
from fedjax_het.typing import Array

__all__ = ["blur"]

SHARP = 1e-2
"""A width, in pixels, below which a neighbour's weight is 0 in any float type."""


def blur(
    federation: Federation,
    *,
    most: float | None = None,
    sigmas: Sequence[float] | None = None,
    clusters: Clusters | None = None,
    seed: int = 0,
) -> Federation:
    """Blur each client's images by a Gaussian of its own width, sigma_k ~ U(0, most).

    Pixel i becomes sum_j w_ij x_j with w_ij proportional to exp(-|i - j|^2 / (2 sigma_k^2)) and adding up to
    1 over the pixels j of the image, along lines and columns alike: nothing is truncated, and an even image
    stays as it is up to its edges.

    Args:
        federation: images [H, W] or [H, W, C].
        most: the largest width, in pixels, >= 0; 0 leaves all images sharp.
        sigmas: the widths themselves, >= 0, one a client; or one a cluster if there are clusters.
        clusters: latent clusters whose clients share a width.
        seed: of the draws.

    Returns:
        The federation; truth: "sigma", pixels, float [N]; "cluster", int32 [N], if there are clusters.

    Raises:
        TypeError: not a federation, widths that are no numbers.
        ValueError: rows that are no images, both or neither of `most` and `sigmas`, a negative width, widths
            that are not one a client, more clusters than clients.

    Reference: Hendrycks, Dietterich, "Benchmarking neural network robustness to common corruptions and
        perturbations", ICLR 2019 (Gaussian blur, here of a client's images rather than of a test set).
    """
    expect_images(federation)
    time = times(federation.truth, "sigma")
    group = groups(federation.num_clients, clusters, seed=seed, name="blur", time=time)
    if one_of("pass most=2 for widths of up to 2 pixels, or the sigmas", most=most, sigmas=sigmas) == "sigmas":
        sigma = given("sigmas", sigmas, group, least=0, remedy="they are widths in pixels")
    else:
        largest = scalar("most", most, least=0, remedy="it is the largest width, in pixels")
        sigma = largest * generator(seed, "blur", time).random(group.count)
    argument = group.argument(sigma)
    truth = {"sigma": argument[0], **group.truth}
    return transformed(federation, Transform(argument, _blurred), truth=truth)


def _blurred(x: Array, y: Array, sigma: Array, row: Array) -> tuple[Array, Array]:
    del row
    rows, height, width = x.shape[:3]
    sigma = jnp.maximum(sigma.astype(x.dtype), SHARP)
    pixels = x.reshape(rows, height, width, -1)
    pixels = jnp.einsum("ij,bjkc->bikc", _weights(sigma, height), pixels, precision=Precision.HIGHEST)
    pixels = jnp.einsum("lk,bikc->bilc", _weights(sigma, width), pixels, precision=Precision.HIGHEST)
    return pixels.reshape(x.shape), y


def _weights(sigma: Array, size: int) -> Array:
    """The weight of each pixel of a line in each pixel's blur, [size, size]."""
    place = jnp.arange(size, dtype=sigma.dtype)
    distance = (place[:, None] - place[None, :]) / sigma
    return jax.nn.softmax(-(distance**2) / 2, axis=1)
