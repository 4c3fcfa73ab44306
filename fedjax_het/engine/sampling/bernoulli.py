"""Every client by its own coin, in a declared number of slots."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from fedjax_het.check import number, positive_int, require
from fedjax_het.engine.sampling.fits import each, expect_each, expect_fits
from fedjax_het.engine.sampling.race import coins, lowest
from fedjax_het.engine.sampling.sampler import Draw, some
from fedjax_het.typing import Array, Key, static

__all__ = ["Bernoulli", "bernoulli", "slots_for"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Bernoulli:
    """See `bernoulli`; `chance` is a scalar or float [N]."""

    chance: Array
    slots: int = static()

    def init(self, num_clients: int) -> Array:
        """How many clients came and found no slot so far: 0, int32 scalar.

        Raises:
            ValueError: not one chance a client; more slots than clients, or fewer than clients expected.
        """
        expect_each("chance", self.chance, num_clients)
        expect_fits("slots", self.slots, num_clients)
        if not isinstance(self.chance, Tracer):
            expected = float(np.sum(np.broadcast_to(np.asarray(self.chance, np.float64), num_clients)))
            require(
                self.slots >= expected - 1e-6 * num_clients,
                f"slots must be >= the {expected:.6g} clients expected of {num_clients}, got {self.slots}: "
                f"slots={slots_for(self.chance, num_clients)} are practically never too few",
            )
        return jnp.zeros((), jnp.int32)

    def draw(self, state: Array, key: Key, round_: Array, sizes: Array, last_loss: Array) -> tuple[Draw, Array]:
        """See `Sampler`. One pass over the N clients."""
        num_clients = sizes.shape[0]
        chance = each(self.chance, num_clients).astype(jnp.float32)
        coin = coins(key, num_clients)
        came = coin < chance
        # given that it came, coin/chance is uniform: whom the last slots go to does not depend on chances
        ids = lowest(jnp.where(came, coin / jnp.where(came, chance, 1), jnp.inf), self.slots)
        unseated = jnp.maximum(jnp.sum(came, dtype=jnp.int32) - self.slots, 0)
        return some(ids, num_clients), state + unseated


def slots_for(chance: Any, num_clients: int) -> int:
    """Slots that practically every cohort of `bernoulli` fits into.

    Mean + 6 standard deviations + 5, at most N: more clients come in fewer than one round in 10**8.

    Args:
        chance: a number, or one for each client, [N].
        num_clients: N.

    Raises:
        TypeError, ValueError: see `bernoulli`.
    """
    num_clients = positive_int("num_clients", num_clients)
    expect_each("chance", number("chance", chance, least=0, most=1), num_clients)
    chances = np.broadcast_to(np.asarray(chance, np.float64), num_clients)
    deviation = math.sqrt(float(np.sum(chances * (1 - chances))))
    return max(1, min(num_clients, math.ceil(float(chances.sum()) + 6 * deviation + 5)))


def bernoulli(chance: Any, *, slots: int) -> Bernoulli:
    """Each client takes part by its own coin, independently; the cohort may be empty.

    An empty round changes nothing but the round's number. With weights p_k/chance_k the expected step is that
    of full participation (Horvitz and Thompson), as long as everyone who comes is seated. Past `slots`, those
    left out are chosen at random among all who came; the sampler's state counts them, so that a run can say
    how many there were.

    Args:
        chance: probability that a client takes part, in [0, 1]; a number, or one for each client, [N]. A leaf.
        slots: the most clients of a cohort; it fixes shapes. `slots_for(chance, N)` are practically enough.

    Raises:
        TypeError: not numbers.
        ValueError: chances outside [0, 1]; `slots` below 1, above N, or below the mean of the cohort (the last
            two when a run starts).

    Departures: public code draws again until somebody came; here an empty round stays empty, since
    otherwise chances of small federations are not those declared.
    """
    kept = number("chance", chance, least=0, most=1, remedy="it is a probability")
    return Bernoulli(kept, positive_int("slots", slots, remedy="a cohort has room for at least one client"))
