"""What changes from one phase of a federation to the next: rows, labels, features.

For client k with the rows D_k of phase t and D'_k of phase t + 1, and weights w_k in proportion to
|D_k| + |D'_k| over the clients that hold rows in both:

    labels      sum_k w_k TV(P_k, P'_k)
    features    sqrt(sum_k w_k mean_j ((m_kj - m'_kj) / s_j)^2)

with P_k a client's labels, m_k the means of its features and s_j the standard deviation of feature j over all
rows of both phases; features that never vary are left out. The second is the distance of mean embeddings for a
linear kernel on standardised features, so it sees changes of the means and no others.

Both are above 0 for finite rows even if nothing changes. So both come with what chance shows when each client's
rows that are *not* held in both phases are shuffled between the two: for labels the band of random draws, for
features the exact expectation of the square. Phases whose rows were cut by label, each anew, are closer than a
shuffle would have them (see `null`): for them the band is high, by a factor of about the root of the share of
rows that train.

Reference: Gretton, Borgwardt, Rasch, Schoelkopf, Smola, "A kernel two-sample test", JMLR 13, 2012, lemma 4 (the
    squared distance of mean embeddings; here the kernel is linear).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.check import positive_int
from fedjax_het.federation import Batch, Federation, Rows
from fedjax_het.heterogeneity.counts import held_rows, label_counts, labelled, row_chunk, sizes_of
from fedjax_het.heterogeneity.distance import total_variation
from fedjax_het.heterogeneity.null import Band, band, replicated
from fedjax_het.typing import Array

__all__ = ["Change", "change", "divided"]


@dataclasses.dataclass(frozen=True)
class Change:
    """How phase `later` differs from phase `earlier`.

    Attributes:
        earlier: t.
        later: t + 1.
        new_rows: share of the later phase's rows that their client did not hold in the earlier one; NaN if it
            has none.
        size_ratio: rows of the later phase over rows of the earlier one; NaN if that has none.
        labels: mean total variation, in [0, 1]; None if rows have no label each, NaN if nobody has rows in
            both phases.
        labels_chance: its null distribution; None where `labels` is no number.
        features: shift of feature means, in standard deviations; None for tokens, NaN if nobody has rows in
            both phases.
        features_chance: the root of what chance makes of its square.
    """

    earlier: int
    later: int
    new_rows: float
    size_ratio: float
    labels: float | None
    labels_chance: Band | None
    features: float | None
    features_chance: float | None


def change(
    federation: Federation,
    *,
    later: int,
    split: str = "train",
    draws: int = 100,
    level: float = 0.99,
    seed: int = 0,
) -> Change:
    """How a phase differs from the one before it.

    Args:
        federation: of at least two phases.
        later: the phase t + 1 >= 1.
        split: "train", "valid" or "test".
        draws: of the null distribution of labels.
        level: of its band, see `null.band`.
        seed: of its draws.

    Raises:
        TypeError: no federation, numbers that are not whole.
        ValueError: no such split or phase, or a phase without one before it.
    """
    size = sizes_of(federation, split=split, phase=later)
    later = positive_int("later", later, remedy="phase 0 has none before it")
    before = sizes_of(federation, split=split, phase=later - 1)
    own, common = _parted(federation, split, later)
    new = own.rows(split).size[later].sum()
    both = (size > 0) & (before > 0)
    weight = np.where(both, size + before, 0) / max(np.where(both, size + before, 0).sum(), 1)
    labels, chance = None, None
    if labelled(federation):
        labels, chance = _labels(own, common, split, later, weight, (draws, level, seed))
    features, expected = None, None
    if federation.spec.pool.task != "tokens":
        features, expected = _features(federation, own, common, split, later, weight)
    return Change(
        later - 1,
        later,
        float(new) / float(size.sum()) if size.any() else float("nan"),
        float(size.sum() / before.sum()) if before.any() else float("nan"),
        labels,
        chance,
        features,
        expected,
    )


def divided(rng: np.random.Generator, counts: np.ndarray, take: np.ndarray) -> np.ndarray:
    """Counts by class of take[k] rows drawn without replacement from client k's, int64 [N, K].

    Args:
        rng: of the draw.
        counts: int [N, K].
        take: int [N], at most the rows that there are.
    """
    rest, left = counts.sum(1), np.array(take, np.int64)
    table = np.empty(counts.shape, np.int64, order="F")
    *rare, last = np.argsort(counts.sum(0), kind="stable")
    for label in rare:
        rest = rest - counts[:, label]
        table[:, label] = rng.hypergeometric(counts[:, label], rest, left)
        left -= table[:, label]
    table[:, last] = left
    return table


def _parted(federation: Federation, split: str, later: int) -> tuple[Federation, Federation]:
    """The federation with, in the two phases, only the rows that a client holds in one, or only the others."""
    held = [held_rows(federation, split=split, phase=phase) for phase in (later - 1, later)]
    pairs = [owner * federation.x.shape[0] + row.astype(np.int64) for owner, row in held]
    shared = [np.isin(pairs[0], pairs[1]), np.isin(pairs[1], pairs[0])]
    clients, phases = federation.num_clients, federation.spec.phases
    # as long for every pair of phases, so that one compiled program counts them all
    longest = 2 * max(int(sizes_of(federation, split=split, phase=t).sum()) for t in range(phases))
    index = np.zeros(max(longest, 1), np.int32)
    offset, size = np.zeros((2, 2, phases, clients), np.int32)
    begin = 0
    for phase, (owner, row), kept in zip((later - 1, later), held, shared):
        # a client's own rows first, then those of both phases
        order = np.lexsort((kept, owner))
        index[begin : begin + len(row)] = row[order]
        many = np.stack([np.bincount(owner[kept == which], minlength=clients) for which in (False, True)])
        first = begin + np.cumsum(many.sum(0)) - many.sum(0)
        size[:, phase], offset[:, phase] = many, np.stack([first, first + many[0]])
        begin += len(row)
    seen = federation.rows(split).seen
    parts = [Rows(jnp.asarray(index), jnp.asarray(o), jnp.asarray(n), seen) for o, n in zip(offset, size)]
    own, common = (dataclasses.replace(federation, **{split: rows}) for rows in parts)
    return own, common


def _labels(
    own: Federation,
    common: Federation,
    split: str,
    later: int,
    weight: np.ndarray,
    drawing: tuple[int, float, int],
) -> tuple[float, Band | None]:
    """(the mean distance, its null distribution)."""
    counts = [
        [label_counts(part, split=split, phase=phase) for part in (own, common)] for phase in (later - 1, later)
    ]
    held = weight > 0
    if not held.any():
        return float("nan"), None
    (gone, stayed), (came, now) = [[table[held] for table in pair] for pair in counts]

    def mean(before: np.ndarray, after: np.ndarray) -> float:
        shares = [table / table.sum(1, keepdims=True) for table in (before, after)]
        return float(total_variation(*shares) @ weight[held])

    moving, take = gone + came, gone.sum(1)

    def one(rng: np.random.Generator) -> float:
        first = divided(rng, moving, take)
        return mean(first + stayed, moving - first + stayed)

    draws, level, seed = drawing
    values = replicated(one, draws, seed, "phases", later)
    return mean(gone + stayed, came + now), band(values, level)


def _features(
    federation: Federation,
    own: Federation,
    common: Federation,
    split: str,
    later: int,
    weight: np.ndarray,
) -> tuple[float, float]:
    """(the shift, the root of the expected square under the shuffle)."""
    if not weight.any():
        return float("nan"), float("nan")
    phases = range(federation.spec.phases)  # all of them, so that one compiled program serves every pair
    chunk = row_chunk(np.concatenate([sizes_of(federation, split=split, phase=phase) for phase in phases]))
    at = jnp.asarray(later, jnp.int32)
    centre, deviation = _moments(federation, at, split, chunk)
    told = _shifts(own, common, at, centre, deviation, split, chunk)
    # of a client without rows in both phases they are not numbers
    square, expected = (np.where(weight > 0, np.asarray(values, float), 0) @ weight for values in told)
    return float(np.sqrt(square)), float(np.sqrt(expected))


def _all_moments(federation: Federation, later: Array, split: str, chunk: int) -> tuple[Array, Array]:
    """Mean and standard deviation of each feature over all rows of two phases, float [d]."""
    dtype = jnp.result_type(float)
    zero = jnp.zeros((int(np.prod(federation.spec.pool.feature_shape)),), dtype)

    def merge(carry: tuple[Array, Array, Array], batch: Batch) -> tuple[Array, Array, Array]:
        """Chan's update, which keeps its digits."""
        count, mean, square = carry
        counts = (batch.weight > 0)[:, None]
        x = jnp.where(counts, batch.x.reshape(len(batch.x), -1).astype(dtype), 0)
        many = jnp.sum(counts, dtype=dtype)
        centre = jnp.sum(x, 0) / jnp.maximum(many, 1)
        spread = jnp.sum(jnp.where(counts, (x - centre[None]) ** 2, 0), 0)
        total = count + many
        part = many / jnp.maximum(total, 1)
        gap = centre - mean
        return total, mean + gap * part, square + spread + gap**2 * count * part

    def visit(carry: tuple[Array, Array, Array], client: Array) -> tuple[tuple[Array, Array, Array], None]:
        for phase in (later - 1, later):
            data = federation.data(split, federation.locate(split, phase, client))
            carry = data.fold_full(merge, carry, chunk=chunk)
        return carry, None

    start = (jnp.zeros((), dtype), zero, zero)
    clients = jnp.arange(federation.num_clients, dtype=jnp.int32)
    count, mean, square = jax.lax.scan(visit, start, clients)[0]
    return mean, jnp.sqrt(square / jnp.maximum(count, 1))


