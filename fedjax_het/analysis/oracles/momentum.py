"""Momentum at the server, around any round without memory."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from fedjax_het.analysis.oracles.affine import Affine
from fedjax_het.analysis.oracles.double import double
from fedjax_het.check import number

__all__ = ["server_momentum"]


@double
def server_momentum(
    round_map: Affine, *, beta: Any, server_learning_rate: Any = 1.0, nesterov: bool = False
) -> Affine:
    """A round with momentum at the server: m <- beta m + Delta;  w <- w + eta_g m.

    Delta is what the round without it adds to w; Nesterov's has w <- w + eta_g (beta m + Delta). No server
    optimiser moves the limit, which is (w_inf, 0): it is where Delta vanishes.

    Args:
        round_map: the round with eta_g = 1, on w [d].
        beta: in [0, 1).
        server_learning_rate: eta_g > 0.
        nesterov: whether to look ahead.

    Returns:
        The map of (w, m) [2 d].

    Raises:
        TypeError, ValueError: a number of the wrong kind or range.

    Reference:
        Hsu, Qi, Brown, 2019, "Measuring the effects of non-identical data distribution for federated visual
        classification" (FedAvgM).
    """
    beta = number("beta", beta, least=0, below=1, remedy="0.9 is usual")
    rate = number("server_learning_rate", server_learning_rate, above=0, remedy="1 adds the mean as it is")
    identity = jnp.eye(round_map.offset.shape[0], dtype=round_map.matrix.dtype)
    update, constant = round_map.matrix - identity, round_map.offset
    new, held = (1 + beta, beta * beta) if nesterov else (jnp.ones_like(beta), beta)
    matrix = jnp.block([[identity + rate * new * update, rate * held * identity], [update, beta * identity]])
    return Affine(matrix, jnp.concatenate([rate * new * constant, constant]))
