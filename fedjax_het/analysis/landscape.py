"""The clients' functions around a point: gradients and Hessian-vector products of F_k, in flat coordinates."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.flatten_util import ravel_pytree

from fedjax_het.analysis.gradients import shares
from fedjax_het.check import require, short
from fedjax_het.federation import Data, Federation
from fedjax_het.problem import Model, Problem, full_gradient, objective
from fedjax_het.typing import Array, Params, PyTree

__all__ = ["GROUP", "Landscape", "landscape"]

GROUP = 8
"""Clients that are worked on at once."""


@dataclasses.dataclass(frozen=True)
class Landscape:
    """F_k of N clients at one point, made where it is used; see `landscape`.

    Attributes:
        point: w, flat [d].
        p: weights, of sum 1, 0 for clients without rows [N].
        unflatten: flat [d] -> a tree like the parameters.
        gradient: (w [d], client int32) -> grad F_k(w) [d]; zeros for a client without rows.
    """

    point: Array
    p: Array
    unflatten: Callable[[Array], Params]
    gradient: Callable[[Array, Array], Array]

    @property
    def count(self) -> int:
        """N."""
        return self.p.shape[0]

    def hessian_times(self, vector: Array, client: Array) -> Array:
        """hess F_k(w) v [d]: forward mode over reverse mode, at the cost of about two gradients."""
        return jax.jvp(lambda w: self.gradient(w, client), (self.point,), (vector,))[1]

    def each(self, function: Callable[..., PyTree], *rows: PyTree) -> PyTree:
        """function(client, *its rows) of every client, stacked [N, ...]; a group of clients at a time."""
        numbers = jnp.arange(self.count, dtype=jnp.int32)
        return jax.lax.map(lambda row: function(*row), (numbers, *rows), batch_size=min(GROUP, self.count))

    def mean(self, function: Callable[[Array], PyTree]) -> PyTree:
        """sum_k p_k function(k), a group of clients at a time; those of weight 0 have no say."""
        groups = -(-self.count // GROUP)
        group = -(-self.count // groups)

        def add(total: PyTree, first: Array) -> tuple[PyTree, None]:
            client = first * group + jnp.arange(group, dtype=jnp.int32)
            values = jax.vmap(function)(jnp.minimum(client, self.count - 1))
            share = jnp.where(client < self.count, self.p.at[client].get(mode="clip"), 0)

            def sum_of(total_leaf: Array, leaf: Array) -> Array:
                factor = share.reshape(-1, *[1] * (leaf.ndim - 1)).astype(leaf.dtype)
                return total_leaf + jnp.sum(jnp.where(factor > 0, factor * leaf, 0), axis=0)

            return jax.tree.map(sum_of, total, values), None

        shapes = jax.eval_shape(function, jnp.zeros((), jnp.int32))
        start = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return jax.lax.scan(add, start, jnp.arange(groups, dtype=jnp.int32))[0]

    def mean_gradient(self) -> Array:
        """grad F(w) [d]."""
        return self.mean(lambda client: self.gradient(self.point, client))

    def mean_hessian_times(self, vector: Array) -> Array:
        """hess F(w) v [d]."""
        return self.mean(lambda client: self.hessian_times(vector, client))


def landscape(
    problem: Problem, federation: Federation, model: Model, *, weights: Any = None, round_: Any = 0
) -> Landscape:
    """The clients' F_k at a model: over all training rows of a phase, as in prediction, the ridge included.

    Args:
        problem: what is learned.
        federation: whose rows.
        model: w, with its buffers, which stay as they are: the server's, a cluster's, a person's.
        weights: >= 0 [N]; p are their shares among clients with rows. The clients' sizes if None.
        round_: in whose phase the rows are read.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: weights of the wrong shape, or of sum 0.
    """
    for name, value, kind in (
        ("problem", problem, Problem),
        ("federation", federation, Federation),
        ("model", model, Model),
    ):
        if not isinstance(value, kind):
            raise TypeError(f"{name} must be a {kind.__name__}, got {short(value)}: see the arguments' order")
    phase = federation.phase(jnp.asarray(round_, jnp.int32))
    everyone = jnp.arange(federation.num_clients, dtype=jnp.int32)
    located = federation.locate("train", phase, everyone)
    size = located[1].astype(jnp.result_type(float))
    given = shares(size if weights is None else weights, federation.num_clients)
    p = shares(jnp.where(size > 0, given, 0), federation.num_clients)
    require(
        isinstance(p, Tracer) or bool(jnp.any(p > 0)),
        f"weights must have a sum > 0 over clients with rows, got {short(weights)}: somebody must count",
    )
    f = objective(problem, train=False)
    point, unflatten = ravel_pytree(model.params)
    key = jax.random.key(0)  # nothing is drawn in prediction

    def data_of(client: Array) -> Data:
        return federation.data("train", jax.tree.map(lambda leaf: leaf.at[client].get(mode="clip"), located))

    def gradient(w: Array, client: Array) -> Array:
        grads, _ = full_gradient(f, Model(unflatten(w), model.buffers), data_of(client), key)
        return ravel_pytree(grads)[0]

    return Landscape(point, p, unflatten, gradient)
