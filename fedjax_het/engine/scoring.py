"""Scoring: metrics added up as rows go by, for any number of owners at once.

One pass over all clients' rows under one model, and a pass over one client's rows under its own, are the same
three steps: `begin`, `add` a chunk of rows, `finish`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het.check import require
from fedjax_het.federation import Federation
from fedjax_het.metrics import Metric, Ranking, auc, balanced_accuracy, perplexity, r2, rmse, row_means
from fedjax_het.models.losses import defaults
from fedjax_het.problem import Problem
from fedjax_het.typing import Array, Metrics, PyTree

__all__ = ["add", "begin", "check_metrics", "finish", "standard", "union"]


def standard(problem: Problem, federation: Federation) -> tuple[Any, ...]:
    """What a task is usually judged by: the problem's own row metrics, and what its task adds.

    Classification: balanced accuracy, and with two classes the area under the ROC curve. Regression: RMSE and
    R^2. Tokens: perplexity. A problem with metrics of its own has them alone, since only it knows what its
    output is.
    """
    spec = federation.spec.pool
    own = row_means(problem.metrics)
    if problem.metrics is not defaults(spec.task)[1]:
        return (own,)
    if spec.task == "tokens":
        return own, perplexity()
    if spec.task == "regression":
        axes = tuple(range(1, federation.y.ndim))
        centre = jnp.mean(federation.y, axis=0) if axes else jnp.mean(federation.y)
        return own, rmse(), r2(jnp.ravel(centre))
    if spec.target_shape:
        return (own,)
    return (own, balanced_accuracy(), auc()) if spec.num_classes == 2 else (own, balanced_accuracy())


def check_metrics(metrics: Sequence[Any] | None, federation: Federation) -> None:
    """Raise unless the metrics judge what the federation's task is.

    Raises:
        TypeError: something that is no metric.
        ValueError: a metric of another task, or of one label a row where rows have several.
    """
    spec = federation.spec.pool
    for metric in metrics or ():
        if not isinstance(metric, (Metric, Ranking)):
            raise TypeError(
                f"metrics must be made by calls, got {type(metric).__name__}: pass one such as fh.metrics.auc()"
            )
        require(
            metric.task in (None, spec.task),
            f"metrics must judge {spec.task}, the task of {spec.name!r}, got one that judges {metric.task}: "
            "leave it out, None scores what is usual for the task",
        )
        require(
            metric.task != "classification" or spec.target_shape == (),
            f"metrics must judge rows of labels {spec.target_shape}, got one for a single label a row: leave "
            "it out",
        )


def begin(
    metrics: Sequence[Any], score: Callable[..., PyTree], sample: Any, owners: int, room: int
) -> tuple[PyTree, ...]:
    """The carry before any row.

    Args:
        metrics: `Metric`s and `Ranking`s.
        score: chunk -> (out, y).
        sample: an example of a chunk, abstract.
        owners: how many share the rows.
        room: the most rows that can come, fillers included.
    """

    def empty(metric: Any) -> PyTree:
        shapes = jax.eval_shape(lambda chunk: metric.rows(*score(chunk)), sample)
        if not isinstance(metric, Ranking):
            return jax.tree.map(lambda leaf: jnp.zeros((owners, *leaf.shape[1:]), leaf.dtype), shapes)
        rows = jax.tree.map(lambda leaf: jnp.zeros((room, *leaf.shape[1:]), leaf.dtype), shapes)
        return rows, jnp.full((room,), owners, jnp.int32)

    return tuple(map(empty, metrics))


def add(
    metrics: Sequence[Any],
    carry: tuple[PyTree, ...],
    out: PyTree,
    y: Array,
    owner: Array,
    place: Array,
    owners: int,
) -> tuple[PyTree, ...]:
    """The carry after a chunk of rows.

    Args:
        metrics: as in `begin`.
        carry: so far.
        out: the model's outputs [B, ...].
        y: targets [B, ...].
        owner: int32 [B]; fillers have owner `owners` and count nowhere.
        place: how many rows came before, int32 scalar.
        owners: as in `begin`.
    """

    def gather(metric: Any, held: PyTree) -> PyTree:
        rows = metric.rows(out, y)
        if isinstance(metric, Ranking):
            kept, whose = held
            update = jax.lax.dynamic_update_slice_in_dim
            kept = jax.tree.map(lambda a, b: update(a, b.astype(a.dtype), place, 0), kept, rows)
            return kept, update(whose, owner, place, 0)
        if owners == 1:  # a masked sum: no scatter to serialise
            counts = owner == 0

            def total(a: Array, b: Array) -> Array:
                here = counts.reshape(-1, *[1] * (b.ndim - 1))
                return a + jnp.sum(jnp.where(here, b, 0), axis=0, keepdims=True).astype(a.dtype)

            return jax.tree.map(total, held, rows)
        return jax.tree.map(lambda a, b: a.at[owner].add(b.astype(a.dtype), mode="drop"), held, rows)

    return tuple(map(gather, metrics, carry))


def finish(metrics: Sequence[Any], carry: tuple[PyTree, ...], count: Array) -> Metrics:
    """{name: float [owners]}, NaN for owners without rows; `count` is their rows, int32 [owners]."""
    owners = count.shape[0]
    values: Metrics = {}
    for metric, held in zip(metrics, carry):
        if isinstance(metric, Ranking):
            values |= metric.value(*held, owners)
        else:
            values |= jax.vmap(metric.value)(held, jnp.maximum(count, 1))
    return {name: jnp.where(count > 0, value, jnp.nan) for name, value in values.items()}


def union(metrics: Sequence[Any], carry: tuple[PyTree, ...], count: Array) -> Metrics:
    """{name: scalar} of all owners' rows together."""
    owners = count.shape[0]
    values: Metrics = {}
    total = jnp.sum(count)
    for metric, held in zip(metrics, carry):
        if isinstance(metric, Ranking):
            rows, owner = held
            one = metric.value(rows, jnp.where(owner < owners, 0, 1), 1)
            values |= {name: value[0] for name, value in one.items()}
        else:
            sums = jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), held)
            values |= metric.value(sums, jnp.maximum(total, 1))
    return {name: jnp.where(total > 0, value, jnp.nan) for name, value in values.items()}
