"""Softmax regression with a ridge term, client by client: values, gradients and dense Hessians.

    F_k(W) = 1/n_k sum_i -log softmax(W'x_i)[y_i] + l2/2 |W|^2,   F = sum_k p_k F_k

with W [m, K]: one row a feature, and a last one for the bias where there is one (x_i then ends with a 1). With
s_i = softmax(W'x_i) and e the unit vectors,

    grad F_k = 1/n_k sum_i x_i (s_i - e_y)' + l2 W
    hess F_k = 1/n_k sum_i (x_i x_i') (x) (diag(s_i) - s_i s_i') + l2 I

Rows are read in chunks, as the clients hold them, and computed with in the precision of W.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.check import number, require, short
from fedjax_het.federation import Batch, Data, Federation
from fedjax_het.problem import Problem
from fedjax_het.typing import Array, Params, PyTree, static

__all__ = ["Regression", "curve", "fold", "hessian", "of_client", "pull", "regression", "total"]

CHUNK = 128
"""Rows of one step of a pass: a step of the Hessian holds this many times m K (K + 1) / 2 numbers."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Regression:
    """A softmax regression and the clients it is fitted to; made by `regression`.

    Attributes:
        federation: whose training rows count.
        l2: coefficient of the ridge term, scalar, > 0.
        p: weights of the clients, of sum 1 [N]; 0 for those without rows.
        features: d; static.
        classes: K; static.
        bias: whether the model has one; static.
    """

    federation: Federation
    l2: Any
    p: Any
    features: int = static()
    classes: int = static()
    bias: bool = static()

    @property
    def shape(self) -> tuple[int, int]:
        """(m, K), m = d + 1 with a bias."""
        return self.features + self.bias, self.classes

    def matrix(self, params: Params) -> np.ndarray:
        """W [m, K], float64, of a model's params.

        Raises:
            ValueError: params of another shape.
        """
        head = params["head"]
        rows = [np.asarray(head["kernel"], np.float64)]
        if self.bias:
            rows.append(np.asarray(head["bias"], np.float64)[None])
        found = np.concatenate(rows)
        require(
            found.shape == self.shape,
            f"params must make a matrix of shape {list(self.shape)}, got {list(found.shape)}: pass those of "
            "the problem that the regression was made of",
        )
        return found

    def params(self, matrix: Any) -> Params:
        """The model's params of W [m, K]."""
        head = {"kernel": matrix[: self.features]}
        return {"head": {**head, "bias": matrix[-1]} if self.bias else head}


def regression(problem: Problem, federation: Federation, *, weights: Any = None) -> Regression:
    """What constants are computed of: the F_k of a softmax problem with a ridge term.

    Args:
        problem: from `fedjax_het.models.softmax(pool, l2=...)`, l2 > 0.
        federation: the clients, of one phase; their transforms are applied.
        weights: >= 0 [N], whose shares are the p_k; None for the clients' rows.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a problem for which the constants do not exist, with the reason; a federation of several
            phases; weights that do not fit or that weigh a client without rows.
    """
    if not isinstance(problem, Problem) or not isinstance(federation, Federation):
        wrong = federation if isinstance(problem, Problem) else problem
        name = "federation" if isinstance(problem, Problem) else "problem"
        raise TypeError(f"{name} must be a {name.capitalize()}, got {short(wrong)}: see fh.models.softmax")
    features, bias = _sizes(problem, federation)
    _convex(problem)
    require(
        federation.train.size.shape[0] == 1,
        f"federation must have one phase, got {federation.train.size.shape[0]}: rows must stay the same",
    )
    size = np.asarray(federation.train.size[0], np.float64)
    number("weights", size if weights is None else weights, least=0, remedy="the clients' sizes, say")
    shares = size if weights is None else np.asarray(weights, np.float64)
    require(
        shares.shape == size.shape,
        f"weights must have shape {list(size.shape)}, got {list(shares.shape)}: one for each client",
    )
    require(
        shares.sum() > 0 and not (shares[size == 0] > 0).any(),
        f"weights must be > 0 for some clients with rows and 0 for those without, got {short(weights)}: a "
        "client without rows has no loss",
    )
    classes = federation.spec.pool.num_classes or 0
    l2 = np.float64(np.asarray(problem.l2))
    return Regression(federation, l2, shares / shares.sum(), features, classes, bias)


def _sizes(problem: Problem, federation: Federation) -> tuple[int, bool]:
    """(d, whether there is a bias) of a softmax regression.

    Raises:
        ValueError: the problem is none.
    """
    name = problem.facts.name
    if not (problem.facts.linear and problem.facts.convex):
        raise ValueError(
            f"problem must be softmax regression, got {name!r}: the loss of a network that is not linear in "
            "its parameters is not convex, so that mu, w* and F* do not exist, and its curvature has no bound "
            "L; bounds for non-convex functions take L and G^2 along a run (fh.analysis)"
        )
    params = jax.eval_shape(problem.init, jax.random.key(0)).params
    head = params.get("head", {}) if isinstance(params, dict) else {}
    fits = federation.spec.pool.task == "classification" and not federation.spec.pool.target_shape
    require(
        name == "softmax" and fits and "kernel" in head and len(params) == 1,
        f"problem must be softmax regression on rows with one label each, got {name!r}: make it with "
        "fh.models.softmax(pool, l2=0.1); least squares are quadratics (fh.analysis.oracles)",
    )
    kernel = head["kernel"].shape
    require(
        kernel[1] == federation.spec.pool.num_classes and kernel[0] == _width(federation),
        f"problem must fit the federation's rows of {_width(federation)} features and "
        f"{federation.spec.pool.num_classes} classes, got a kernel of shape {list(kernel)}: make it of "
        "federation.pool",
    )
    return kernel[0], "bias" in head


