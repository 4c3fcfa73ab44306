"""What tells clients apart, as vectors: shares of labels or tokens, means of features, also within labels.

Each comes with what clients of the same sizes would show if rows had been dealt at random: for shares such a
deal itself, for means normal draws of the same covariance, to which they tend.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import Precision

from fedjax_het.check import require
from fedjax_het.federation import Batch, Federation
from fedjax_het.heterogeneity.counts import label_counts, labelled, row_chunk, sizes_of
from fedjax_het.heterogeneity.null import dealt
from fedjax_het.plots.directions import leading, standardised
from fedjax_het.plots.seen import flat, taken
from fedjax_het.plots.tokens import tokenised, usage
from fedjax_het.split import generator
from fedjax_het.typing import Array

__all__ = ["KINDS", "Evidence", "applies", "evidence"]

KINDS = ("labels", "tokens", "features", "both")

COMPONENTS = 16
"""Directions of the features that are looked at, at most."""

CLASSES = 100
"""Classes up to which means within labels are compared."""

NUMBERS = 400
"""Numbers of a client's vector of class means, about: more classes leave fewer directions to each."""

SLOPES = 2 * 10**9
"""Clients times features squared up to which slopes along all features are compared."""

ROWS = 1000
"""Rows that the directions are found on."""


@dataclasses.dataclass(frozen=True, eq=False)
class Evidence:
    """A vector a client.

    Attributes:
        values: float [n, q].
        chance: the same of a random deal, float [n, q].
    """

    values: np.ndarray
    chance: np.ndarray


def applies(federation: Federation, kind: str) -> bool:
    """Whether there is such evidence of this federation's rows."""
    spec = federation.spec.pool
    if kind == "labels":
        return labelled(federation) and (spec.num_classes or 0) > 1
    if kind == "tokens":
        return tokenised(federation)
    if spec.task == "tokens" or int(np.prod(spec.feature_shape)) < 1:
        return False
    if kind == "features":
        return True
    one = int(np.prod(spec.target_shape)) == 1
    return (labelled(federation) and 1 < (spec.num_classes or 0) <= CLASSES) or (
        spec.task == "regression" and one
    )