_moments = jax.jit(_all_moments, static_argnames=("split", "chunk"))


def _all_shifts(
    own: Federation, common: Federation, later: Array, centre: Array, deviation: Array, split: str, chunk: int
) -> tuple[Array, Array]:
    """Mean squared shift of each client's feature means, and its expectation under the shuffle, float [N]."""
    dtype = centre.dtype
    # rounding alone makes a constant feature's deviation a little more than 0
    varies = deviation > 1e-6 * jnp.abs(centre)
    scale = jnp.where(varies, 1 / jnp.where(varies, deviation, 1), 0)
    many = jnp.maximum(jnp.sum(varies, dtype=dtype), 1)

    def sums(part: Federation, phase: Array, client: Array) -> tuple[Array, Array, Array]:
        """(sum of the standardised features, of their squares, rows)."""
        data = part.data(split, part.locate(split, phase, client))

        def add(carry: tuple[Array, Array], batch: Batch) -> tuple[Array, Array]:
            x = batch.x.reshape(len(batch.x), -1).astype(dtype)
            z = jnp.where((batch.weight > 0)[:, None], (x - centre[None]) * scale[None], 0)
            return carry[0] + jnp.sum(z, 0), carry[1] + jnp.sum(z**2, 0)

        zero = jnp.zeros_like(centre)
        return *data.fold_full(add, (zero, zero), chunk=chunk), data.size.astype(dtype)

    def one(client: Array) -> tuple[Array, Array]:
        gone, gone_squares, a = sums(own, later - 1, client)
        came, came_squares, b = sums(own, later, client)
        stayed, _, c = sums(common, later - 1, client)
        now, _, c_now = sums(common, later, client)
        shift = (gone + stayed) / jnp.maximum(a + c, 1) - (came + now) / jnp.maximum(b + c_now, 1)
        # the shuffle deals a of the a + b rows that are not common: a sum without replacement
        total, moving = gone + came, jnp.maximum(a + b, 1)
        before, after = 1 / jnp.maximum(a + c, 1), 1 / jnp.maximum(b + c, 1)
        mean = (a / moving * total) * (before + after) + stayed * (before - after) - total * after
        variance = (gone_squares + came_squares - total**2 / moving) / jnp.maximum(moving - 1, 1)
        noise = (before + after) ** 2 * variance * a * b / moving
        return jnp.sum(shift**2) / many, jnp.sum(mean**2 + noise) / many

    return jax.lax.map(one, jnp.arange(own.num_clients, dtype=jnp.int32))


_shifts = jax.jit(_all_shifts, static_argnames=("split", "chunk"))
