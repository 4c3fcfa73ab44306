"""Perplexity of a model that predicts tokens."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fedjax_het.metrics.metric import Metric
from fedjax_het.typing import Array, Metrics

__all__ = ["perplexity"]


def _negative_log_likelihood(out: Array, y: Array) -> Array:
    logs = jax.nn.log_softmax(out.astype(jnp.result_type(float)), axis=-1)
    chosen = jnp.take_along_axis(logs, y[..., None].astype(jnp.int32), axis=-1)[..., 0]
    return -chosen.reshape(chosen.shape[0], -1).mean(axis=1)


def _exponential(sums: Array, count: Array) -> Metrics:
    return {"perplexity": jnp.exp(sums / count.astype(sums.dtype))}


def perplexity() -> Metric:
    """exp of the mean negative log-likelihood of a token: "perplexity".

    Of a set of rows as a whole: the perplexity of the union is not the mean of the clients'.
    """
    rows, value = jax.tree_util.Partial(_negative_log_likelihood), jax.tree_util.Partial(_exponential)
    return Metric(rows, value, "tokens")
