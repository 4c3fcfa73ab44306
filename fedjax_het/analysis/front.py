"""The (G, B) front: which pairs bound the clients' gradients, of quadratics and on the run of any model."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het.analysis.oracles.functions import Quadratics
from fedjax_het.check import number, require, short
from fedjax_het.typing import Array

__all__ = ["Front", "dissimilarity_front", "visited_front"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Front:
    """The least G^2 for a B^2; see `dissimilarity_front`. Leading axes are those of B^2.

    Attributes:
        G_sq: float [...]; infinite where no G does.
        point: where the pair is attained, float [..., d]; nan where G is infinite.
        least_B_sq: below it G is infinite, scalar.
    """

    G_sq: Array
    point: Array
    least_B_sq: Array


def dissimilarity_front(functions: Quadratics, B_sq: Any, *, convex: bool = False) -> Front:
    """The least G^2 with sum_k p_k |grad F_k(w)|^2 <= G^2 + B^2 |grad F(w)|^2 for all w, of quadratics.

    With H = sum_k p_k A_k, g_k* = grad F_k(w*), c = sum_k p_k A_k g_k* and zeta_*^2 = sum_k p_k |g_k*|^2:

        S = B^2 H^2 - sum_k p_k A_k^2;   G^2 = zeta_*^2 + c' S^+ c, attained at w* + S^+ c,

    finite where S is positive semidefinite and c in its range. For convex functions the right-hand side is
    G^2 + 2 L B^2 (F(w) - F*), and S = L B^2 H - sum_k p_k A_k^2 with L the largest curvature; the pair
    (2 zeta_*^2, 2) is always one. Computed in double precision.

    Args:
        functions: the clients', with H positive definite.
        B_sq: B^2 >= 0, of any shape.
        convex: which of the two.

    Returns:
        Front.

    Raises:
        TypeError, ValueError: B^2 is not a number >= 0.

    Reference:
        Karimireddy, Kale, Mohri, Reddi, Stich, Suresh, ICML 2020, assumption A1 and its convex version.
    """
    with jax.enable_x64(True):
        B_sq = number("B_sq", B_sq, least=0, remedy="1 is the least of clients that are alike")
        wide: Quadratics = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), functions)
        return _front(wide, jnp.asarray(B_sq, jnp.float64), bool(convex))


def _front(functions: Quadratics, B_sq: Array, convex: bool) -> Front:
    hessian, best = functions.hessian, functions.optimum
    own = functions.gradients(best)
    square = jnp.einsum("n,nij,njk->ik", functions.p, functions.A, functions.A)
    cross = jnp.einsum("n,nij,nj->i", functions.p, functions.A, own)
    zeta = jnp.sum(functions.p * jnp.sum(own**2, axis=1))
    counts = (functions.p > 0)[:, None]
    largest = jnp.max(jnp.where(counts, jnp.abs(jnp.linalg.eigvalsh(functions.A)), 0))
    right = largest * hessian if convex else hessian @ hessian
    # S in the basis in which the right-hand side is the identity: B^2 I - T
    values, vectors = jnp.linalg.eigh(right)
    root = vectors / jnp.sqrt(values)[None, :]
    inner = root.T @ square @ root
    thresholds, basis = jnp.linalg.eigh((inner + inner.T) / 2)
    turned = basis.T @ (root.T @ cross)
    rounding = 1e-12 * thresholds[-1]

    def at(B_sq: Array) -> tuple[Array, Array]:
        room = B_sq - thresholds
        flat = jnp.abs(room) <= rounding
        pushed = jnp.any(flat & (jnp.abs(turned) > 1e-9 * jnp.linalg.norm(turned)))
        finite = jnp.all(room >= -rounding) & ~pushed
        move = jnp.where(flat, 0, turned / jnp.where(flat, 1, room))
        G_sq = jnp.where(finite, zeta + move @ turned, jnp.inf)
        return G_sq, jnp.where(finite, best + root @ (basis @ move), jnp.nan)

    G_sq, point = jax.vmap(at)(B_sq.reshape(-1))
    shape = B_sq.shape
    return Front(G_sq.reshape(shape), point.reshape(*shape, functions.dimension), thresholds[-1])


def visited_front(spread: Any, right: Any, B_sq: Any, *, convex: bool = False) -> Array:
    """The least G^2 with sum_k p_k |grad F_k(w)|^2 <= G^2 + B^2 r(w) at the points that a run visited.

    It is a maximum over those points and no supremum: as a constant of a theorem, "trajectory_max".

    Args:
        spread: G^2(w) = sum_k p_k |grad F_k(w) - grad F(w)|^2 at each point, float [P], such as a History's
            "measure/NAME/G2".
        right: |grad F(w)|^2 there, float [P], such as "measure/NAME/mean_gradient_squared". For the convex
            version a pair of this and r(w) = 2 L (F(w) - F*), each [P].
        B_sq: B^2 >= 0, of any shape.
        convex: whether `right` is such a pair; r(w) = |grad F(w)|^2 if not.

    Returns:
        Float, of the shape of B_sq, >= 0; nan where a point's numbers are.

    Raises:
        TypeError, ValueError: a number of the wrong kind or shape.
    """
    B_sq = number("B_sq", B_sq, least=0, remedy="1 is the least of clients that are alike")
    if convex and not (isinstance(right, tuple) and len(right) == 2):
        raise TypeError(f"right must be (|grad F|^2, 2 L (F - F*)), got {short(right)}: two arrays [P]")
    norm, limit = right if convex else (right, right)
    spread, norm, limit = (jnp.ravel(jnp.asarray(value, B_sq.dtype)) for value in (spread, norm, limit))
    require(
        spread.shape == norm.shape == limit.shape and spread.size > 0,
        f"right must hold one number for each of {spread.size} points, got {norm.size} and {limit.size}: the "
        "same points",
    )
    left = spread + norm
    found = jax.vmap(lambda B: jnp.max(left - B * limit))(B_sq.reshape(-1))
    return jnp.maximum(found, 0).reshape(B_sq.shape)
