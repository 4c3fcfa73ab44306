"""Quadratics: the clients' functions, and their optimum."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from fedjax_het.analysis.oracles.double import double
from fedjax_het.analysis.oracles.filters import spectral, times
from fedjax_het.check import number, require, short
from fedjax_het.federation import Federation
from fedjax_het.typing import Array

__all__ = ["Quadratics", "envelope", "quadratics", "quadratics_of"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Quadratics:
    """F_k(w) = 1/2 w'A_k w - b_k'w of N clients, and F = sum_k p_k F_k; constants do not matter here.

    Attributes:
        A: symmetric, which may be singular, float [N, d, d].
        b: float [N, d]; A_k a_k where a_k is a minimiser of F_k.
        p: weights, of sum 1, float [N].
    """

    A: Array
    b: Array
    p: Array

    @double
    def gradients(self, w: Array) -> Array:
        """grad F_k(w) = A_k w - b_k, float [N, d]."""
        return jnp.einsum("nij,j->ni", self.A, w, precision="highest") - self.b

    @property
    @double
    def hessian(self) -> Array:
        """H = sum_k p_k A_k, float [d, d]."""
        return jnp.einsum("n,nij->ij", self.p, self.A, precision="highest")

    @property
    @double
    def optimum(self) -> Array:
        """w* = argmin F = H^-1 sum_k p_k b_k, float [d]."""
        return jnp.linalg.solve(self.hessian, jnp.matmul(self.p, self.b, precision="highest"))

    @property
    def count(self) -> int:
        """N."""
        return self.b.shape[0]

    @property
    def dimension(self) -> int:
        """d."""
        return self.b.shape[1]


@double
def quadratics(A: Any, a: Any = None, *, b: Any = None, weights: Any = None) -> Quadratics:
    """The functions of N clients, by their minimisers or by their linear terms.

    Args:
        A: symmetric matrices [N, d, d]; tracers are welcome here and below.
        a: minimisers [N, d].
        b: linear terms [N, d] instead of `a`: F_k(w) = 1/2 w'A_k w - b_k'w.
        weights: >= 0 [N], such as the clients' sizes; p are their shares. Equal if None.

    Raises:
        TypeError: entries that are no numbers.
        ValueError: both or none of `a` and `b`, shapes that do not fit, an A that is not symmetric, a value
            that is not finite, or weights of sum 0.
    """
    given = "both" if a is not None else "neither"
    require((a is None) != (b is None), f"a or b must be given, and not both, got {given}: b = A a")
    A = number("A", A, remedy="stack one symmetric matrix a client, [N, d, d]")
    shape = jnp.shape(A)
    require(
        len(shape) == 3 and shape[0] > 0 and shape[1] == shape[2],
        f"A must have shape [N, d, d], got {list(shape)}: stack one square matrix for each client",
    )
    if not isinstance(A, Tracer):
        require(
            bool(np.allclose(A, np.swapaxes(A, 1, 2), rtol=1e-5, atol=1e-6)),
            "A must be symmetric, got matrices that differ from their transposes: pass (A + A') / 2",
        )
    name, points = ("a", a) if b is None else ("b", b)
    points = number(name, points, remedy="one vector for each client, [N, d]")
    require(
        jnp.shape(points) == shape[:2],
        f"{name} must have shape {list(shape[:2])}, got {list(jnp.shape(points))}: one vector for each client",
    )
    shares = number("weights", np.ones(shape[0]) if weights is None else weights, least=0, remedy="sizes, say")
    require(
        jnp.shape(shares) == shape[:1],
        f"weights must have shape {list(shape[:1])}, got {list(jnp.shape(shares))}: one for each client",
    )
    if not isinstance(shares, Tracer):
        require(
            bool(np.sum(shares) > 0), f"weights must have a sum > 0, got {short(weights)}: give a client rows"
        )
    if b is None:
        points = times(A, points)
    return Quadratics(A, points, shares / jnp.sum(shares))


@double
def quadratics_of(federation: Federation) -> Quadratics:
    """The functions of a federation of quadratics: means over clients' training rows, and p_k = n_k / n.

    Args:
        federation: as `fedjax_het.models.quadratic_federation` and `quadratics` make it, of one phase.

    Raises:
        TypeError: not a Federation.
        ValueError: its rows are not quadratics, they are transformed, or they change over time.
    """
    if not isinstance(federation, Federation):
        raise TypeError(f"federation must be a Federation, got {short(federation)}: see fh.models.quadratics")
    x, y = federation.x, federation.y
    still = federation.train.size.shape[0] == 1 and not federation.transforms
    require(
        still and x.ndim == 3 and x.shape[1] == x.shape[2] and y.shape[1:] == (x.shape[1] + 1,),
        f"federation must hold quadratics, untransformed and in one phase, got x {list(x.shape)} and "
        f"y {list(y.shape)}: make it with fh.models.quadratic_federation or fh.models.quadratics",
    )
    size, offset = np.asarray(federation.train.size)[0], np.asarray(federation.train.offset)[0]
    owner = np.repeat(np.arange(len(size)), size)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(size) - size, size)
    rows = np.asarray(federation.train.index)[offset[owner] + place]
    A, b = np.zeros((len(size), *x.shape[1:])), np.zeros((len(size), x.shape[1]))
    np.add.at(A, owner, np.asarray(x, np.float64)[rows])
    np.add.at(b, owner, np.asarray(y, np.float64)[rows, :-1])
    held = np.maximum(size, 1)
    return quadratics(A / held[:, None, None], b=b / held[:, None], weights=size)


@double
def envelope(functions: Quadratics, mu: Any) -> Quadratics:
    """The Moreau envelopes min_v F_k(v) + mu/2 |v - w|^2, which are quadratics themselves.

    An exact FedProx round is a gradient step of rate 1/mu on them; pFedMe with exact inner solves is FedAvg on
    them.

    Args:
        functions: convex F_k.
        mu: > 0.

    Returns:
        Quadratics with A = mu A_k (A_k + mu I)^-1 and b = mu (A_k + mu I)^-1 b_k.

    Raises:
        TypeError, ValueError: `mu` is not a positive number.

    Reference:
        Dinh, Tran, Nguyen, NeurIPS 2020 (pFedMe).
    """
    mu = number("mu", mu, above=0, remedy="the envelope of mu = 0 is flat")
    pull = spectral(functions.A, lambda values: mu / (values + mu))
    flatter = spectral(functions.A, lambda values: mu * values / (values + mu))
    return Quadratics(flatter, times(pull, functions.b), functions.p)
