"""SCAFFOLD, with variates as they are kept, and as they would be if they were fresh."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from fedjax_het.analysis.oracles.affine import Affine, affine_probe
from fedjax_het.analysis.oracles.averages import shares
from fedjax_het.analysis.oracles.double import double
from fedjax_het.analysis.oracles.filters import local_filter, spectral, times, work
from fedjax_het.analysis.oracles.functions import Quadratics
from fedjax_het.analysis.oracles.joint import Joint, blank
from fedjax_het.check import known, number

__all__ = ["OPTIONS", "scaffold", "scaffold_fresh"]

OPTIONS = ("I", "II")
"""A new control variate is I, the gradient at the server's point; II, the mean gradient of the local steps."""


@double
def scaffold(
    functions: Quadratics,
    *,
    learning_rate: Any,
    steps: Any = None,
    option: str = "II",
    server_learning_rate: Any = 1.0,
    present: Any = None,
) -> Affine:
    """A round of SCAFFOLD: y_k - x = -S_k (grad F_k(x) - c_k + c);  x <- x + eta_g sum_k omega_k (y_k - x).

    c = sum_k p_k c_k. New c_k of those present: I, grad F_k(x), which is one round old when it is used; II,
    c_k - c - (y_k - x) / sum_j eta_j. The optimum with c_k = grad F_k(w*) is a fixed point whoever takes part,
    and the only one if all do. It need not attract: with unlike curvatures and many steps option I diverges.

    Args:
        functions: the clients'; equal p are the paper's method.
        learning_rate: eta > 0, or eta_j of each local step [J].
        steps: >= 0, equal or one for each client [N]; J if None. A client without a step keeps its c_k.
        option: "I" or "II".
        server_learning_rate: eta_g > 0, on x only.
        present: who takes part, bool [N]; everyone if None. The others' c_k stay, and count in c.

    Returns:
        The map of (x, c_1 .. c_N) [d + N d], see `joint`.

    Raises:
        TypeError, ValueError: a number of the wrong kind, range or shape; an unknown option.

    Reference:
        Karimireddy, Kale, Mohri, Reddi, Stich, Suresh, ICML 2020, Algorithm 1.

    Departures:
        Weights p: over those present in the mean of x, over all clients in c.
    """
    known("option", option, OPTIONS)
    omega, here = shares(functions, present)
    rate = number("server_learning_rate", server_learning_rate, above=0, remedy="1 adds the mean as it is")
    done = work(functions.count, learning_rate, steps)
    filters = spectral(functions.A, lambda values: local_filter(values, done))
    moved = (here & (done.steps > 0))[:, None]
    length = jnp.where(moved, done.step_sum[:, None], 1)

    def step(state: Joint) -> Joint:
        own = functions.gradients(state.point)
        shared = jnp.matmul(functions.p, state.control, precision="highest")
        delta = jnp.where(moved, -times(filters, own - state.control + shared[None]), 0)
        control = own if option == "I" else state.control - shared[None] - delta / length
        point = state.point + rate * jnp.matmul(omega, delta, precision="highest")
        return Joint(point, jnp.where(moved, control, state.control))

    return affine_probe(step, blank(functions))[0]


@double
def scaffold_fresh(
    functions: Quadratics,
    *,
    learning_rate: Any,
    steps: Any = None,
    server_learning_rate: Any = 1.0,
    present: Any = None,
) -> Affine:
    """A round of SCAFFOLD whose variates are fresh, c_k = grad F_k(x): e <- (I - eta_g S H) e, e = x - w*.

    S = sum_k omega_k S_k and H = sum_k p_k A_k. It takes a pass over the data before local work. Where both are
    positive definite the eigenvalues of S H are real and positive, and it converges if and only if eta_g times
    the largest is below 2. With many steps S H -> (sum_k omega_k A_k^-1) H, whose largest may be far above.

    Args:
        functions: the clients'.
        learning_rate: as in `scaffold`.
        steps: as in `scaffold`.
        server_learning_rate: as in `scaffold`.
        present: as in `scaffold`.

    Returns:
        The map of x [d].

    Raises:
        TypeError, ValueError: as in `scaffold`.

    Reference:
        Karimireddy et al., ICML 2020, Algorithm 1 with c_k = grad F_k(x). Its limit of endless steps is DANE's
        update, Shamir, Srebro, Zhang, ICML 2014.
    """
    omega, here = shares(functions, present)
    rate = number("server_learning_rate", server_learning_rate, above=0, remedy="1 adds the mean as it is")
    done = work(functions.count, learning_rate, steps)
    filters = spectral(functions.A, lambda values: local_filter(values, done))
    filters = jnp.where(here[:, None, None], filters, 0)
    mean = rate * jnp.einsum("n,nij->ij", omega, filters, precision="highest")
    pull = jnp.matmul(mean, functions.hessian, precision="highest")
    slope = jnp.matmul(functions.p, functions.b, precision="highest")
    identity = jnp.eye(functions.dimension, dtype=pull.dtype)
    return Affine(identity - pull, jnp.matmul(mean, slope, precision="highest"))
