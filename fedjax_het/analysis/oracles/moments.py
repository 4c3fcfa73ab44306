"""Moments: mean and covariance of the model over the draws of cohorts and minibatches, without a single run."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from fedjax_het.analysis.oracles.affine import Affine
from fedjax_het.analysis.oracles.double import double
from fedjax_het.analysis.oracles.filters import local_filter, spectral, times, work
from fedjax_het.analysis.oracles.functions import Quadratics
from fedjax_het.analysis.oracles.noise import accumulated, check_noise
from fedjax_het.check import known, number, require, short, whole
from fedjax_het.typing import Array

__all__ = ["SCHEMES", "Moments", "RandomAffine", "moments"]

SCHEMES = ("full", "I", "II")
"""Everyone; K draws with probabilities p; K different clients drawn uniformly."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Moments:
    """Mean and covariance of a random model, with the same leading axes, if any.

    Attributes:
        mean: E w, float [..., d].
        covariance: Cov w, float [..., d, d].
    """

    mean: Array
    covariance: Array

    @double
    def gap(self, functions: Quadratics) -> Array:
        """E F(w) - F* = 1/2 tr(H C) + 1/2 (E w - w*)'H (E w - w*), float [...]."""
        away = self.mean - jnp.broadcast_to(functions.optimum, self.mean.shape)
        return (self._trace(functions.hessian) + self._square(functions.hessian, away)) / 2

    @double
    def dissimilarity(self, functions: Quadratics) -> Array:
        """E sum_k p_k |grad F_k(w) - grad F(w)|^2, float [...]."""
        apart = functions.A - functions.hessian[None]
        square = jnp.einsum("n,nij,njl->il", functions.p, apart, apart, precision="highest")
        linear = functions.b - jnp.matmul(functions.p, functions.b, precision="highest")[None]
        own = jnp.einsum("nij,...j->...ni", apart, self.mean, precision="highest")
        own = own - jnp.broadcast_to(linear, own.shape)
        return self._trace(square) + jnp.einsum("n,...ni,...ni->...", functions.p, own, own)

    def _trace(self, matrix: Array) -> Array:
        return jnp.einsum("ij,...ji->...", matrix, self.covariance, precision="highest")

    def _square(self, matrix: Array, vector: Array) -> Array:
        return jnp.einsum("...i,ij,...j->...", vector, matrix, vector, precision="highest")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RandomAffine:
    """The round w <- sum_i z_i / K, z_i = M_k w + v_k + noise of covariance N_k for client k = k_i drawn.

    With M = sum_k q_k M_k and t_k = M_k m + v_k - m+ the moments go

        m+ = M m + sum_k q_k v_k
        C+ = M C M + between (sum_k q_k (t_k t_k' + M_k C M_k) - M C M) + sum_k own_k N_k

    Attributes:
        matrix: M_k, symmetric, float [N, d, d].
        offset: v_k, float [N, d].
        noise: N_k, float [N, d, d].
        share: q_k, of sum 1, float [N].
        between: what is left of the variance between clients, scalar; 0 if everyone takes part.
        own: what is left of each client's noise, float [N].
    """

    matrix: Array
    offset: Array
    noise: Array
    share: Array
    between: Array
    own: Array

    @double
    def __call__(self, before: Moments) -> Moments:
        """The moments after one round."""
        mean = self.mean(before.mean)
        apart = self._images(before.mean) - mean[None]
        between = jnp.einsum("n,ni,nj->ij", self.share, apart, apart, precision="highest")
        return Moments(mean, self._carried(before.covariance) + self.between * between + self._added)

    @property
    @double
    def mean(self) -> Affine:
        """The map of the mean: that of the round with everyone and without noise."""
        matrix = jnp.einsum("n,nij->ij", self.share, self.matrix, precision="highest")
        return Affine(matrix, jnp.matmul(self.share, self.offset, precision="highest"))

    @double
    def trajectory(self, start: Any, rounds: int) -> Moments:
        """The moments before and after each of the rounds, with a leading axis of rounds + 1.

        Args:
            start: Moments, or a point [d] of which one is certain.
            rounds: how many; it fixes the shape.

        Raises:
            TypeError, ValueError: `rounds` is not a whole number >= 0.
        """
        if not isinstance(start, Moments):
            point = jnp.asarray(start, self.offset.dtype)
            start = Moments(point, jnp.zeros((*point.shape, *point.shape), point.dtype))
        path = self.mean.trajectory(start.mean, rounds)  # which checks the number of rounds

        def one(state: Moments, _: None) -> tuple[Moments, Array]:
            state = self(state)
            return state, state.covariance

        after = jax.lax.scan(one, start, length=rounds)[1]
        return Moments(path, jnp.concatenate([start.covariance[None], after]))

    @property
    @double
    def stationary(self) -> Moments:
        """Where the moments stay, from one linear solve of d^2 equations.

        It is where they go if `rate` is below 1. Numbers far from 0 or negative variances say that it is not.
        """
        mean = self.mean.fixed_point
        apart = self._images(mean) - mean[None]
        between = jnp.einsum("n,ni,nj->ij", self.share, apart, apart, precision="highest")
        constant = self.between * between + self._added
        operator = self._operator
        identity = jnp.eye(operator.shape[0], dtype=operator.dtype)
        flat = jnp.linalg.solve(identity - operator, constant.ravel())
        solved = flat.reshape(constant.shape)
        return Moments(mean, (solved + solved.T) / 2)

    @property
    @double
    def rate(self) -> Array:
        """The largest |eigenvalue| of the covariance's map: variances settle if it is below 1, scalar.

        Sampling may make it exceed 1 where the mean converges.
        """
        return jnp.max(jnp.abs(jnp.linalg.eigvals(self._operator)))

    def divergence(self, before: Moments) -> Array:
        """E sum_k q_k |z_k - z|^2, z = sum_k q_k z_k, of all clients' models where local work ends; scalar.

        It is V_s of the analyses after s local steps, whoever takes part, for a round of s steps with
        eta_g = 1; sweep the steps with `jax.vmap`.
        """
        mean = self.mean(before.mean)
        apart = self._images(before.mean) - mean[None]
        spread = jnp.einsum("n,ni,ni->", self.share, apart, apart, precision="highest")
        images = jnp.einsum("nij,jk,nki->n", self.matrix, before.covariance, self.matrix, precision="highest")
        matrix = self.mean.matrix
        middle = jnp.einsum("ij,jk,ki->", matrix, before.covariance, matrix, precision="highest")
        noise = jnp.trace(self.noise, axis1=1, axis2=2)
        return spread + jnp.sum(self.share * (images + (1 - self.share) * noise)) - middle

    def _images(self, point: Array) -> Array:
        return jnp.einsum("nij,j->ni", self.matrix, point, precision="highest") + self.offset

    def _carried(self, covariance: Array) -> Array:
        matrix = self.mean.matrix
        middle = jnp.einsum("ij,jk,kl->il", matrix, covariance, matrix, precision="highest")
        each = jnp.einsum(
            "n,nij,jk,nkl->il", self.share, self.matrix, covariance, self.matrix, precision="highest"
        )
        return middle + self.between * (each - middle)

    @property
    def _operator(self) -> Array:
        """`_carried` as a matrix, [d^2, d^2]."""
        size = self.offset.shape[1]
        units = jnp.eye(size * size, dtype=self.matrix.dtype).reshape(-1, size, size)
        return jax.vmap(self._carried)(units).reshape(size * size, -1).T

    @property
    def _added(self) -> Array:
        return jnp.einsum("n,nij->ij", self.own, self.noise, precision="highest")