def _width(federation: Federation) -> int:
    return int(np.prod(federation.spec.pool.feature_shape))


def _convex(problem: Problem) -> None:
    """Raise unless the ridge term makes the functions strongly convex."""
    known = None if problem.l2 is None else np.asarray(problem.l2)
    require(
        known is not None and known.ndim == 0 and float(known) > 0,
        f"problem.l2 must be one number > 0, got {short(problem.l2)}: without a ridge term mu is 0 (adding the "
        "same vector to all classes changes no probability, and curvature dies out far away), so that w* is "
        "not unique and need not exist",
    )


def _rows(model: Regression, batch: Batch, dtype: Any) -> tuple[Array, Array]:
    """(x [B, m], labels [B, K]) of a batch; rows that do not count are zeros."""
    counts = batch.weight > 0
    x = batch.x.reshape(batch.x.shape[0], -1).astype(dtype)
    if model.bias:
        x = jnp.concatenate([x, jnp.ones((x.shape[0], 1), dtype)], axis=1)
    label = jax.nn.one_hot(batch.y, model.classes, dtype=dtype)
    return jnp.where(counts[:, None], x, 0), jnp.where(counts[:, None], label, 0)


def fold(model: Regression, data: Data, at: Array, step: Callable[..., PyTree], zero: PyTree) -> PyTree:
    """The mean over a client's rows of what `step` sums over a chunk; zeros for a client without rows.

    Args:
        model: the regression.
        data: one client.
        at: W [m, K].
        step: (x [B, m], labels [B, K], s [B, K], counts bool [B]) -> tree of sums; rows that do not count have
            x and labels of zeros.
        zero: such a tree of zeros.
    """

    def visit(carry: PyTree, batch: Batch) -> PyTree:
        x, label = _rows(model, batch, at.dtype)
        seen = step(x, label, jax.nn.softmax(x @ at), batch.weight > 0)
        return jax.tree.map(jnp.add, carry, seen)

    sums = data.fold_full(visit, zero, chunk=CHUNK)
    return jax.tree.map(lambda leaf: leaf / jnp.maximum(data.size, 1).astype(at.dtype), sums)


def of_client(model: Regression, client: Array) -> Data:
    """The training rows of one client, a number that may be traced."""
    located = model.federation.locate("train", jnp.zeros((), jnp.int32), client)
    return model.federation.data("train", located)


def pull(model: Regression, data: Data, at: Array) -> tuple[Array, Array]:
    """(F_k, grad F_k [m, K]) at W; those of the ridge term alone for a client without rows."""

    def step(x: Array, label: Array, share: Array, counts: Array) -> tuple[Array, Array]:
        logits = x @ at
        loss = jax.nn.logsumexp(logits, axis=1) - jnp.sum(label * logits, axis=1)
        return jnp.sum(jnp.where(counts, loss, 0)), x.T @ (share - label)

    loss, slope = fold(model, data, at, step, (jnp.zeros((), at.dtype), jnp.zeros_like(at)))
    return loss + model.l2 / 2 * jnp.sum(at**2), slope + model.l2 * at


def curve(model: Regression, data: Data, at: Array, along: Array) -> Array:
    """hess F_k(W) V, [m, K], for V [m, K]."""

    def step(x: Array, label: Array, share: Array, counts: Array) -> Array:
        moved = x @ along
        return x.T @ (share * (moved - jnp.sum(share * moved, axis=1, keepdims=True)))

    return fold(model, data, at, step, jnp.zeros_like(at)) + model.l2 * along


def hessian(model: Regression, data: Data, at: Array) -> Array:
    """hess F_k(W) [m K, m K], rows and columns in the order of W.reshape(-1)."""
    (m, classes), dtype = at.shape, at.dtype
    first, second = np.triu_indices(classes)

    def step(x: Array, label: Array, share: Array, counts: Array) -> Array:
        diagonal = jnp.asarray(first == second)[None, :]
        spread = jnp.where(diagonal, share[:, first], 0) - share[:, first] * share[:, second]
        return jnp.einsum("bq,bi,bj->qij", spread, x, x, optimize=[(0, 1), (0, 1)])

    half = fold(model, data, at, step, jnp.zeros((len(first), m, m), dtype))
    full = jnp.zeros((classes, classes, m, m), dtype).at[first, second].set(half).at[second, first].set(half)
    dense = full.transpose(2, 0, 3, 1).reshape(m * classes, m * classes)
    return dense + model.l2 * jnp.eye(m * classes, dtype=dtype)


def total(model: Regression, of_one: Callable[[Data], PyTree], zero: PyTree) -> PyTree:
    """sum_k p_k of_one(client k), one client after the other; a client of weight 0 is not asked."""
    p = jnp.asarray(model.p)

    def visit(k: Array, carry: PyTree) -> PyTree:
        def add() -> PyTree:
            return jax.tree.map(lambda a, b: a + p[k] * b, carry, of_one(of_client(model, k)))

        return jax.lax.cond(p[k] > 0, add, lambda: carry)

    return jax.lax.fori_loop(0, p.shape[0], visit, zero)
