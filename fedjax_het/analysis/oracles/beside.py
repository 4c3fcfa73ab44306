"""Ditto and APFL: a model of each client's own beside a global one, which is FedAvg's."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het.analysis.oracles.affine import Affine, affine_probe
from fedjax_het.analysis.oracles.averages import shares
from fedjax_het.analysis.oracles.double import double
from fedjax_het.analysis.oracles.filters import Work, local_filter, spectral, times, work
from fedjax_het.analysis.oracles.functions import Quadratics
from fedjax_het.analysis.oracles.joint import Joint, blank
from fedjax_het.check import number
from fedjax_het.typing import Array

__all__ = ["apfl", "ditto"]


@double
def ditto(
    functions: Quadratics,
    *,
    lam: Any,
    learning_rate: Any,
    steps: Any = None,
    personal_learning_rate: Any = None,
    personal_steps: Any = None,
    server_learning_rate: Any = 1.0,
    present: Any = None,
) -> Affine:
    """A round of Ditto with full batches: w by FedAvg, and v_k by steps on F_k(v) + lam/2 |v - w|^2 from v_k.

    v_k <- v_k - S'_k (grad F_k(v_k) + lam (v_k - w)), S'_k = (I - (I - eta H_k)^tau_k) H_k^-1,
    H_k = A_k + lam I, and w that of the round's start. In the limit v_k = H_k^-1 (b_k + lam w_inf) with
    FedAvg's w_inf, however many steps it takes: the bias of w is in every personal model.

    Args:
        functions: the clients'; equal p are the paper's method.
        lam: lambda >= 0; 0 is local training.
        learning_rate: eta > 0 of the global track, or eta_j of each local step [J].
        steps: >= 0, equal or one for each client [N]; J if None.
        personal_learning_rate: that of the personal track; as the global one's if None.
        personal_steps: those of the personal track; as the global one's if None.
        server_learning_rate: eta_g > 0.
        present: who takes part, bool [N]; everyone if None. The others' v_k stay.

    Returns:
        The map of (w, v_1 .. v_N) [d + N d], see `joint`.

    Raises:
        TypeError, ValueError: a number of the wrong kind, range or shape.

    Reference:
        Li, Hu, Beirami, Smith, ICML 2021, Algorithm 1.
    """
    omega, here = shares(functions, present)
    lam = number("lam", lam, least=0, remedy="0 is local training")
    rate = number("server_learning_rate", server_learning_rate, above=0, remedy="1 adds the mean as it is")
    done = work(functions.count, learning_rate, steps)
    pace = learning_rate if personal_learning_rate is None else personal_learning_rate
    own = work(functions.count, pace, steps if personal_steps is None else personal_steps, mu=lam)
    shared = spectral(functions.A, lambda values: local_filter(values, done))
    personal = spectral(functions.A, lambda values: local_filter(values, own))

    def step(state: Joint) -> Joint:
        w, v = state
        delta = jnp.where(here[:, None], -times(shared, functions.gradients(w)), 0)
        pull = times(functions.A, v) - functions.b + lam * (v - w[None])
        moved = jnp.where(here[:, None], v - times(personal, pull), v)
        return Joint(w + rate * jnp.matmul(omega, delta, precision="highest"), moved)

    return affine_probe(step, blank(functions))[0]


@double
def apfl(
    functions: Quadratics,
    *,
    alpha: Any,
    learning_rate: Any,
    steps: Any = None,
    server_learning_rate: Any = 1.0,
    present: Any = None,
) -> Affine:
    """A round of APFL with full batches and shares that stay: w by FedAvg, and v_k beside its local steps.

    A local step from y_k = w is

        v_k <- v_k - eta alpha grad F_k(alpha v_k + (1 - alpha) y_k);   y_k <- y_k - eta grad F_k(y_k)

    and v_k ends at v_k - X grad F_k(v_k) - Y grad F_k(w), where W = X = Y = 0 at first and a step does

        X <- X + eta alpha^2 (I - A_k X)
        Y <- Y + eta alpha ((1 - alpha) (I - A_k W) - alpha A_k Y)
        W <- W + eta (I - A_k W)

    With one local step the limit of alpha v_k + (1 - alpha) w is a_k, the client's own minimum, whatever
    alpha > 0: v_k makes up for w. With more it is only near it.

    Args:
        functions: the clients'; equal p are the library's default.
        alpha: in [0, 1], one for all or one for each client [N]. With 0 nothing moves v_k, and the map has the
            eigenvalue 1.
        learning_rate: eta > 0, or eta_j of each local step [J].
        steps: >= 0, equal or one for each client [N]; J if None.
        server_learning_rate: eta_g > 0.
        present: who takes part, bool [N]; everyone if None. The others' v_k stay.

    Returns:
        The map of (w, v_1 .. v_N) [d + N d], see `joint`.

    Raises:
        TypeError, ValueError: a number of the wrong kind, range or shape.

    Reference:
        Deng, Kamani, Mahdavi, arXiv 2003.13461, 2020, Algorithm 1.
    """
    omega, here = shares(functions, present)
    alpha = number("alpha", alpha, least=0, most=1, remedy="0 is FedAvg, 1 is local training")
    alpha = jnp.broadcast_to(alpha, functions.p.shape)[:, None]
    rate = number("server_learning_rate", server_learning_rate, above=0, remedy="1 adds the mean as it is")
    done = work(functions.count, learning_rate, steps)
    shared = spectral(functions.A, lambda values: local_filter(values, done))
    own = spectral(functions.A, lambda values: _mixed(values, alpha, done)[0])
    drawn = spectral(functions.A, lambda values: _mixed(values, alpha, done)[1])

    def step(state: Joint) -> Joint:
        w, v = state
        slope = functions.gradients(w)
        delta = jnp.where(here[:, None], -times(shared, slope), 0)
        moved = v - times(own, times(functions.A, v) - functions.b) - times(drawn, slope)
        point = w + rate * jnp.matmul(omega, delta, precision="highest")
        return Joint(point, jnp.where(here[:, None], moved, v))

    return affine_probe(step, blank(functions))[0]


def _mixed(values: Array, alpha: Array, done: Work) -> tuple[Array, Array]:
    """X and Y of `apfl` at the eigenvalues of the A_k, each float [N, d]."""
    last = done.rates.shape[0] - 1

    def step(j: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        own, drawn, shared = carry
        rate = done.rates[jnp.minimum(j, last)]
        left = 1 - values * shared
        after = (
            own + rate * alpha**2 * (1 - values * own),
            drawn + rate * alpha * ((1 - alpha) * left - alpha * values * drawn),
            shared + rate * left,
        )
        on = (j < done.steps)[:, None]
        x, y, w = (jnp.where(on, new, old) for new, old in zip(after, carry))
        return x, y, w

    zero = jnp.zeros_like(values)
    return jax.lax.fori_loop(0, jnp.max(done.steps), step, (zero, zero, zero))[:2]