@double
def moments(
    functions: Quadratics,
    *,
    learning_rate: Any,
    steps: Any = None,
    noise: Any = None,
    scheme: str = "full",
    cohort: Any = None,
    fresh: bool = False,
    mu: Any = 0.0,
    server_learning_rate: Any = 1.0,
) -> RandomAffine:
    """A round of FedAvg or FedProx with noisy gradients and sampled clients, as a map of mean and covariance.

    A local gradient is A_k y - b_k plus noise of mean 0 and covariance Sigma_k, independent of y; different
    clients and rounds are independent. M_k = I - S_k A_k and v_k = S_k b_k are the round's without noise, N_k
    the covariance of a client's noise at its end.

    | scheme | w+ | between | noise |
    |---|---|---|---|
    | full | sum_k p_k y_k | 0 | sum p_k^2 N_k |
    | I | mean over K draws with probabilities p | 1/K | (1 - 1/K) sum p_k^2 N_k + (1/K) sum p_k N_k |
    | I, fresh | the same, each draw a run of its own | 1/K | (1/K) sum p_k N_k |
    | II | w + (N/K) sum over K different clients of p_k (y_k - w) | (N - K) / ((N - 1) K) | (1/K) sum .. / N |

    Scheme I is `sampling.proportional(K)` with `weighting.per_draw()`, in which a client drawn twice runs once;
    scheme II is `sampling.uniform(K)` with `weighting.unbiased()`. Every scheme has the mean of full
    participation. As eta -> 0 the stationary covariance solves H C + C H = eta sum_k p_k^2 Sigma_k in the full
    scheme, whatever the number of steps: noise falls with the number of clients, bias does not.

    Args:
        functions: the clients'.
        learning_rate: eta > 0, or eta_j of each local step [J].
        steps: tau >= 0, equal or one for each client [N]; J if None.
        noise: Sigma_k [N, d, d] of independent draws; or a `Noise`, such as `gradient_noise` makes for the
            engine's batches. None for full batches.
        scheme: one of `SCHEMES`.
        cohort: K >= 1, for schemes I and II; in scheme II at most N.
        fresh: whether a client that is drawn twice, in scheme I, runs twice with noise of its own.
        mu: >= 0, of a proximal term.
        server_learning_rate: eta_g > 0: w + eta_g (w+ - w).

    Returns:
        A `RandomAffine`. All numbers may be tracers, K too.

    Raises:
        TypeError, ValueError: a number of the wrong kind, range or shape; a cohort without a scheme or the
            other way round; noise at a client whose batches are full.

    Reference:
        The schemes: Li, Huang, Yang, Wang, Zhang, ICLR 2020, section 3.3. The recursions are derived here.

    Departures:
        Scheme II scales updates, not models, by (N/K) p_k; with equal p they are the same.
    """
    known("scheme", scheme, SCHEMES)
    require(
        (cohort is None) == (scheme == "full"),
        f"cohort must be given for schemes I and II, and only there, got {short(cohort)} for {scheme!r}: it is "
        "the number of draws",
    )
    if not isinstance(fresh, bool):
        raise TypeError(f"fresh must be True or False, got {short(fresh)}: False runs a client once a round")
    require(
        not fresh or scheme == "I",
        f"fresh must be False for scheme {scheme!r}, got True: no client is drawn twice there",
    )
    done = work(functions.count, learning_rate, steps, mu=mu)
    rate = number("server_learning_rate", server_learning_rate, above=0, remedy="1 adds the mean as it is")
    noise = check_noise(functions, noise)
    clients, real = functions.count, functions.p.dtype
    share, scale = functions.p, jnp.broadcast_to(rate, functions.p.shape).astype(real)
    if scheme == "full":
        between, own = jnp.zeros((), real), share**2
    else:
        draws = whole("cohort", cohort, remedy="at least one client is drawn").astype(real)
        if scheme == "I":
            between = 1 / draws
            own = between * share if fresh else (1 - between) * share**2 + between * share
        else:
            require(
                isinstance(draws, Tracer) or bool(draws <= clients),
                f"cohort must be <= {clients}, got {short(cohort)}: scheme II draws different clients",
            )
            scale, share = scale * clients * share, jnp.full_like(share, 1 / clients)
            between = (clients - draws) / (max(clients - 1, 1) * draws)
            own = share / draws
    filters = spectral(functions.A, lambda values: scale[:, None] * local_filter(values, done))
    moved = jnp.einsum("nij,njl->nil", filters, functions.A, precision="highest")
    matrix = jnp.eye(functions.dimension, dtype=real)[None] - (moved + jnp.swapaxes(moved, 1, 2)) / 2
    left = (scale**2)[:, None, None] * accumulated(functions, noise, done)
    return RandomAffine(matrix, times(filters, functions.b), left, share, between, own)
