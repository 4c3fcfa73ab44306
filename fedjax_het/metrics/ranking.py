"""Area under the ROC curve, exactly, for many sets of rows at once."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fedjax_het.metrics.metric import Ranking
from fedjax_het.typing import Array, Metrics

__all__ = ["area_under_curve", "auc"]


def area_under_curve(score: Array, positive: Array, owner: Array, owners: int) -> Array:
    """The probability that a positive row of an owner scores above a negative one, ties counting half.

    The Mann-Whitney statistic by one sort: for every positive row, its owner's negatives below it. Counted in
    whole numbers, for up to 2**23 positives and 2**30 negatives an owner.

    Args:
        score: float [R].
        positive: bool [R].
        owner: whose row, int32 [R]; rows of owner `owners` and above are nobody's.
        owners: how many; static.

    Returns:
        float [owners]; NaN for an owner who lacks positives or negatives.

    Reference: Hanley and McNeil, Radiology 143, 1982, eq. 1.
    """
    score = score + 0.0  # -0.0 is a tie with 0.0, but sorts before it
    owner, score, positive = jax.lax.sort((owner, score, positive.astype(jnp.int32)), num_keys=2)
    place = jnp.arange(score.shape[0], dtype=jnp.int32)
    new_owner = jnp.diff(owner, prepend=owner[:1] - 1) != 0
    new_score = new_owner | (jnp.diff(score, prepend=score[:1]) != 0)
    negatives = jnp.concatenate([jnp.zeros((1,), jnp.int32), jnp.cumsum(1 - positive, dtype=jnp.int32)])
    first = jax.lax.cummax(jnp.where(new_score, place, 0))
    last = jax.lax.cummin(jnp.where(jnp.roll(new_score, -1).at[-1].set(True), place, place[-1]), reverse=True)
    begin = jax.lax.cummax(jnp.where(new_owner, place, 0))
    below = 2 * (negatives[first] - negatives[begin]) + negatives[last + 1] - negatives[first]
    counts = jnp.zeros((owners, 2), jnp.int32).at[owner, positive].add(1, mode="drop")
    # twice the Mann-Whitney statistic passes 32 bits, so that its bytes are summed apart, without rounding
    shifts = jnp.arange(0, 32, 8, dtype=jnp.int32)
    parts = jnp.where(positive[:, None] == 1, (below[:, None] >> shifts[None]) & 255, 0)
    sums = jnp.zeros((owners, 4), jnp.int32).at[owner].add(parts, mode="drop")
    dtype = jnp.result_type(float)
    total = sums.astype(dtype) @ (2.0 ** shifts.astype(dtype))
    pairs = jnp.prod(jnp.maximum(counts, 1).astype(dtype), axis=1)
    area = total / (2 * pairs)
    return jnp.where(jnp.all(counts > 0, axis=1), area, jnp.nan)


def _log_odds(out: Array, y: Array) -> tuple[Array, Array]:
    """(log odds of each class against the rest [B, K], whether it is the row's class [B, K])."""
    out = out.astype(jnp.result_type(float))
    classes = out.shape[-1]
    mine = jnp.eye(classes, dtype=bool)
    others = jnp.where(mine[None], -jnp.inf, out[:, None, :])  # [B, K, K]: every class but the one at hand
    odds = out - jax.nn.logsumexp(others, axis=-1)
    return odds, y[:, None] == jnp.arange(classes, dtype=y.dtype)[None]


def _macro(rows: tuple[Array, Array], owner: Array, owners: int) -> Metrics:
    score, positive = rows
    areas = jax.lax.map(
        lambda column: area_under_curve(column[0], column[1], owner, owners), (score.T, positive.T)
    )
    held = ~jnp.isnan(areas)
    total = jnp.sum(jnp.where(held, areas, 0), axis=0)
    many = held.sum(axis=0)
    return {"auc": jnp.where(many > 0, total / jnp.maximum(many, 1).astype(total.dtype), jnp.nan)}


def auc() -> Ranking:
    """Area under the ROC curve of a classifier: "auc".

    With two classes, the usual one. With more, each class against the rest, averaged over the classes that a
    set of rows both holds and lacks. Rows are ranked by the log odds of the softmax probability, which order
    as the probability does and never saturate.

    It costs one sort a class; NaN for a set of rows of a single class.
    """
    return Ranking(jax.tree_util.Partial(_log_odds), jax.tree_util.Partial(_macro), "classification")
