"""Curvature: how much the clients' Hessians differ at a point, and how large they are, for any model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from fedjax_het.analysis.gradients import dissimilarity
from fedjax_het.analysis.landscape import GROUP, Landscape, landscape
from fedjax_het.check import number, positive_int, require, short, whole
from fedjax_het.federation import Federation
from fedjax_het.problem import Model, Problem
from fedjax_het.typing import Array, Key

__all__ = ["SpectralNorms", "hessian_dissimilarity", "hessian_spread", "hessians", "smoothness"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SpectralNorms:
    """|D_k|_2 of symmetric D_k by power iteration.

    Attributes:
        each: s_k, float [m]: never above |D_k|_2, and the larger the longer it ran; nan for clients without
            rows.
        residual: |D_k^2 v - s_k^2 v| / s_k^2 for the unit v with |D_k v| = s_k, float [m]: some eigenvalue of
            D_k^2 lies within residual s_k^2 of s_k^2. Small, it certifies an eigenvalue; that it is the
            largest one rests on the random start.
        iterations: products made with each, int32 scalar.
    """

    each: Array
    residual: Array
    iterations: Array

    @property
    def largest(self) -> Array:
        """max_k s_k over clients with rows, scalar."""
        return jnp.max(jnp.where(jnp.isnan(self.each), -jnp.inf, self.each))


def hessian_dissimilarity(
    problem: Problem,
    federation: Federation,
    model: Model,
    *,
    clients: Any = None,
    weights: Any = None,
    key: Key | None = None,
    iterations: Any = 100,
    tolerance: Any = 1e-4,
    round_: Any = 0,
) -> SpectralNorms:
    """delta = max_k |hess F_k(w) - hess F(w)|_2, F = sum_k p_k F_k, by power iteration; pure.

    A product with the difference is one Hessian-vector product of the client less the mean of all clients':
    a step for m clients costs m N of them. With d parameters, d below m times the steps, `hessians` is cheaper
    and exact. Few clients may stand for all: their largest is a lower bound of delta.

    Args:
        problem: what is learned.
        federation: whose rows.
        model: w.
        clients: whose norms, int [m]; all N if None.
        weights: as in `landscape`.
        key: of the first vectors; default `jax.random.key(0)`.
        iterations: the most steps.
        tolerance: the residual at which all of them stop.
        round_: in whose phase the rows are read.

    Returns:
        SpectralNorms, loss / parameter^2; `largest` is delta.

    Raises:
        TypeError, ValueError: an argument of the wrong kind, range or shape.

    Reference:
        Karimireddy, Kale, Mohri, Reddi, Stich, Suresh, ICML 2020, assumption A2.
    """
    around = landscape(problem, federation, model, weights=weights, round_=round_)
    ids = jnp.arange(around.count, dtype=jnp.int32)
    if clients is not None:
        ids = whole("clients", clients, least=0, remedy="clients count from 0")
        require(
            ids.ndim == 1 and ids.shape[0] > 0,
            f"clients must be a list of them, got {short(clients)}: [0, 3], say",
        )
        require(
            isinstance(ids, Tracer) or bool(jnp.all(ids < around.count)),
            f"clients must be below {around.count}, got {short(clients)}: clients count from 0",
        )

    def apply(vectors: Array) -> Array:
        def products(client: Array) -> Array:
            return jax.vmap(lambda v: around.hessian_times(v, client))(vectors)

        group = min(GROUP, ids.shape[0])
        own = jax.lax.map(lambda row: around.hessian_times(*row), (vectors, ids), batch_size=group)
        return own - around.mean(products)

    return _norms(apply, around, ids, key, iterations, tolerance)


def smoothness(
    problem: Problem,
    federation: Federation,
    model: Model,
    *,
    key: Key | None = None,
    iterations: Any = 100,
    tolerance: Any = 1e-4,
    round_: Any = 0,
) -> SpectralNorms:
    """|hess F_k(w)|_2 of every client, by power iteration: a local value of L; pure.

    It is the smoothness at w and no more: as a constant of a theorem it is an estimate, or the largest on a
    trajectory, unless the function is quadratic.

    Args:
        problem: what is learned.
        federation: whose rows.
        model: w.
        key: of the first vectors; default `jax.random.key(0)`.
        iterations: the most steps, a Hessian-vector product a client each.
        tolerance: the residual at which all of them stop.
        round_: in whose phase the rows are read.

    Returns:
        SpectralNorms, loss / parameter^2; `largest` is max_k.

    Raises:
        TypeError, ValueError: an argument of the wrong kind or range.
    """
    around = landscape(problem, federation, model, round_=round_)

    def apply(vectors: Array) -> Array:
        return around.each(lambda client, v: around.hessian_times(v, client), vectors)

    ids = jnp.arange(around.count, dtype=jnp.int32)
    return _norms(apply, around, ids, key, iterations, tolerance)


def hessian_spread(
    problem: Problem,
    federation: Federation,
    model: Model,
    *,
    probes: int = 30,
    weights: Any = None,
    key: Key | None = None,
    round_: Any = 0,
) -> tuple[Array, Array]:
    """sum_k p_k |hess F_k(w) - hess F(w)|_F^2, by random signs z: the mean of sum_k p_k |(H_k - H) z|^2; pure.

    Args:
        problem: what is learned.
        federation: whose rows.
        model: w.
        probes: draws of z, a Hessian-vector product a client each; at least 2.
        weights: as in `landscape`.
        key: of the draws; default `jax.random.key(0)`.
        round_: in whose phase the rows are read.

    Returns:
        (estimate, its standard error), (loss / parameter^2)^2, scalars. Unbiased.

    Raises:
        TypeError, ValueError: an argument of the wrong kind, range or shape.

    Reference:
        Hutchinson, Communications in Statistics 1990.
    """
    probes = positive_int("probes", probes, least=2, remedy="the standard error needs two")
    around = landscape(problem, federation, model, weights=weights, round_=round_)

    def once(key: Key) -> Array:
        z = jax.random.rademacher(key, around.point.shape, around.point.dtype)
        products = around.each(lambda client: around.hessian_times(z, client))
        return dissimilarity(products, around.p)

    found = jax.lax.map(once, jax.random.split(_key(key), probes))
    return jnp.mean(found), jnp.std(found, ddof=1) / jnp.sqrt(jnp.asarray(probes, found.dtype))


def hessians(
    problem: Problem, federation: Federation, model: Model, *, weights: Any = None, round_: Any = 0
) -> tuple[Array, Array, Array]:
    """(H_k [N, d, d], delta, sum_k p_k |H_k - H|_F^2) at a model, exactly, for few parameters; pure.

    Args:
        problem: what is learned.
        federation: whose rows.
        model: w.
        weights: as in `landscape`.
        round_: in whose phase the rows are read.

    Returns:
        The clients' Hessians, zero for a client without rows; and the two scalars of `hessian_dissimilarity`
        and `hessian_spread`.

    Raises:
        TypeError, ValueError: as in `landscape`.
    """
    around = landscape(problem, federation, model, weights=weights, round_=round_)
    basis = jnp.eye(around.point.shape[0], dtype=around.point.dtype)
    found = around.each(lambda client: jax.vmap(lambda v: around.hessian_times(v, client))(basis))
    found = (found + found.swapaxes(1, 2)) / 2
    apart = found - jnp.einsum("n,nij->ij", around.p, found, precision="highest")[None]
    norms = jnp.max(jnp.abs(jnp.linalg.eigvalsh(apart)), axis=1)
    counts = around.p > 0
    return found, jnp.max(jnp.where(counts, norms, 0)), dissimilarity(found, around.p)


def _key(key: Key | None) -> Key:
    return jax.random.key(0) if key is None else key


def _norms(
    apply: Callable[[Array], Array], around: Landscape, ids: Array, key: Any, iterations: Any, tolerance: Any
) -> SpectralNorms:
    """Power iteration on the symmetric maps of `apply`, [m, d] -> [m, d]."""
    iterations = whole("iterations", iterations, remedy="give the most products with each")
    tolerance = number("tolerance", tolerance, least=0, remedy="0 makes all iterations")
    shape = (ids.shape[0], around.point.shape[0])
    start = jax.random.normal(_key(key), shape, around.point.dtype)
    counts = around.p.at[ids].get(mode="clip") > 0

    def unit(vectors: Array) -> tuple[Array, Array]:
        length = jnp.linalg.norm(vectors, axis=1)
        return vectors / jnp.where(length > 0, length, 1)[:, None], length

    def onward(state: tuple[Array, ...]) -> Array:
        *_, residual, done = state
        return (done < iterations) & jnp.any(jnp.where(counts, residual, 0) > tolerance)

    def step(state: tuple[Array, ...]) -> tuple[Array, ...]:
        before, now, _, length, _, done = state
        product = apply(now)
        after, further = unit(product)
        # with D v = s v' and D v' = s' v'': D^2 v - s^2 v = s (D v' - s v)
        left = jnp.linalg.norm(product - length[:, None] * before, axis=1)
        residual = left / jnp.where(length > 0, length, 1)
        return now, after, length, further, residual, done + 1

    first, _ = unit(start)
    second, length = unit(apply(first))
    endless = jnp.full_like(length, jnp.inf)
    state = (first, second, length, length, endless, jnp.ones((), jnp.int32))
    _, _, length, _, residual, done = jax.lax.while_loop(onward, step, state)
    return SpectralNorms(jnp.where(counts, length, jnp.nan), jnp.where(counts, residual, jnp.nan), done)
