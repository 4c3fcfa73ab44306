"""Alignment: cosines of the clients' updates, and similarity of what two models represent."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from fedjax_het.analysis.gradients import rows
from fedjax_het.check import require, short
from fedjax_het.similarity import cosines
from fedjax_het.typing import Array, ArrayLike, PyTree

__all__ = ["Alignment", "alignment", "cosine_matrix", "linear_cka", "split_cosines"]


class Alignment(NamedTuple):
    """What a matrix of cosines says of the cohort.

    Attributes:
        mean: of the entries off the diagonal, scalar; NaN for fewer than two clients.
        eigenvalues: descending, float [N]: as many far above 0 as there are groups of clients; NaN at the end,
            one for each client without an update.
    """

    mean: Array
    eigenvalues: Array


def cosine_matrix(updates: PyTree) -> Array:
    """S_kl = <D_k, D_l> / (|D_k| |D_l|), float [N, N], symmetric, of unit diagonal.

    A client that did not move has no direction: its row and its column are NaN.

    Args:
        updates: D_k = w_k,E - w, float [N, d], or a tree of leaves [N, ...].
    """
    flat = rows(updates)
    moved = jnp.any(flat != 0, axis=1)
    biggest = jnp.max(jnp.abs(flat), axis=1, keepdims=True)  # squares of tiny updates would vanish
    found = cosines(flat / jnp.where(biggest > 0, biggest, 1))
    found = jnp.where(jnp.eye(flat.shape[0], dtype=bool), 1, (found + found.T) / 2)
    return jnp.where(moved[:, None] & moved[None, :], found, jnp.nan)


def alignment(matrix: ArrayLike) -> Alignment:
    """The mean off the diagonal and the eigenvalues of a cosine matrix, clients without an update left out.

    Args:
        matrix: float [N, N], see `cosine_matrix`.
    """
    matrix = jnp.asarray(matrix)
    here = ~jnp.isnan(jnp.diagonal(matrix))
    pairs = here[:, None] & here[None, :] & ~jnp.eye(len(here), dtype=bool)
    count = jnp.sum(pairs).astype(matrix.dtype)
    mean = jnp.sum(jnp.where(pairs, matrix, 0)) / jnp.where(count > 0, count, 1)
    # below every eigenvalue of a cosine matrix, so that those left out come last
    apart = jnp.where(here, jnp.diagonal(matrix), -1)
    filled = jnp.where(pairs, matrix, 0) + jnp.diag(apart)
    eigenvalues = jnp.flip(jnp.linalg.eigvalsh(filled))
    places = jnp.arange(len(here), dtype=jnp.int32)
    kept = jnp.where(places < jnp.sum(here, dtype=jnp.int32), eigenvalues, jnp.nan)
    return Alignment(jnp.where(count > 0, mean, jnp.nan), kept)


def split_cosines(first: PyTree, second: PyTree) -> Array:
    """Cosines of mean gradients from two independent minibatches a client, float [N, N].

    The cosine of two minibatch gradients is too small, by |g|^2 / (|g|^2 + v) for each; here

        S_kl = (<g1_k, g2_l> + <g1_l, g2_k>) / 2 / sqrt(<g1_k, g2_k> <g1_l, g2_l>)

    has unbiased numerator and factors below the root; the ratio is biased in the order of 1/B. NaN where
    <g1_k, g2_k> is not positive; entries may lie outside [-1, 1].

    Args:
        first: mean gradient of each client's first batch, float [N, d], or a tree of leaves [N, ...].
        second: of its second, drawn independently.
    """
    a, b = rows(first), rows(second)
    products = a @ b.T
    own = jnp.diagonal(products)
    length = jnp.where(own > 0, jnp.sqrt(jnp.where(own > 0, own, 1)), jnp.nan)
    return (products + products.T) / 2 / length[:, None] / length[None, :]


def linear_cka(x: Any, y: Any, *, unbiased: bool = False) -> Array:
    """Linear centred kernel alignment of two representations of the same examples, scalar.

        |Y'X|_F^2 / (|X'X|_F |Y'Y|_F)        with the columns of X and Y centred

    1 for representations that differ by a rotation and a scale. It is too high for few examples: n >= 4 times
    the features, or `unbiased`, which takes the unbiased estimate of each of the three terms (their ratio is
    0 on average for independent X and Y, and may be negative). NaN where a representation is constant, or the
    unbiased estimate of its own term is not positive.

    Args:
        x: float [n, d1], a row for each example of a common probe set.
        y: float [n, d2], of the same examples in the same order.
        unbiased: see above; needs n >= 4. n^2 numbers.

    Raises:
        ValueError: shapes that do not fit, or too few examples.

    Reference:
        Kornblith, Norouzi, Lee, Hinton, ICML 2019, section 3; Song, Smola, Gretton, Bedo, Borgwardt, JMLR 13,
        2012, equation 5 (unbiased HSIC).
    """
    x, y = jnp.asarray(x), jnp.asarray(y)
    least = 4 if unbiased else 2
    require(
        x.ndim == 2 and y.ndim == 2 and x.shape[0] == y.shape[0] and x.shape[0] >= least,
        f"x and y must be [n, features] of the same n >= {least} examples, got {short(x)} and {short(y)}: "
        "flatten what is not, and take one probe set",
    )
    x, y = x - jnp.mean(x, axis=0, keepdims=True), y - jnp.mean(y, axis=0, keepdims=True)
    term = _hsic if unbiased else _frobenius
    own, other = term(x, x), term(y, y)
    fine = (own > 0) & (other > 0)
    safe = jnp.sqrt(jnp.where(fine, own, 1)) * jnp.sqrt(jnp.where(fine, other, 1))
    return jnp.where(fine, term(x, y) / safe, jnp.nan)


def _frobenius(x: Array, y: Array) -> Array:
    return jnp.sum((y.T @ x) ** 2)


def _hsic(x: Array, y: Array) -> Array:
    """The unbiased estimate of HSIC with linear kernels, up to a factor of n(n - 3)."""
    n = x.shape[0]
    off = ~jnp.eye(n, dtype=bool)
    k, kk = (jnp.where(off, a @ a.T, 0) for a in (x, y))
    one, two = jnp.sum(k, axis=1), jnp.sum(kk, axis=1)
    return jnp.sum(k * kk) + jnp.sum(one) * jnp.sum(two) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ two)