def evidence(
    federation: Federation, kinds: Sequence[str], holders: np.ndarray, *, split: str, phase: int
) -> list[Evidence]:
    """Vectors of the clients that hold rows, one Evidence a kind.

    labels: sqrt(P_k / 2), whose Euclidean distance is Hellinger's. tokens: the same of the tokens in a client's
    targets; the random deal is one of whole rows. features: means of a client's rows along the
    leading principal components of all rows, in units of the rows' total standard deviation. both: for every
    class the same mean over a client's rows of it, less that of all clients, shrunk by n_kc / (n_kc + v), v the
    variance of rows over that of the clients' true means; in a regression the means of (x - m)(y - m').

    Args:
        federation: one that these kinds apply to.
        kinds: some of `KINDS`.
        holders: clients with rows, int [n].
        split: "train", "valid" or "test".
        phase: of a federation that changes over time.
    """
    rng = generator(0, "clients in the plane")
    by_class = applies(federation, "both") and labelled(federation)
    # one slot a class if class means are asked for, else one for all rows
    slots = int(federation.spec.pool.num_classes or 1) if by_class else 1
    ids, at = jnp.asarray(holders, jnp.int32), jnp.asarray(phase, jnp.int32)
    chunk = row_chunk(sizes_of(federation, split=split, phase=phase))
    told: list[Evidence] = []
    moments = {}
    for kind in kinds:
        if kind == "labels":
            counts = label_counts(federation, split=split, phase=phase)[holders]
            told.append(_shares(counts, dealt(rng, counts.sum(0), counts.sum(1))))
            continue
        if kind == "tokens":
            used = usage(federation, split=split, phase=phase)
            told.append(_shares(used.counts[holders], used.chance[holders]))
            continue
        product = kind == "both" and not by_class
        if product not in moments:
            basis = _directions(federation, holders, split, phase, slope=product)
            found = _moments(federation, ids, at, basis, split, chunk, slots, product)
            moments[product] = [np.asarray(each, np.float64) for each in found]
        count, total, outer = moments[product]
        if kind == "features":
            count, total = count.sum(1, keepdims=True), total.sum(1, keepdims=True)
        if by_class:  # of many classes a few directions each
            width = max(2, NUMBERS // count.shape[1])
            total, outer = total[..., :width], outer[:width, :width]
        told.append(_means(count, total, outer, rng, shrink=kind == "both"))
    return told


def _shares(*counts: np.ndarray) -> Evidence:
    """Roots of half the shares, of counts [n, K] and of those after a random deal."""
    return Evidence(*(np.sqrt(each / each.sum(1, keepdims=True) / 2) for each in counts))


def _means(
    count: np.ndarray, total: np.ndarray, outer: np.ndarray, rng: np.random.Generator, *, shrink: bool
) -> Evidence:
    """Clients' means of each slot less that of all clients, and normal draws of them.

    Args:
        count: rows of each client and slot, [n, S].
        total: sums of their vectors, [n, S, p].
        outer: sum of the outer products of all rows with themselves, [p, p].
        rng: of the draws.
        shrink: whether means of few rows are shrunk towards 0.
    """
    many, rows = count.sum(0), count.sum()
    centre = total.sum(0) / np.maximum(many, 1)[:, None]
    covariance = (outer - (many[:, None] * centre).T @ centre) / max(rows, 1)
    variance = max(float(np.trace(covariance)), 1e-30)
    root = np.linalg.cholesky(covariance + 1e-9 * variance * np.eye(len(covariance)))
    some = np.maximum(count, 1)[..., None]
    off = np.where(count[..., None] > 0, total / some - centre, 0)
    # dealt without replacement: a client that holds all rows of a class has exactly its mean
    left = np.maximum(1 - count / np.maximum(many, 1), 0)[..., None]
    noise = rng.standard_normal(off.shape) @ root.T * np.sqrt(left / some) * (count[..., None] > 0)
    if shrink:
        square, held = (off**2).sum(-1), count > 0
        between = (count * square)[held].sum() / max(rows, 1) - variance * (left[..., 0][held]).sum() / max(
            rows, 1
        )
        ratio = np.clip(variance / max(between, 1e-30), 0.5, 100)
        weight = count[..., None] / (count[..., None] + ratio)
        off, noise = off * weight, noise * weight
    return Evidence(*(each.reshape(len(each), -1) / np.sqrt(variance) for each in (off, noise)))


def _directions(
    federation: Federation, holders: np.ndarray, split: str, phase: int, *, slope: bool
) -> dict[str, Array]:
    """The mean of the rows and their leading principal directions, of standardised features unless they are
    pixels; and mean and scale of the targets. For slopes all features, if they are not too many."""
    each = max(1, ROWS // min(len(holders), ROWS))
    ids = holders[np.linspace(0, len(holders) - 1, min(len(holders), ROWS)).round().astype(int)]
    size = sizes_of(federation, split=split, phase=phase)[ids]
    each = min(each, int(size.max()))
    many = np.minimum(size, each)
    x, y = taken(federation, ids, np.arange(each) * size[:, None] // many[:, None], split=split, phase=phase)
    held = np.arange(each) < many[:, None]
    x, y = flat(x[held]), flat(y[held])
    require(
        bool(np.isfinite(x).all()),
        "federation must show its clients finite rows, got NaN or infinity: look at its transforms",
    )
    mean, unit = standardised(x, federation.spec.pool.feature_shape)
    # a slope may lie along any feature, not only along those that vary most
    every = slope and len(holders) * x.shape[1] ** 2 <= SLOPES
    axes = np.eye(x.shape[1]) if every else leading((x - mean) * unit, COMPONENTS)
    dtype = jnp.result_type(float)
    told = {"mean": mean, "axes": axes * unit[:, None], "centre": y.mean(), "scale": 1 / max(y.std(), 1e-12)}
    return {name: jnp.asarray(value, dtype) for name, value in told.items()}


@functools.partial(jax.jit, static_argnames=("split", "chunk", "slots", "product"))
def _moments(
    federation: Federation,
    ids: Array,
    phase: Array,
    basis: dict[str, Array],
    split: str,
    chunk: int,
    slots: int,
    product: bool,
) -> tuple[Array, Array, Array]:
    """(rows [n, S], sums [n, S, p], outer products of all rows [p, p]) of the rows' coordinates."""
    dtype = basis["mean"].dtype
    width = basis["axes"].shape[1]

    def add(carry: tuple[Array, Array, Array], batch: Batch) -> tuple[Array, Array, Array]:
        count, total, outer = carry
        x = batch.x.reshape(len(batch.x), -1).astype(dtype) - basis["mean"][None]
        z = jnp.matmul(x, basis["axes"], precision=Precision.HIGHEST)
        if product:
            z = z * ((batch.y.reshape(-1).astype(dtype) - basis["centre"]) * basis["scale"])[:, None]
        counts = batch.weight > 0
        z = jnp.where(counts[:, None], z, 0)
        slot = batch.y if slots > 1 else jnp.zeros(len(z), jnp.int32)
        one = counts.astype(dtype)
        return count.at[slot].add(one, mode="drop"), total.at[slot].add(z, mode="drop"), outer + z.T @ z

    def visit(outer: Array, client: Array) -> tuple[Array, tuple[Array, Array]]:
        data = federation.data(split, federation.locate(split, phase, client))
        start = (jnp.zeros(slots, dtype), jnp.zeros((slots, width), dtype), outer)
        count, total, outer = data.fold_full(add, start, chunk=chunk)
        return outer, (count, total)

    outer, (count, total) = jax.lax.scan(visit, jnp.zeros((width, width), dtype), ids)
    return count, total, outer
