"""Clients that come and go, and stay for a while."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from fedjax_het.check import number, require
from fedjax_het.engine.sampling.available import Available, available
from fedjax_het.engine.sampling.fits import each, expect_each
from fedjax_het.engine.sampling.race import coins
from fedjax_het.typing import Array, Key

__all__ = ["Markov", "markov"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Markov:
    """See `markov`; `leave` and `join` are scalars or float [N]."""

    leave: Array
    join: Array

    def init(self, num_clients: int) -> Array:
        """Who was available last, bool [N]; not read in round 0, which draws from the stationary law.

        Raises:
            ValueError: not one probability a client.
        """
        expect_each("leave", self.leave, num_clients)
        expect_each("join", self.join, num_clients)
        return jnp.zeros((num_clients,), bool)

    def on(self, state: Array, key: Key, round_: Array, sizes: Array) -> tuple[Array, Array]:
        """See `Pattern`."""
        num_clients = sizes.shape[0]
        leave, join = each(self.leave, num_clients), each(self.join, num_clients)
        moved = jnp.where(state, 1 - leave, join)
        chance = jnp.where(round_ == 0, join / (join + leave), moved)
        on = coins(key, num_clients) < chance.astype(jnp.float32)
        return on, on


def markov(size: int, *, leave: Any, join: Any) -> Available:
    """`size` clients a round from those that a two-state Markov chain, one a client, has available.

    P(off | on) = leave and P(on | off) = join, so a stay lasts 1/leave rounds on average, an absence 1/join,
    and a client is available for join/(join + leave) of the time: from round 0 on, which is drawn from that.

    Args:
        size: clients of a cohort.
        leave: probability that an available client is gone in the next round; a number, or one each, [N].
        join: probability that one who is away is back in the next round; as `leave`.

    Raises:
        TypeError: not numbers.
        ValueError: probabilities outside [0, 1], or both 0; `size` below 1.

    Reference: Rodio et al., "Federated Learning under Heterogeneous and Correlated Client Availability",
    INFOCOM 2023 (their clients are such chains; their correction of the weights is not part of this).
    """
    leave = number("leave", leave, least=0, most=1, remedy="it is a probability")
    join = number("join", join, least=0, most=1, remedy="it is a probability")
    if not isinstance(leave, Tracer) and not isinstance(join, Tracer):
        sides = {leave.shape, join.shape} - {()}
        require(
            len(sides) < 2,
            f"leave and join must have as many numbers, got shapes {leave.shape} and {join.shape}: list one a "
            "client, or give one for all",
        )
        require(
            bool(np.all(np.asarray(leave) + np.asarray(join) > 0)),
            "leave and join must not both be 0, got a client that never moves: use intermittent, with chances "
            "of 0 and 1",
        )
    return available(size, Markov(leave, join))
