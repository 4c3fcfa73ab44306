"""Variances of stochastic gradients: how noisy one client's minibatch gradient is.

sigma_{k,1}^2(w) = (1/n_k) sum_i |grad l_i(w) - grad F_k(w)|^2 is the variance of a single row, drawn from the
client's own n_k rows; everything that theorems call sigma_k^2 is made of it.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import tree
from fedjax_het.check import number, positive_int
from fedjax_het.federation import Batch, Data
from fedjax_het.problem import Model, Problem, full_gradient, full_mean, objective
from fedjax_het.typing import Array, Key

__all__ = ["by_rank_one", "by_rows", "is_rank_one", "of_batches", "row_variance"]

ROWS = 32
"""Rows whose gradients are held at a time."""


def by_rows(problem: Problem, model: Model, data: Data, key: Key, *, at_a_time: int = ROWS) -> Array:
    """sigma_{k,1}^2 of any model: the gradient of every row against the mean, scalar; 0 for an empty client.

    Two passes over the client's rows, the model as in prediction. Differences are squared, not subtracted as
    squares. The ridge term is in every gradient and leaves the differences.

    Args:
        problem: the problem.
        model: the point w.
        data: one client.
        key: for models that draw.
        at_a_time: rows whose gradients are held at a time, `at_a_time` x d numbers; static.

    Raises:
        TypeError, ValueError: `at_a_time` is not a whole number of at least 1.
    """
    at_a_time = positive_int("at_a_time", at_a_time, remedy="give the number of gradients that fit into memory")
    f = objective(problem, train=False)
    mean, _ = full_gradient(f, model, data, key)

    def apart(x: Array, y: Array, position: Array) -> Array:
        one = Batch(x[None], y[None], jnp.ones((1,), jnp.result_type(float)), position[None])
        grads, _ = jax.grad(f, has_aux=True)(model.params, model.buffers, one, key)
        return tree.sum_of_squares(tree.subtract(grads, mean))

    def add(total: Array, batch: Batch) -> Array:
        squares = jax.vmap(apart)(batch.x, batch.y, batch.position)
        return total + jnp.sum(jnp.where(batch.weight > 0, squares, 0))

    total = data.fold_full(add, jnp.zeros((), jnp.result_type(float)), chunk=at_a_time)
    return total / jnp.maximum(data.size, 1).astype(total.dtype)


def is_rank_one(problem: Problem, model: Model) -> bool:
    """Whether `by_rank_one` knows the model: out = x @ kernel, plus a bias perhaps, and no other parameter."""
    if not (problem.facts.linear and isinstance(model.params, dict) and set(model.params) == {"head"}):
        return False
    head = model.params["head"]
    return isinstance(head, dict) and "kernel" in head and set(head) <= {"kernel", "bias"}


def by_rank_one(problem: Problem, model: Model, data: Data, key: Key) -> Array:
    """sigma_{k,1}^2 of a linear model without a gradient for every row, scalar; 0 for an empty client.

    With out = W'x + b the gradient of a row is the outer product of (x, 1) and r = d loss / d out, so that
    |grad l_i|^2 = |r_i|^2 (|x_i|^2 + 1), without the 1 if there is no bias, and

        sigma_{k,1}^2 = mean_i |grad l_i|^2 - |grad F_k|^2        (both without the ridge term)

    r is the probabilities minus the label for the cross-entropy, the residual for the squared loss. The
    difference loses digits where the rows' gradients hardly differ; `by_rows` does not.

    Args:
        problem: a linear problem, see `is_rank_one`.
        model: the point w.
        data: one client.
        key: for models that draw.

    Raises:
        TypeError: the model is not linear.
    """
    if not is_rank_one(problem, model):
        raise TypeError(
            f"problem must be linear with a kernel and perhaps a bias, got {problem.facts.name!r}: use by_rows"
        )
    bare = dataclasses.replace(problem, l2=None)
    mean, _ = full_gradient(objective(bare, train=False), model, data, key)
    extra = 1 if "bias" in model.params["head"] else 0

    def squares(batch: Batch) -> Array:
        out, _ = problem.apply(model.params, model.buffers, batch.x)
        residual = jax.grad(lambda out: jnp.sum(problem.losses(out, batch.y)))(out)
        count = batch.x.shape[0]
        flat = batch.x.astype(out.dtype).reshape(count, math.prod(batch.x.shape[1:]))
        return jnp.sum(residual.reshape(count, -1) ** 2, axis=1) * (jnp.sum(flat**2, axis=1) + extra)

    return jnp.maximum(full_mean(squares, data) - tree.sum_of_squares(mean), 0)


def row_variance(problem: Problem, model: Model, data: Data, key: Key, *, at_a_time: int = ROWS) -> Array:
    """sigma_{k,1}^2 of one client: `by_rank_one` for linear models, else `by_rows`; scalar."""
    if is_rank_one(problem, model):
        return by_rank_one(problem, model, data, key)
    return by_rows(problem, model, data, key, at_a_time=at_a_time)


def of_batches(variance: Any, sizes: Any, batch_size: Any, *, replacement: bool = False) -> Array:
    """sigma_k^2 of the mean gradient of a batch of B rows, from that of one row.

        with replacement     sigma_{k,1}^2 / B
        without              sigma_{k,1}^2 / B (n_k - B) / (n_k - 1), 0 if B >= n_k

    Args:
        variance: sigma_{k,1}^2, float [...].
        sizes: n_k, broadcasts.
        batch_size: B >= 1, broadcasts.
        replacement: how rows are drawn; static.

    Raises:
        TypeError, ValueError: not numbers, negative, or a batch of less than a row.
    """
    variance = number("variance", variance, least=0, remedy="give that of one row")
    batch = number("batch_size", batch_size, least=1, remedy="a batch has at least one row")
    real = variance.dtype
    batch = batch.astype(real)
    if replacement:
        return variance / batch
    sizes = jnp.asarray(sizes).astype(real)
    left = jnp.maximum(sizes - batch, 0) / jnp.where(sizes > 1, sizes - 1, 1)
    return variance / batch * left
