"""Multilayer perceptron."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import keys
from fedjax_het.check import known, number, positive_ints, require
from fedjax_het.models.linear import RIDGE, affine
from fedjax_het.models.losses import defaults, output_shape
from fedjax_het.pool import Pool, expect_pool
from fedjax_het.problem import Facts, Model, Problem
from fedjax_het.typing import Array, Bound, Key, Params

__all__ = ["ACTIVATIONS", "mlp"]

ACTIVATIONS = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
}
"""Name -> function, float [B, d] -> float [B, d]."""


def _init(inputs: int, hidden: tuple[int, ...], outputs: int, key: Key) -> Model:
    dtype = jnp.result_type(float)
    initial = jax.nn.initializers.he_normal(), jax.nn.initializers.lecun_normal()
    params, width = {}, inputs
    names = [*(f"dense_{i}" for i in range(len(hidden))), "head"]
    for name, size in zip(names, (*hidden, outputs)):
        kernel = initial[name == "head"](keys.stream(key, name), (width, size), dtype)
        params[name] = {"kernel": kernel, "bias": jnp.zeros((size,), dtype)}
        width = size
    return Model(params, ())


def _apply(
    depth: int,
    activation: str,
    shape: tuple[int, ...],
    params: Params,
    buffers: Any,
    x: Array,
    key: Key | None = None,
    train: bool = False,
) -> tuple[Array, Any]:
    del key, train
    rows = x.shape[0]
    out = x.reshape(rows, math.prod(x.shape[1:]))
    for i in range(depth):
        out = ACTIVATIONS[activation](affine(params[f"dense_{i}"], out))
    return affine(params["head"], out).reshape(rows, *shape), buffers


def mlp(pool: Pool, *, hidden: Sequence[int] = (64,), activation: str = "relu", l2: Any = None) -> Problem:
    """Fully connected layers on flattened features, then a linear head; classification or regression.

    Params are {"dense_0": {"kernel", "bias"}, ..., "head": {"kernel", "bias"}}: kernels from the truncated
    normal of variance 2/fan-in (1/fan-in for the head), biases zero. The loss and the metrics are those of
    `softmax` or of `linear`.

    Args:
        pool: rows of a classification or regression task.
        hidden: width of each hidden layer; () leaves only the head.
        activation: one of `ACTIVATIONS`.
        l2: coefficient of (l2/2)|params|^2, >= 0; biases are included. None for no such term.

    Returns:
        A Problem with the head ("head",).

    Raises:
        ValueError: the task is neither, a width is below 1, the activation is unknown, or l2 is negative.
        TypeError: `pool` is not a Pool, a width is not a whole number, or l2 is not a number.

    Reference:
        He, Zhang, Ren and Sun, "Delving deep into rectifiers", ICCV 2015, equation 10.
        LeCun, Bottou, Orr and Müller, "Efficient BackProp", 1998, section 4.6.
    """
    spec = expect_pool("pool", pool).spec
    require(
        spec.task in ("classification", "regression"),
        f"pool must be of task 'classification' or 'regression' for an MLP, got {spec.task!r}: "
        "token numbers are not features, use a model that embeds them (from_linen, from_nnx)",
    )
    widths = tuple(positive_ints("hidden", hidden, remedy="pass a tuple of widths such as (64, 32)"))
    known("activation", activation, ACTIVATIONS)
    shape = output_shape(spec)
    losses, metrics = defaults(spec.task)
    return Problem(
        init=Bound(_init, (math.prod(spec.feature_shape), widths, math.prod(shape))),
        apply=Bound(_apply, (len(widths), activation, shape)),
        losses=losses,
        metrics=metrics,
        facts=Facts("mlp", log_likelihood=True, head=("head",)),
        l2=None if l2 is None else number("l2", l2, least=0, remedy=RIDGE),
    )
