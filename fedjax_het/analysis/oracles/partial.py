"""Partial averaging: some coordinates are shared, the others each client's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from fedjax_het.analysis.oracles.affine import Affine, affine_probe
from fedjax_het.analysis.oracles.averages import shares
from fedjax_het.analysis.oracles.double import double
from fedjax_het.analysis.oracles.filters import Work, local_filter, spectral, times, work
from fedjax_het.analysis.oracles.functions import Quadratics
from fedjax_het.analysis.oracles.joint import Joint
from fedjax_het.check import number, positive_ints, require, short
from fedjax_het.typing import Array

__all__ = ["partial"]


@double
def partial(
    functions: Quadratics,
    *,
    personal: Sequence[int],
    learning_rate: Any,
    steps: Any = None,
    own_learning_rate: Any = None,
    own_steps: Any = None,
    server_learning_rate: Any = 1.0,
    present: Any = None,
) -> Affine:
    """A round of partial averaging with full batches, of shared coordinates u and personal ones v_k.

    Jointly (FedPer, LG-FedAvg, FedSim): (u_k, v_k) <- local steps on F_k from (u, v_k). In turns, with steps of
    their own (FedRep, FedAlt): v_k <- own steps on F_k(u, .) from v_k, and then u_k <- local steps on
    F_k(., v_k) from u. Both: u <- u + eta_g sum_k omega_k (u_k - u), and v_k stays with its client. With all
    coordinates personal it is local training.

    In turns, the limit is the joint minimum of sum_k p_k F_k(u, v_k) if the shared part takes one step of equal
    length; local steps on all coordinates move it, as FedAvg's do.

    Args:
        functions: the clients'.
        personal: the numbers of the personal coordinates, 0 <= i < d; static, since they fix a shape.
        learning_rate: eta > 0, or eta_j of each local step [J].
        steps: >= 0, equal or one for each client [N]; J if None.
        own_learning_rate: that of own steps; as `learning_rate` if None.
        own_steps: own steps; None for joint ones.
        server_learning_rate: eta_g > 0.
        present: who takes part, bool [N]; everyone if None. The others' v_k stay.

    Returns:
        The map of (u, v_1 .. v_N), flat [s + N q] for q personal coordinates and s = d - q shared ones, each
        part in the order of the coordinates.

    Raises:
        TypeError, ValueError: a number of the wrong kind, range or shape; no personal coordinate, one named
            twice, or in turns no shared one.

    Reference:
        Pillutla, Malik, Mohamed, Rabbat, Sanjabi, Xiao, ICML 2022 (FedSim, FedAlt); Arivazhagan, Aggarwal,
        Singh, Choudhary, arXiv 1912.00818, 2019 (FedPer); Collins, Hassani, Mokhtari, Shakkottai, ICML 2021
        (FedRep); Liang et al., arXiv 2001.01523, 2020 (LG-FedAvg).
    """
    omega, here = shares(functions, present)
    numbers = positive_ints("personal", personal, least=0, remedy="they are coordinates, such as [0, 2]")
    kept = np.unique(np.asarray(numbers, int))
    require(
        0 < len(kept) == len(numbers) and int(kept[-1]) < functions.dimension,
        f"personal must be different coordinates below {functions.dimension}, at least one, got "
        f"{short(personal)}: leave the shared ones out",
    )
    rest = np.setdiff1d(np.arange(functions.dimension), kept)
    require(
        own_steps is None or len(rest) > 0,
        f"personal must leave a coordinate to share, got {short(personal)}: own_steps=None trains all jointly",
    )
    require(
        own_steps is not None or own_learning_rate is None,
        "own_steps must be given with own_learning_rate, got None: without both all train jointly",
    )
    rate = number("server_learning_rate", server_learning_rate, above=0, remedy="1 adds the mean as it is")
    done = work(functions.count, learning_rate, steps)
    if own_steps is None:
        local = _together(functions, rest, kept, done)
    else:
        pace = learning_rate if own_learning_rate is None else own_learning_rate
        local = _in_turns(functions, rest, kept, done, work(functions.count, pace, own_steps))

    def step(state: Joint) -> Joint:
        u, v = local(*state)
        delta = jnp.where(here[:, None], u - state.point[None], 0)
        point = state.point + rate * jnp.matmul(omega, delta, precision="highest")
        return Joint(point, jnp.where(here[:, None], v, state.control))

    zero = jnp.zeros_like(functions.b)
    return affine_probe(step, Joint(zero[0, rest], zero[:, kept]))[0]


def _together(functions: Quadratics, rest: np.ndarray, kept: np.ndarray, done: Work) -> Any:
    """(u, v) -> (u_k, v_k) of steps on all coordinates."""
    filters = spectral(functions.A, lambda values: local_filter(values, done))

    def local(u: Array, v: Array) -> tuple[Array, Array]:
        start = jnp.zeros_like(functions.b).at[:, rest].set(u[None]).at[:, kept].set(v)
        end = start - times(filters, times(functions.A, start) - functions.b)
        return end[:, rest], end[:, kept]

    return local


def _in_turns(functions: Quadratics, rest: np.ndarray, kept: np.ndarray, done: Work, own: Work) -> Any:
    """(u, v) -> (u_k, v_k) of steps on the personal coordinates first, and then on the shared ones."""
    A, b = functions.A, functions.b
    across = A[:, kept][:, :, rest]
    bent, flat = A[:, kept][:, :, kept], A[:, rest][:, :, rest]
    first = spectral(bent, lambda values: local_filter(values, own))
    then = spectral(flat, lambda values: local_filter(values, done))

    def local(u: Array, v: Array) -> tuple[Array, Array]:
        u = jnp.broadcast_to(u, (functions.count, len(rest)))
        v = v - times(first, times(bent, v) + times(across, u) - b[:, kept])
        slope = times(flat, u) + times(jnp.swapaxes(across, 1, 2), v) - b[:, rest]
        return u - times(then, slope), v

    return local
