"""Noise: what minibatches add to a quadratic's gradients, and what is left of it where local work ends."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from fedjax_het.analysis.oracles.double import double
from fedjax_het.analysis.oracles.filters import Work
from fedjax_het.analysis.oracles.functions import Quadratics
from fedjax_het.check import number, positive_int, require, short, whole
from fedjax_het.federation import Federation
from fedjax_het.typing import Array

__all__ = ["Noise", "accumulated", "check_noise", "gradient_noise"]

ALIKE = 1e-5
"""How far the curvatures of a client's rows may differ, relatively; rows are in single precision."""


class Noise(NamedTuple):
    """Additive noise: a local gradient is A_k y - b_k + xi, xi of mean 0 whatever y.

    Attributes:
        covariance: Sigma_k of xi, symmetric, float [N, d, d].
        batches: None for independent draws; or B_k, of how many equal batches an epoch of client k consists,
            int32 [N]. They are disjoint and all rows are in one, so that the noise of an epoch sums to 0 and
            two of its batches have the covariance -Sigma_k / (B_k - 1). Epochs are independent.
    """

    covariance: Array
    batches: Array | None = None


@double
def gradient_noise(federation: Federation, batch_size: int | None) -> Noise:
    """The noise of minibatches as the engine draws them: without replacement within an epoch.

    Rows of client k are F_k(w; x) = 1/2 (w - x)'A_k (w - x), all of one curvature, so that the noise is that of
    A_k x: Sigma_k = (n_k - B) / (n_k - 1) / B times the covariance of a row's linear term A_k x, over the n_k.

    Args:
        federation: of quadratics, one phase, see `quadratics_of`.
        batch_size: B, which divides every n_k that is larger; None for full batches.

    Returns:
        Noise with B_k = n_k / B batches; none at a client with one batch.

    Raises:
        TypeError: not a Federation; a batch size that is not whole.
        ValueError: a client whose rows differ in curvature, since then the noise depends on w; or whose last
            batch would be a short one.
    """
    if not isinstance(federation, Federation):
        raise TypeError(f"federation must be a Federation, got {short(federation)}: see fh.models.quadratics")
    size, offset = np.asarray(federation.train.size), np.asarray(federation.train.offset)
    x, y = np.asarray(federation.x, np.float64), np.asarray(federation.y, np.float64)
    require(
        size.shape[0] == 1 and not federation.transforms and x.ndim == 3 and y.shape[1:] == (x.shape[1] + 1,),
        f"federation must hold quadratics, untransformed and in one phase, got x {list(x.shape)} and "
        f"y {list(y.shape)}: see fh.models.quadratics",
    )
    if batch_size is not None:
        batch_size = positive_int("batch_size", batch_size, remedy="use None for full batches")
    index = np.asarray(federation.train.index)
    covariance, batches = np.zeros((size.shape[1], *x.shape[1:])), np.ones(size.shape[1], np.int64)
    for k, (first, held) in enumerate(zip(offset[0], size[0])):
        rows = index[first : first + held]
        batch = held if batch_size is None else batch_size
        if held <= batch:
            continue
        apart = float(np.max(abs(x[rows] - x[rows[0]])))
        require(
            apart <= ALIKE * float(np.max(abs(x[rows[0]]))),
            f"federation must have one curvature for all rows of a client, got rows of client {k} that differ "
            f"by {apart:.3g}: otherwise the noise depends on w, and there is no closed form",
        )
        require(
            held % batch == 0,
            f"batch_size must divide the rows of every client, got {batch} for {held} rows of client {k}: the "
            "short last batch would be noisier than the others",
        )
        linear = y[rows, :-1] - y[rows, :-1].mean(0)
        covariance[k] = linear.T @ linear / held * (held - batch) / (held - 1) / batch
        batches[k] = held // batch
    return Noise(jnp.asarray(covariance, jnp.result_type(float)), jnp.asarray(batches, jnp.int32))


