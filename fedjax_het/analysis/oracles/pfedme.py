"""pFedMe: FedAvg on Moreau envelopes, whose gradients clients know as well as they solve for them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het.analysis.oracles.affine import Affine
from fedjax_het.analysis.oracles.averages import filtered, shares
from fedjax_het.analysis.oracles.double import double
from fedjax_het.analysis.oracles.filters import Work, local_filter, preconditioned, spectral, work
from fedjax_het.analysis.oracles.functions import Quadratics
from fedjax_het.check import number, require, short
from fedjax_het.typing import Array

__all__ = ["pfedme"]


@double
def pfedme(
    functions: Quadratics,
    *,
    lam: Any,
    learning_rate: Any,
    steps: Any = None,
    personal_learning_rate: Any = None,
    inner_steps: Any = None,
    carry_over: bool = False,
    server_learning_rate: Any = 1.0,
    present: Any = None,
) -> Affine:
    """A round of pFedMe with full batches: R times w_k <- w_k - eta lam (w_k - theta), and the mean of the w_k.

    theta minimises F_k(theta) + lam/2 |theta - w_k|^2, exactly, or by J steps of rate s from w_k. Then
    lam (w_k - theta) = P_k grad F_k(w_k) with P_k = lam (A_k + lam I)^-1, or lam (I - (I - s H_k)^J) H_k^-1,
    H_k = A_k + lam I, and the round is FedAvg with curvatures A~_k = P_k A_k: S_k A_k = I - (I - eta A~_k)^R.

    Carried over, theta goes on where the local round before left it, and only in the first one at w. With
    w_k = w - W grad F_k(w) and theta = w - T grad F_k(w), W = T = 0 at first, a local round does

        T <- T + S (I - H_k T + lam W),  S = (I - (I - s H_k)^J) H_k^-1;   W <- W + eta lam (T - W)

    and S_k = W at its end. Exact solutions forget where they began.

    The limit belongs to the envelopes, not to F; as eta -> 0 it is that of exact FedProx with mu = lam.

    Args:
        functions: the clients'.
        lam: lambda > 0.
        learning_rate: eta > 0, or eta_j of each local round [R].
        steps: R >= 0, equal or one for each client [N]; the length of the rates if None.
        personal_learning_rate: s > 0; None for exact inner solutions.
        inner_steps: J >= 0, with s.
        carry_over: whether theta is.
        server_learning_rate: beta > 0.
        present: who takes part, bool [N]; everyone if None. Weights are p over those present.

    Returns:
        The map of w [d].

    Raises:
        TypeError, ValueError: a number of the wrong kind, range or shape; only one of s and J.

    Reference:
        Dinh, Tran, Nguyen, NeurIPS 2020, Algorithm 1.

    Departures:
        Weights p; the paper's are equal. `carry_over` is what the authors' code does.
    """
    if not isinstance(carry_over, bool):
        raise TypeError(f"carry_over must be True or False, got {short(carry_over)}: False starts at w_k")
    omega, _ = shares(functions, present)
    lam = number("lam", lam, above=0, remedy="it holds personal models to the centre; at 0 nothing moves")
    exact = personal_learning_rate is None
    require(
        exact == (inner_steps is None),
        "personal_learning_rate and inner_steps must be given together, got only one of them: without both "
        "inner solutions are exact",
    )
    done = work(functions.count, learning_rate, steps)
    inner = None if exact else work(functions.count, personal_learning_rate, inner_steps, mu=lam)

    def local(values: Array) -> Array:
        solved = 1 / (values + lam) if inner is None else local_filter(values, inner)
        if inner is None or not carry_over:
            return preconditioned(values, lam * solved, done)
        return _carried(values, lam, solved, done)

    return filtered(functions, spectral(functions.A, local), omega, server_learning_rate)


def _carried(values: Array, lam: Array, solved: Array, done: Work) -> Array:
    """W where theta is carried over, at the eigenvalues of the A_k; float [N, d]."""
    last = done.rates.shape[0] - 1

    def local_round(j: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        moved, theta = carry
        nearer = theta + solved * (1 - (values + lam) * theta + lam * moved)
        further = moved + done.rates[jnp.minimum(j, last)] * lam * (nearer - moved)
        on = (j < done.steps)[:, None]
        return jnp.where(on, further, moved), jnp.where(on, nearer, theta)

    zero = jnp.zeros_like(values)
    return jax.lax.fori_loop(0, jnp.max(done.steps), local_round, (zero, zero))[0]
