"""FedDyn, and the splitting that it is."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from fedjax_het.analysis.oracles.affine import Affine, affine_probe
from fedjax_het.analysis.oracles.averages import proximal, shares
from fedjax_het.analysis.oracles.double import double
from fedjax_het.analysis.oracles.filters import spectral, times
from fedjax_het.analysis.oracles.functions import Quadratics
from fedjax_het.analysis.oracles.joint import Joint, blank
from fedjax_het.check import number
from fedjax_het.typing import Array

__all__ = ["douglas_rachford", "feddyn"]


@double
def feddyn(
    functions: Quadratics,
    *,
    alpha: Any,
    learning_rate: Any = None,
    steps: Any = None,
    present: Any = None,
) -> Affine:
    """A round of FedDyn: v_k solves F_k(v) - <lambda_k, v> + alpha/2 |v - th|^2 from th, exactly or by steps.

    Then lambda_k <- lambda_k - alpha (v_k - th) for those present, h = sum_k p_k lambda_k over all, and
    th <- sum_k omega_k v_k - h / alpha. The optimum with lambda_k = grad F_k(w*) is a fixed point whoever takes
    part, however inexact the solves.

    Args:
        functions: the clients'; equal p are the paper's method. The authors' code for unequal sizes has
            alpha_k = alpha / (N p_k) and an equal mean: the paper's method on the functions N p_k F_k.
        alpha: > 0.
        learning_rate: eta > 0, or eta_j of each local step [J]; None for exact solves.
        steps: >= 0, equal or one for each client [N]; J if None.
        present: who takes part, bool [N]; everyone if None.

    Returns:
        The map of (th, lambda_1 .. lambda_N) [d + N d], see `joint`.

    Raises:
        TypeError, ValueError: a number of the wrong kind, range or shape.

    Reference:
        Acar, Zhao, Matas Navarro, Mattina, Whatmough, Saligrama, ICLR 2021, Algorithm 1.

    Departures:
        Weights p: over those present in the mean of v_k, over all clients in h.
    """
    omega, here = shares(functions, present)
    alpha = number("alpha", alpha, above=0, remedy="it weighs the memory; FedDyn of 0 is not FedAvg")
    filters = proximal(functions, alpha, learning_rate, steps, "alpha")

    def step(state: Joint) -> Joint:
        pulled = times(filters, functions.gradients(state.point) - state.control)
        delta = jnp.where(here[:, None], -pulled, 0)
        control = state.control - alpha * delta
        shared = jnp.matmul(functions.p, control, precision="highest")
        point = state.point + jnp.matmul(omega, delta, precision="highest") - shared / alpha
        return Joint(jnp.where(jnp.any(here), point, state.point), control)

    return affine_probe(step, blank(functions))[0]


@double
def douglas_rachford(functions: Quadratics, *, alpha: Any) -> Affine:
    """FedDyn with exact solves and everyone present, as what it is: z <- 1/2 (I + (2 Pi - I) R) z.

    z_k = lambda_k - grad F_k(w*) + alpha (th - w*) is the error, R_k = (alpha I - A_k) (alpha I + A_k)^-1 the
    reflection of each client and Pi the average over p. Neither R, for convex F_k, nor 2 Pi - I lengthens
    anything, so that no alpha > 0 diverges; the best one is of the order of (mu L)^1/2.

    Args:
        functions: the clients'.
        alpha: > 0.

    Returns:
        The map of z [N d], with a zero offset; its rate is that of `feddyn`.

    Raises:
        TypeError, ValueError: `alpha` is not a positive number.

    Reference:
        Lions, Mercier, SIAM Journal on Numerical Analysis 1979 (the splitting); that FedDyn is one is derived
        here.
    """
    alpha = number("alpha", alpha, above=0, remedy="it weighs the memory; FedDyn of 0 is not FedAvg")
    reflect = spectral(functions.A, lambda values: (alpha - values) / (alpha + values))

    def step(z: Array) -> Array:
        mirrored = times(reflect, z)
        mean = jnp.matmul(functions.p, mirrored, precision="highest")
        return (z + 2 * mean[None] - mirrored) / 2

    return affine_probe(step, jnp.zeros_like(functions.b))[0]
