"""Linear models: least squares and multinomial logistic regression."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp

from fedjax_het.check import number, require
from fedjax_het.models.dense import product
from fedjax_het.models.losses import defaults, output_shape
from fedjax_het.pool import Pool, PoolSpec, expect_pool
from fedjax_het.problem import Facts, Model, Problem
from fedjax_het.typing import Array, Bound, Key, Params

__all__ = ["RIDGE", "affine", "linear", "softmax"]

RIDGE = "None leaves the term out"
"""The remedy of a wrong l2."""


def affine(layer: Params, x: Array) -> Array:
    """x @ kernel + bias.

    Args:
        layer: {"kernel": [d, K]} and perhaps {"bias": [K]}.
        x: [B, d], cast to the kernel's type.

    Returns:
        [B, K].
    """
    out = product(x.astype(layer["kernel"].dtype), layer["kernel"])
    return out + layer["bias"][None, :] if "bias" in layer else out


def _init(inputs: int, outputs: int, bias: bool, key: Key) -> Model:
    del key  # a convex problem may as well start at zero
    dtype = jnp.result_type(float)
    head = {"kernel": jnp.zeros((inputs, outputs), dtype)}
    if bias:
        head["bias"] = jnp.zeros((outputs,), dtype)
    return Model({"head": head}, ())


def _apply(
    shape: tuple[int, ...],
    params: Params,
    buffers: Any,
    x: Array,
    key: Key | None = None,
    train: bool = False,
) -> tuple[Array, Any]:
    del key, train
    rows = x.shape[0]
    out = affine(params["head"], x.reshape(rows, params["head"]["kernel"].shape[0]))
    return out.reshape(rows, *shape), buffers


def _problem(name: str, spec: PoolSpec, bias: bool, l2: Any) -> Problem:
    shape = output_shape(spec)
    losses, metrics = defaults(spec.task)
    return Problem(
        init=Bound(_init, (math.prod(spec.feature_shape), math.prod(shape), bool(bias))),
        apply=Bound(_apply, (shape,)),
        losses=losses,
        metrics=metrics,
        facts=Facts(name, linear=True, convex=True, log_likelihood=True, head=("head",)),
        l2=None if l2 is None else number("l2", l2, least=0, remedy=RIDGE),
    )


def linear(pool: Pool, *, bias: bool = True, l2: Any = None) -> Problem:
    """Least squares: out = x @ kernel + bias, loss 1/2 |out - y|^2 a row.

    Params are {"head": {"kernel": [d, K], "bias": [K]}}, zero at the start, with d the number of features
    (whatever their shape) and K the number of targets. Metrics: "loss" and "squared_error".

    Args:
        pool: rows of a regression task.
        bias: whether there is one.
        l2: coefficient of (l2/2)|params|^2, >= 0; the bias is included. None for no such term.

    Returns:
        A convex Problem, linear in its parameters.

    Raises:
        ValueError: the task is not regression, or l2 is negative.
        TypeError: `pool` is not a Pool, or l2 is not a number.
    """
    require(
        expect_pool("pool", pool).spec.task == "regression",
        f"pool must be of task 'regression' for least squares, got {pool.spec.task!r}: "
        "use softmax(pool) for labels, or make the pool with task='regression'",
    )
    return _problem("linear", pool.spec, bias, l2)


def softmax(pool: Pool, *, bias: bool = True, l2: Any = None) -> Problem:
    """Multinomial logistic regression: logits x @ kernel + bias, loss -log softmax(logits)[y] a row.

    Params are {"head": {"kernel": [d, K], "bias": [K]}}, zero at the start, with d the number of features
    (whatever their shape) and K the number of classes. Metrics: "loss" and "accuracy".

    Args:
        pool: rows of a classification task.
        bias: whether there is one.
        l2: coefficient of (l2/2)|params|^2, >= 0; the bias is included. None for no such term.

    Returns:
        A convex Problem whose logits are linear in its parameters.

    Raises:
        ValueError: the task is not classification, or l2 is negative.
        TypeError: `pool` is not a Pool, or l2 is not a number.
    """
    require(
        expect_pool("pool", pool).spec.task == "classification",
        f"pool must be of task 'classification' for softmax regression, got {pool.spec.task!r}: "
        "use linear(pool) for float targets",
    )
    return _problem("softmax", pool.spec, bias, l2)
