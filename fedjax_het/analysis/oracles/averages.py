"""Rounds of the methods without memory: FedAvg, FedProx and FedNova.

Each is w <- w - eta_g sum_k omega_k S_k (A_k w - b_k), a matrix filter S_k = S(A_k) of the clients'
gradients, so that its limit is the minimum of F with A_k and b_k replaced by S_k A_k and S_k b_k: unbiased
only where that does not move it.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from fedjax_het.analysis.oracles.affine import Affine
from fedjax_het.analysis.oracles.double import double
from fedjax_het.analysis.oracles.filters import local_filter, norm, spectral, work
from fedjax_het.analysis.oracles.functions import Quadratics
from fedjax_het.check import known, number, require, short
from fedjax_het.typing import Array

__all__ = ["EFFECTIVE_STEPS", "fedavg", "fednova", "fedprox", "filtered", "proximal", "shares"]

EFFECTIVE_STEPS = ("norm", "steps")
"""tau_eff is the mean of ||a_k||_1, or of tau_k."""


def shares(functions: Quadratics, present: Any) -> tuple[Array, Array]:
    """(omega, present): p over the clients that take part, of sum 1, 0 for the others; float and bool [N].

    Args:
        functions: whose p.
        present: bool [N], or None for everyone.

    Raises:
        TypeError, ValueError: `present` is not a bool for each client, or nobody is present.
    """
    here = jnp.ones(functions.p.shape, bool) if present is None else jnp.asarray(present)
    if here.dtype != bool:
        raise TypeError(f"present must hold bools, got {short(present)}: one for each client")
    require(
        here.shape == functions.p.shape,
        f"present must have shape {list(functions.p.shape)}, got {list(here.shape)}: one bool for each client",
    )
    if not isinstance(here, Tracer):
        require(bool(np.any(here)), "present must hold a True, got False for everyone: let one take part")
    weight = jnp.where(here, functions.p, 0)
    total = jnp.sum(weight)
    return weight / jnp.where(total > 0, total, 1), here


def filtered(functions: Quadratics, filters: Array, omega: Array, server_learning_rate: Any) -> Affine:
    """w <- w - eta_g sum_k omega_k S_k (A_k w - b_k), for S_k [N, d, d] and omega of `shares`."""
    rate = number("server_learning_rate", server_learning_rate, above=0, remedy="1 adds the mean as it is")
    filters = jnp.where((omega > 0)[:, None, None], filters, 0)  # who is absent may well diverge
    pull = jnp.einsum("n,nij,njl->il", omega, filters, functions.A, precision="highest")
    aim = jnp.einsum("n,nij,nj->i", omega, filters, functions.b, precision="highest")
    return Affine(jnp.eye(functions.dimension, dtype=pull.dtype) - rate * pull, rate * aim)


@double
def fedavg(
    functions: Quadratics,
    *,
    learning_rate: Any,
    steps: Any = None,
    server_learning_rate: Any = 1.0,
    present: Any = None,
) -> Affine:
    """A round of FedAvg with full batches: w <- w + eta_g sum_k omega_k (y_k - w).

    S_k A_k = I - (I - eta A_k)^tau_k. With one step it is gradient descent. As steps grow without end, with
    eta < 2/L, the limit goes to sum_k p_k a_k, the mean of finished local models. With unequal steps it goes,
    as eta -> 0, to the minimum of sum_k p_k tau_k F_k, not of F.

    Args:
        functions: the clients'.
        learning_rate: eta > 0, or eta_j of each local step [J].
        steps: tau >= 0, equal or one for each client [N]; J if None. No steps: takes part and stays.
        server_learning_rate: eta_g > 0.
        present: who takes part, bool [N]; everyone if None. Weights are p over those present.

    Returns:
        The map of w [d]. All numbers may be tracers: sweep them with `jax.vmap`.

    Raises:
        TypeError, ValueError: a number of the wrong kind, range or shape.

    Reference:
        McMahan et al., AISTATS 2017, Algorithm 1; its limit on quadratics: Charles, Konecny, AISTATS 2021.
    """
    omega, _ = shares(functions, present)
    done = work(functions.count, learning_rate, steps)
    filters = spectral(functions.A, lambda values: local_filter(values, done))
    return filtered(functions, filters, omega, server_learning_rate)


@double
def fedprox(
    functions: Quadratics,
    *,
    mu: Any,
    learning_rate: Any = None,
    steps: Any = None,
    server_learning_rate: Any = 1.0,
    present: Any = None,
) -> Affine:
    """A round of FedProx: clients solve F_k(y) + mu/2 |y - w|^2 from w, exactly or by gradient steps.

    Exactly, S_k = (A_k + mu I)^-1: a gradient step of rate 1/mu on the Moreau envelopes, to whose minimum it
    goes. By steps, S_k = (I - (I - eta H_k)^tau_k) H_k^-1 with H_k = A_k + mu I.

    Args:
        functions: the clients'.
        mu: >= 0; > 0 for exact solves.
        learning_rate: as in `fedavg`; None for exact solves.
        steps: as in `fedavg`.
        server_learning_rate: as in `fedavg`.
        present: as in `fedavg`.

    Returns:
        The map of w [d].

    Raises:
        TypeError, ValueError: as in `fedavg`; steps without a rate.

    Reference:
        Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith, MLSys 2020, Algorithm 2.
    """
    omega, _ = shares(functions, present)
    filters = proximal(functions, mu, learning_rate, steps)
    return filtered(functions, filters, omega, server_learning_rate)


@double
def fednova(
    functions: Quadratics,
    *,
    learning_rate: Any,
    steps: Any = None,
    mu: Any = 0.0,
    momentum: Any = None,
    prox: str = "outside",
    effective_steps: str = "norm",
    server_learning_rate: Any = 1.0,
    present: Any = None,
) -> Affine:
    """A round of FedNova: w <- w + eta_g tau_eff sum_k omega_k (y_k - w) / ||a_k||_1.

    With equal steps it is FedAvg. With unequal ones a bias of order eta stays, see `drift_bias`. A client
    that takes no step is left out of both sums.

    Args:
        functions: the clients'.
        learning_rate: as in `fedavg`; ||a_k||_1 is in units of the first one.
        steps: as in `fedavg`.
        mu: >= 0, of a proximal term.
        momentum: rho in [0, 1) of local steps, or None.
        prox: whether the proximal term stays "outside" of the momentum's buffer, or goes "inside".
        effective_steps: tau_eff: "norm", sum_k omega_k ||a_k||_1; or "steps", sum_k omega_k tau_k,
            where steps at other rates than the first count in proportion.
        server_learning_rate: as in `fedavg`.
        present: as in `fedavg`.

    Returns:
        The map of w [d].

    Raises:
        TypeError, ValueError: as in `fedavg`.

    Reference:
        Wang, Liu, Liang, Joshi, Poor, NeurIPS 2020, Section 4.
    """
    known("effective_steps", effective_steps, EFFECTIVE_STEPS)
    omega, here = shares(functions, present)
    done = work(functions.count, learning_rate, steps, mu=mu, momentum=momentum, prox=prox)
    moved = here & (done.steps > 0)
    omega = jnp.where(moved, omega, 0)
    omega = omega / jnp.where(jnp.any(moved), jnp.sum(omega), 1)
    length = norm(done)
    counted = length if effective_steps == "norm" else done.step_sum / done.rates[0]
    scale = jnp.sum(omega * counted) / jnp.where(moved, length, 1)
    filters = spectral(functions.A, lambda values: local_filter(values, done))
    return filtered(functions, scale[:, None, None] * filters, omega, server_learning_rate)


def proximal(functions: Quadratics, mu: Any, learning_rate: Any, steps: Any, name: str = "mu") -> Array:
    """S_k of a local problem F_k(y) + mu/2 |y - w|^2, exact without a rate; float [N, d, d]."""
    if learning_rate is None:
        require(
            steps is None, "learning_rate must be given with steps, got None: without both for exact solves"
        )
        mu = number(name, mu, above=0, remedy="an exact solve without it forgets where it started")
        return spectral(functions.A, lambda values: 1 / (values + mu))
    mu = number(name, mu, least=0, remedy="0 is no proximal term")
    done = work(functions.count, learning_rate, steps, mu=mu)
    return spectral(functions.A, lambda values: local_filter(values, done))
