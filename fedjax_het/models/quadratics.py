"""Quadratic federations whose constants are chosen: L, mu, zeta_* and delta as theorems have them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from fedjax_het.check import positive_int, positive_ints, require, scalar, short
from fedjax_het.federation import Federation
from fedjax_het.models.quadratic import quadratic_federation
from fedjax_het.split import generator

__all__ = ["quadratics"]

SLACK = 1e-12
"""How far past its range a requested delta may lie, relative to L: a bound computed in floats is legal."""


def quadratics(
    clients: int = 10,
    dimension: int = 5,
    *,
    smoothness: float = 1.0,
    convexity: float = 0.1,
    dissimilarity: float = 1.0,
    hessian_dissimilarity: float = 0.2,
    distance: float = 1.0,
    sizes: Sequence[int] | None = None,
    seed: int = 0,
) -> Federation:
    """N random quadratics F_k(w) = 1/2 (w - a_k)'A_k(w - a_k) with exactly these constants.

    With p_k = n_k / n, F = sum_k p_k F_k, A = sum_k p_k A_k and w* the minimiser of F:

        L       = max_k lambda_max(A_k)                  `smoothness`
        mu      = min_k lambda_min(A_k)                  `convexity`
        zeta_*  = (sum_k p_k |grad F_k(w*)|^2)^(1/2)     `dissimilarity`
        delta   = max_k |A_k - A|_2                      `hessian_dissimilarity`
        |w*|    = distance of the optimum from the start `distance`

    Recipe, in a basis turned at random. One axis carries delta: a client of least weight p has curvature L
    there, all others L - delta / (1 - p). On the other axes A_k = C + P_k: the P_k are random symmetric
    matrices with sum_k p_k P_k = 0 and largest norm e = min(delta, (L - mu) / 2); C has eigenvalues in
    [mu + e, L - e], the lowest along the eigenvector of -e, so that mu is attained; the A_k do not commute if
    d >= 3. The gradients at w* are random with mean zero and scaled, and a_k = w* - A_k^-1 grad F_k(w*).

    | what | reachable |
    |---|---|
    | delta | 0 .. (1 - min_k p_k) (L - mu) |
    | delta for d = 1 | (L - mu) / 2 .. (1 - min_k p_k) (L - mu): one client has L and another one mu |
    | one client | delta = zeta_* = 0, and mu = L for d = 1 |
    | zeta_* | any number >= 0, whatever the others are |

    Args:
        clients: N.
        dimension: d.
        smoothness: L > 0, loss / w^2.
        convexity: mu, 0 < mu <= L, loss / w^2.
        dissimilarity: zeta_* >= 0, loss / w.
        hessian_dissimilarity: delta, loss / w^2.
        distance: |w*| >= 0; `quadratic` starts at zero.
        sizes: n_k, rows of each client [N], >= 1: client k holds its row so often. Once if None.
        seed: whole number >= 0.

    Returns:
        A federation of `fedjax_het.models.quadratic` rows. truth: "minimiser" [N, d] (the a_k), "optimum" [d]
        (w*), and the scalars "smoothness", "convexity", "dissimilarity" (zeta_*), "hessian_dissimilarity".

        In double precision the constants are those asked for up to rounding errors of about 1e-15 L, and
        1e-15 (L |w*| + zeta_*) for zeta_*; in float32 of about 1e-7 L and 1e-7 (L |w*| + zeta_*). A mu or a
        delta much smaller than L therefore needs double precision when the federation is made.

    Raises:
        TypeError: counts that are not whole numbers, constants that are not numbers.
        ValueError: a combination that no quadratics have; the message names the range.

    Reference: the constants are those of Karimireddy, Kale, Mohri, Reddi, Stich, Suresh, "SCAFFOLD", ICML
        2020, assumption A2 (delta between the Hessians of a client and of the mean), and of Koloskova,
        Loizou, Boreiri, Jaggi, Stich, ICML 2020, assumption 3 at the optimum (zeta_*).
    """
    clients = positive_int("clients", clients, remedy="say how many there are, such as 10")
    dimension = positive_int("dimension", dimension, remedy="it is the number of parameters, such as 5")
    high = scalar("smoothness", smoothness, above=0, remedy="it is the largest curvature L, such as 1")
    low = scalar("convexity", convexity, above=0, remedy="it is the smallest curvature mu, such as 0.1")
    zeta = scalar("dissimilarity", dissimilarity, least=0, remedy="0 for one minimiser of all clients")
    delta = scalar("hessian_dissimilarity", hessian_dissimilarity, least=0, remedy="0 for like Hessians")
    distance = scalar("distance", distance, least=0, remedy="it is the distance of the optimum from zero")
    weight = _weights(sizes, clients)
    require(
        low <= high,
        f"convexity must be <= smoothness = {high:g}, got {low:g}: no curvature is above the largest",
    )
    require(
        clients > 1 or zeta == 0,
        f"dissimilarity must be 0 for one client, got {zeta:g}: its gradient at its own minimum is 0",
    )
    delta = _reachable(delta, high, low, weight, dimension)
    rng = generator(seed, "quadratics")
    if dimension == 1:
        matrices = _curvatures(rng, weight, high, low, delta)[:, None, None]
    else:
        matrices = _hessians(rng, weight, dimension, high, low, delta)
    gradients = _centred(rng.standard_normal((clients, dimension)), weight)
    length = np.sqrt(weight @ np.sum(gradients**2, axis=1))
    gradients *= 0 if zeta == 0 else zeta / length
    optimum = rng.standard_normal(dimension)
    optimum *= distance / np.linalg.norm(optimum)
    steps = np.linalg.solve(matrices, gradients[..., None])[..., 0]
    minimiser = optimum - steps
    # From the gradients rather than from A_k a_k, whose difference from A_k w* would lose their digits.
    slopes = matrices @ optimum - gradients
    constants = np.sum(minimiser * slopes, axis=1) / 2
    held = None if sizes is None else np.asarray(sizes)
    federation = quadratic_federation(matrices, b=slopes, c=constants, sizes=held)
    truth = {
        "minimiser": minimiser,
        "optimum": optimum,
        "smoothness": high,
        "convexity": low,
        "dissimilarity": zeta,
        "hessian_dissimilarity": delta,
    }
    dtype = jnp.result_type(float)
    return dataclasses.replace(federation, truth={name: jnp.asarray(v, dtype) for name, v in truth.items()})


def _weights(sizes: Sequence[int] | None, clients: int) -> np.ndarray:
    """p [N]."""
    if sizes is None:
        return np.full(clients, 1 / clients)
    remedy = "a client without rows has no function; leave it out"
    count = np.array(positive_ints("sizes", sizes, remedy=remedy), float)
    require(
        len(count) == clients,
        f"sizes must list {clients} clients, got {short(sizes)}: pass one size a client",
    )
    return count / count.sum()


def _reachable(delta: float, high: float, low: float, weight: np.ndarray, dimension: int) -> float:
    """`delta` if there are such Hessians, moved onto the end of the range if it is a rounding error beyond."""
    clients = len(weight)
    most = (1 - weight.min()) * (high - low) if clients > 1 else 0.0
    least = 0.0
    if dimension == 1:
        require(
            clients > 1 or low == high,
            f"convexity must be {high:g} for one client of dimension 1, got {low:g}: it has one curvature",
        )
        # Two clients have L and mu and nothing else; more of them can put their mean halfway.
        least = most if clients == 2 else (high - low) / 2 if clients > 2 else 0.0
    slack = SLACK * high
    require(
        least - slack <= delta <= most + slack,
        f"hessian_dissimilarity must be >= {least:g} and <= {most:g} for clients = {clients}, "
        f"dimension = {dimension} and curvatures in [{low:g}, {high:g}], got {delta:g}: take one in "
        "the range, or move the curvatures apart",
    )
    return float(np.clip(delta, least, most))


def _centred(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """values [N, ...] minus their weighted mean."""
    return values - np.tensordot(weight, values, 1)


def _lightest(rng: np.random.Generator, weight: np.ndarray) -> np.ndarray:
    """Clients by weight, lightest first, ties in random order."""
    return np.lexsort((rng.random(len(weight)), weight))


def _curvatures(
    rng: np.random.Generator, weight: np.ndarray, high: float, low: float, delta: float
) -> np.ndarray:
    """Curvatures [N] for d = 1: one L, one mu, and the rest where the mean is L - delta."""
    order = _lightest(rng, weight)
    value = np.full(len(weight), high)
    if len(order) > 1:
        first, second = weight[order[:2]]
        value[order[1]] = low
    if len(order) > 2:
        rest = (high - delta - first * high - second * low) / (1 - first - second)
        value[order[2:]] = np.clip(rest, low, high)
    return value


def _hessians(
    rng: np.random.Generator, weight: np.ndarray, dimension: int, high: float, low: float, delta: float
) -> np.ndarray:
    """A_k [N, d, d] for d >= 2; the recipe stands in `quadratics`."""
    clients, inner = len(weight), dimension - 1
    lightest = _lightest(rng, weight)[0]
    axis = np.full(clients, high)
    if clients > 1:
        axis -= delta / (1 - weight[lightest])
        axis[lightest] = high
    apart = min(delta, (high - low) / 2)
    parts = np.zeros((clients, inner, inner))
    lowest = rng.standard_normal(inner)
    if apart > 0:
        parts = rng.standard_normal((clients, inner, inner))
        parts = _centred(parts + parts.swapaxes(1, 2), weight)
        spectrum, vectors = np.linalg.eigh(parts)
        client, place = np.unravel_index(np.argmax(abs(spectrum)), spectrum.shape)
        parts *= -apart / spectrum[client, place]
        lowest = vectors[client, :, place]
    basis = np.linalg.qr(np.column_stack([lowest, rng.standard_normal((inner, inner - 1))]))[0]
    floor, ceiling = low + apart, max(high - apart, low + apart)
    spectrum = np.exp(rng.uniform(np.log(floor), np.log(ceiling), inner))
    spectrum[0] = floor
    parts += (basis * spectrum) @ basis.T
    whole = np.zeros((clients, dimension, dimension))
    whole[:, 0, 0] = np.maximum(axis, low)
    whole[:, 1:, 1:] = parts
    turn, upper = np.linalg.qr(rng.standard_normal((dimension, dimension)))
    turn *= np.sign(np.diag(upper))
    matrices = turn @ whole @ turn.T
    return (matrices + matrices.swapaxes(1, 2)) / 2
