"""Metric and Ranking: how a set of rows is judged, whoever they belong to.

A `Metric` needs sums over the rows only, so a pass over any number of rows keeps a few numbers a client. A
`Ranking` needs the rows' order: it keeps one score a row.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from fedjax_het.typing import Array, Metrics, static

__all__ = ["LOW_IS_GOOD", "Metric", "Ranking", "low_is_good", "row_means"]

LOW_IS_GOOD = frozenset({"loss", "squared_error", "rmse", "perplexity"})
"""Metrics whose worst clients are those with the largest values."""


def low_is_good(name: str) -> bool:
    """Whether a metric or a History variable ("shared/loss") improves as it falls."""
    return name.rsplit("/", 1)[-1] in LOW_IS_GOOD


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Metric:
    """Judges a set of rows by sums.

    Attributes:
        rows: (out, y) -> what each row contributes, a tree of arrays [B, ...]; a pytree callable such as
            `jax.tree_util.Partial`, so that its numbers are leaves.
        value: (sums, count) -> {name: scalar}: the same tree summed over the set, and its number of rows, at
            least 1; a pytree callable.
        task: the one it judges, see `pool.TASKS`; None for any; static.
    """

    rows: Any
    value: Any
    task: str | None = static(default=None)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Ranking:
    """Judges a set of rows by the order of their scores.

    Attributes:
        rows: (out, y) -> tree of arrays [B, ...]; a pytree callable.
        value: (tree of arrays [R, ...], owner int32 [R], owners) -> {name: float [owners]}: one value for the
            rows of each owner; rows of owner `owners` and above are nobody's; a pytree callable.
        task: the one it judges, see `pool.TASKS`; None for any; static.
    """

    rows: Any
    value: Any
    task: str | None = static(default=None)


def _means(sums: Metrics, count: Array) -> Metrics:
    return {name: value / count.astype(value.dtype) for name, value in sums.items()}


def row_means(metrics: Any) -> Metric:
    """Means over rows.

    Args:
        metrics: (out, y) -> {name: float [B]}, such as `Problem.metrics`.
    """
    return Metric(jax.tree_util.Partial(metrics), jax.tree_util.Partial(_means))