def check_noise(functions: Quadratics, noise: Any) -> Noise:
    """A `Noise` for these clients, of one or of covariances alone.

    Raises:
        TypeError, ValueError: numbers of the wrong kind or shape; noise at a client with one batch.
    """
    told, batches = noise if isinstance(noise, Noise) else (noise, None)
    shape = jnp.shape(functions.A)
    if told is None:
        return Noise(jnp.zeros_like(functions.A))
    covariance = number("noise", told, remedy="one covariance matrix for each client, [N, d, d]")
    require(
        jnp.shape(covariance) == shape,
        f"noise must have shape {list(shape)}, got {list(jnp.shape(covariance))}: one covariance a client",
    )
    if not isinstance(covariance, Tracer):
        kept = np.asarray(covariance, np.float64)
        slack = 1e-6 * float(np.max(abs(kept)))
        uneven = float(np.max(abs(kept - np.swapaxes(kept, 1, 2))))
        require(
            uneven <= slack and bool(np.all(np.linalg.eigvalsh(kept) >= -slack)),
            "noise must be covariances, got matrices that are not symmetric and positive semidefinite: pass "
            "E[xi xi'] of each client",
        )
    if batches is None:
        return Noise(covariance)
    batches = jnp.broadcast_to(whole("batches", batches, remedy="full batches are one"), shape[:1])
    if not isinstance(covariance, Tracer) and not isinstance(batches, Tracer):
        noisy = np.any(np.asarray(covariance) != 0, axis=(1, 2))
        require(
            not np.any(noisy & (np.asarray(batches) == 1)),
            "noise must be 0 at a client with one batch, got some: a full batch has none",
        )
    return Noise(covariance, batches)


def accumulated(functions: Quadratics, noise: Noise, done: Work) -> Array:
    """Cov of y_k - E[y_k | w], the noise of all local steps at their end; float [N, d, d].

    Independent draws: N <- (I - eta H_k) N (I - eta H_k) + eta^2 Sigma_k, tau_k times. Within an epoch of B
    batches the steps so far weigh Q <- (I - eta H_k) Q + eta I, and have B/(B-1) times the above minus
    Q Sigma_k Q / (B - 1).
    """
    values, vectors = jnp.linalg.eigh(functions.A)
    turned = jnp.einsum("nji,njk,nkl->nil", vectors, noise.covariance, vectors, precision="highest")
    last, curvature = done.rates.shape[0] - 1, values + done.mu
    if noise.batches is None:
        several, per, gain, tie = False, jnp.ones_like(done.steps), jnp.ones_like(functions.p), 0.0
    else:
        several, per = True, noise.batches
        apart = jnp.maximum(per - 1, 1).astype(values.dtype)
        tie = jnp.where(per > 1, 1 / apart, 0)[:, None, None]
        gain = jnp.where(per > 1, 1 + 1 / apart, 0)
    fresh = gain[:, None, None] * turned

    def step(j: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        total, weight = carry
        rate = done.rates[jnp.minimum(j, last)]
        shrink = 1 - rate * curvature
        on = j < done.steps
        after = shrink[:, :, None] * total * shrink[:, None, :] + rate**2 * fresh
        pulled = shrink * weight + rate
        ends = several & (((j + 1) % per == 0) | (j + 1 == done.steps))
        drawn = tie * pulled[:, :, None] * turned * pulled[:, None, :]
        after = jnp.where(ends[:, None, None], after - drawn, after)
        pulled = jnp.where(ends[:, None], 0, pulled)
        return jnp.where(on[:, None, None], after, total), jnp.where(on[:, None], pulled, weight)

    start = (jnp.zeros_like(turned), jnp.zeros_like(values))
    ended = jax.lax.fori_loop(0, jnp.max(done.steps), step, start)[0]
    return jnp.einsum("nij,njk,nlk->nil", vectors, ended, vectors, precision="highest")
