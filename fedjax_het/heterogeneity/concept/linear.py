"""Linear concepts: each latent cluster has its own linear rule from features to targets."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jax.lax import Precision

from fedjax_het.check import require, scalar
from fedjax_het.federation import Federation, Transform
from fedjax_het.heterogeneity.concept.order import classes
from fedjax_het.heterogeneity.groups import Clusters, groups
from fedjax_het.heterogeneity.rows import expect_numbers, normal, words
from fedjax_het.split import generator
from fedjax_het.transforms import times, transformed
from fedjax_het.typing import Array, Bound

__all__ = ["linear"]

BLOCK = 4096
"""Rows of the pool whose variances are summed at a time."""


def linear(
    federation: Federation,
    *,
    clusters: Clusters,
    difference: float,
    noise: float = 0.0,
    seed: int = 0,
) -> Federation:
    """Replace the targets by a linear rule of the features that differs by latent cluster.

    For cluster c, with V, V_1, V_2, ... of independent entries N(0, 1 / v) and v the features' total variance:

        W_c = cos(a) V + sin(a) V_c,  a = difference * pi / 2
        s = W_c' (x - m) + noise e,   m the mean of the pool, e ~ N(0, I) belonging to the client and the row
        y = argmax(s) for labels, y = s for a regression

    So the scores have a variance of about 1 beside the noise, classes are about equally likely, and the rules
    of two clusters correlate by cos(a)^2: 1 at difference 0, where all clients have the same concept, 0 at
    difference 1. x is what the client sees, after the shifts that came before.

    Args:
        federation: rows of numbers with one label each, or a regression. Each client takes a matrix of
            features x classes.
        clusters: how many there are, C; or the cluster of each client.
        difference: in [0, 1].
        noise: standard deviation of what is added to the scores, >= 0.
        seed: of the rules, of the noise and of the clusters. The classes draw in the order of their first rows
            in the pool, so renaming the labels renames the result.

    Returns:
        The federation; truth: "cluster", int32 [N]; "kernel", float [C, d, K] and "bias", float [C, K] with
        s = kernel' x + bias + noise e and x flattened to d numbers; K is the size of a target in a regression.

    Raises:
        TypeError: not a federation, values that are no numbers.
        ValueError: tokens, several labels a row, a difference outside [0, 1], negative noise, features that
            do not vary, more clusters than clients.

    Reference: Ghosh, Chung, Yin, Ramchandran, "An efficient framework for clustered federated learning",
        NeurIPS 2020 (linear models with squared loss: y = <theta_c, x> + noise in cluster c).
    """
    spec = expect_numbers(federation).spec.pool
    labelled = spec.task == "classification"
    order = classes(federation) if labelled else np.arange(math.prod(spec.target_shape))
    difference = scalar("difference", difference, least=0, remedy="0 is one concept for all, 1 unrelated ones")
    require(difference <= 1, f"difference must be <= 1, got {difference}: 1 is unrelated concepts")
    noise = scalar("noise", noise, least=0, remedy="it is a standard deviation")
    if clusters is None:
        raise TypeError("clusters must be a whole number, got None: say how many share a concept, such as 2")
    time = times(federation.truth, "kernel")
    group = groups(federation.num_clients, clusters, seed=seed, name="linear", time=time)
    mean, variance = _moments(federation)
    require(
        variance > 0,
        f"federation must hold features that vary, got {federation.pool.num_rows} times the same row: nothing "
        "can be told from them",
    )
    rng = generator(seed, "linear", time)
    word = words(rng, federation.num_clients)
    common = rng.standard_normal((len(mean), len(order)))
    own = rng.standard_normal((group.count, len(mean), len(order)))
    angle = difference * np.pi / 2
    kernel = np.empty(own.shape)
    kernel[:, :, order] = (np.cos(angle) * common + np.sin(angle) * own) / np.sqrt(variance)
    bias = -np.einsum("d,cdk->ck", mean, kernel)
    arguments = {
        "kernel": group.argument(kernel),
        "bias": group.argument(bias),
        "noise": group.argument(np.full(group.count, noise)),
        "word": jnp.asarray(word[None]),
    }
    dtype = jnp.result_type(float)
    truth = {"kernel": kernel.astype(dtype), "bias": bias.astype(dtype), **group.truth}
    return transformed(federation, Transform(arguments, Bound(_replaced, (labelled,))), truth=truth)


def _moments(federation: Federation) -> tuple[np.ndarray, float]:
    """The mean of the pool's features, float64 [d], and the sum of their variances; as they are on take."""
    x = np.asarray(federation.x).reshape(federation.pool.num_rows, -1)
    scale = federation.spec.pool.scale or 1.0
    mean, square = np.zeros(x.shape[1]), 0.0
    for start in range(0, len(x), BLOCK):
        mean += x[start : start + BLOCK].sum(0, dtype=np.float64)
    mean /= len(x)
    for start in range(0, len(x), BLOCK):
        square += float(np.sum((x[start : start + BLOCK] - mean) ** 2))
    return mean * scale, square / len(x) * scale**2


def _replaced(
    labelled: bool, x: Array, y: Array, arguments: dict[str, Array], row: Array
) -> tuple[Array, Array]:
    kernel = arguments["kernel"].astype(x.dtype)
    score = jnp.einsum("bd,dk->bk", x.reshape(len(x), -1), kernel, precision=Precision.HIGHEST)
    score = score + arguments["bias"].astype(x.dtype)[None]
    level = arguments["noise"].astype(x.dtype)
    score = score + level * normal(arguments["word"], row, score.shape[1:], x.dtype)
    if labelled:
        return x, jnp.argmax(score, axis=1).astype(y.dtype)
    return x, score.reshape(y.shape).astype(y.dtype)
