"""Rotated images: each client sees its own turned by an angle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from fedjax_het.check import scalar
from fedjax_het.federation import Federation, Transform
from fedjax_het.heterogeneity.groups import Clusters, given, groups, one_of
from fedjax_het.heterogeneity.rows import expect_images
from fedjax_het.split import generator
from fedjax_het.transforms import times, transformed
from fedjax_het.typing import Array

__all__ = ["rotate"]

REMEDY = "pass spread=30 for angles in -30..30 degrees, clusters=4 for 0, 90, 180 and 270, or the angles"


def rotate(
    federation: Federation,
    *,
    spread: float | None = None,
    angles: Sequence[float] | None = None,
    clusters: Clusters | None = None,
    seed: int = 0,
) -> Federation:
    """Turn each client's images by an angle of its own, anticlockwise about their centre.

    The value of a pixel is the bilinear interpolation at the point that is turned onto it, with zeros outside
    the image. Multiples of 90 degrees of a square image equal `numpy.rot90` to the last bit.

    Args:
        federation: images [H, W] or [H, W, C]; any clients.
        spread: angles are drawn from U(-spread, spread), in degrees, >= 0.
        angles: the angles themselves, in degrees, one a client; or one a cluster if there are clusters.
        clusters: latent clusters whose clients share an angle. With neither a spread nor angles, cluster c of
            K is turned by 360 c / K degrees: K = 4 is the rotated MNIST of the reference.
        seed: of the angles and of the clusters.

    Returns:
        The federation, its rows untouched: images are turned when they are taken. truth: "angle", degrees,
        float [N]; "cluster", int32 [N], if there are clusters.

    Raises:
        TypeError: not a federation, angles that are no numbers.
        ValueError: rows that are no images, both or neither of `spread` and `angles` without clusters, a
            negative spread, angles that are not one a client, more clusters than clients.

    Reference: Ghosh, Chung, Yin, Ramchandran, "An efficient framework for clustered federated learning",
        NeurIPS 2020 (rotated MNIST in clusters of 0, 90, 180 and 270 degrees).

    Departures: the reference gives every cluster all images of the pool; here each client keeps its rows.
    """
    expect_images(federation)
    time = times(federation.truth, "angle")
    group = groups(federation.num_clients, clusters, seed=seed, name="rotate", time=time)
    if spread is None and angles is None and group.latent:
        angle = np.arange(group.count) * 360 / group.count
    elif one_of(REMEDY, spread=spread, angles=angles) == "angles":
        angle = given("angles", angles, group, remedy="they are degrees")
    else:
        most = scalar("spread", spread, least=0, remedy="it is the largest angle, in degrees")
        angle = most * generator(seed, "rotate", time).uniform(-1, 1, group.count)
    argument = group.argument(angle)
    truth = {"angle": argument[0], **group.truth}
    return transformed(federation, Transform(argument, _rotated), truth=truth)


def _rotated(x: Array, y: Array, angle: Array, row: Array) -> tuple[Array, Array]:
    del row
    rows, height, width, *depth = x.shape
    pixels = x.reshape(rows, height * width, *depth)
    line, column = _sources(angle.astype(x.dtype), height, width)
    top, left = jnp.floor(line), jnp.floor(column)
    out: Any = 0
    for i, weight_i in ((top, 1 - (line - top)), (top + 1, line - top)):
        for j, weight_j in ((left, 1 - (column - left)), (left + 1, column - left)):
            inside = (i >= 0) & (i < height) & (j >= 0) & (j < width)
            weight = jnp.where(inside, weight_i * weight_j, 0)
            place = jnp.clip(i, 0, height - 1) * width + jnp.clip(j, 0, width - 1)
            tap = pixels.at[:, place.astype(jnp.int32)].get(mode="promise_in_bounds")
            out = out + tap * weight.reshape(1, -1, *[1] * len(depth))
    return out.reshape(x.shape), y


def _sources(angle: Array, height: int, width: int) -> tuple[Array, Array]:
    """(line, column) of the point that is turned onto each pixel, both float [H * W].

    Whole quarter turns are split off first, so that their cosines and sines are exact.
    """
    turns = jnp.round(angle / 90)
    rest = jnp.deg2rad(angle - 90 * turns)
    quarter = turns.astype(jnp.int32) % 4
    cos_turns, sin_turns = (
        jnp.asarray(values, angle.dtype)[quarter] for values in ([1, 0, -1, 0], [0, 1, 0, -1])
    )
    cosine = jnp.cos(rest) * cos_turns - jnp.sin(rest) * sin_turns
    sine = jnp.sin(rest) * cos_turns + jnp.cos(rest) * sin_turns
    middle = (height - 1) / 2, (width - 1) / 2
    down = jnp.repeat(jnp.arange(height, dtype=angle.dtype), width) - middle[0]
    across = jnp.tile(jnp.arange(width, dtype=angle.dtype), height) - middle[1]
    return cosine * down + sine * across + middle[0], cosine * across - sine * down + middle[1]
