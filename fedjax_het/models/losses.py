"""What a model's output must look like for each task, and the losses and metrics that go with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het.check import known, require
from fedjax_het.pool import TASKS, PoolSpec
from fedjax_het.typing import Array, Metrics

__all__ = [
    "accuracy",
    "check_output",
    "classification_metrics",
    "cross_entropy",
    "defaults",
    "output_shape",
    "regression_metrics",
    "squared",
    "squared_error",
]


def _row_mean(values: Array) -> Array:
    """The mean over all axes but the first, [B]."""
    return values.reshape(values.shape[0], -1).mean(axis=1)


def cross_entropy(out: Array, y: Array) -> Array:
    """-log softmax(out)[y], averaged over a row's positions where y has several.

    Args:
        out: logits, float [B, ..., K].
        y: labels 0..K-1, int [B, ...].

    Returns:
        float [B], of the default float type whatever the type of `out`.
    """
    out = out.astype(jnp.result_type(float))
    # A comparison instead of a gather: its derivative is a select, not a scatter, under `vmap` too.
    chosen = jax.nn.one_hot(y, out.shape[-1], dtype=bool)
    label = jnp.sum(jnp.where(chosen, out, 0), axis=-1)
    return _row_mean(jax.nn.logsumexp(out, axis=-1) - label)


def accuracy(out: Array, y: Array) -> Array:
    """1 where the largest logit is the label's, averaged over a row's positions; float [B].

    Args:
        out: logits, float [B, ..., K].
        y: labels, int [B, ...].
    """
    right = jnp.argmax(out, axis=-1).astype(y.dtype) == y
    return _row_mean(right.astype(jnp.result_type(float)))


def squared_error(out: Array, y: Array) -> Array:
    """|out - y|^2, summed over the target's axes; float [B].

    Args:
        out: predictions, float [B, ...].
        y: targets of the same shape.
    """
    dtype = jnp.result_type(float)
    difference = out.astype(dtype) - y.astype(dtype)
    return jnp.sum(difference.reshape(difference.shape[0], -1) ** 2, axis=1)


def squared(out: Array, y: Array) -> Array:
    """1/2 |out - y|^2: the negative log-likelihood of a Gaussian of unit variance, up to a constant; [B]."""
    return squared_error(out, y) / 2


def classification_metrics(out: Array, y: Array) -> Metrics:
    """ "loss" (cross-entropy) and "accuracy", float [B] each."""
    return {"loss": cross_entropy(out, y), "accuracy": accuracy(out, y)}


def regression_metrics(out: Array, y: Array) -> Metrics:
    """ "loss" (half the squared error) and "squared_error", float [B] each."""
    return {"loss": squared(out, y), "squared_error": squared_error(out, y)}


def defaults(task: str) -> tuple[Callable[..., Array], Callable[..., Metrics]]:
    """(losses, metrics) of a task; both losses are negative log-likelihoods.

    Raises:
        ValueError: `task` is not one of `pool.TASKS`.
    """
    known("task", task, TASKS)
    if task == "regression":
        return squared, regression_metrics
    return cross_entropy, classification_metrics


def output_shape(spec: PoolSpec) -> tuple[int, ...]:
    """The shape of one row of output: one logit a class for each label, or the target's own shape."""
    if spec.num_classes is None:
        return spec.target_shape
    return (*spec.target_shape, spec.num_classes)


def _words(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(['B', *map(str, shape)])}]"


def check_output(out: Any, spec: PoolSpec, rows: int) -> None:
    """Raise unless a model's output for `rows` rows fits the task.

    Args:
        out: what the model returned, an array or a `jax.ShapeDtypeStruct`.
        spec: what the rows are.
        rows: B.

    Raises:
        ValueError: the output is not one array, or its shape is wrong; the message names both shapes.
    """
    wanted = output_shape(spec)
    asks = f"output of the module must be {_words(wanted)} for task {spec.task!r} of {spec.name!r}"
    require(
        hasattr(out, "shape"),
        f"{asks}, got a {type(out).__name__}: return one array, or pass losses= and metrics= of your own",
    )
    shape = tuple(out.shape)
    if shape == (rows, *wanted):
        return
    if shape == (rows, *wanted, 1) and spec.task == "regression":
        remedy = "drop the last axis, out[..., 0], or give y a last axis of length 1"
    elif spec.task == "regression":
        remedy = "make the module's output the shape of y, or pass losses= and metrics= of your own"
    else:
        remedy = f"make the last layer {spec.num_classes} wide, or pass the pool's right num_classes"
    got = _words(shape[1:]) if shape[:1] == (rows,) else f"{list(shape)} for {rows} rows"
    raise ValueError(f"{asks}, got {got}: {remedy}")
