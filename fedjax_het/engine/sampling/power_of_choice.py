"""Of some candidates, those that did worst when last seen."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from fedjax_het.check import positive_int
from fedjax_het.engine.sampling.fits import expect_fits
from fedjax_het.engine.sampling.race import race
from fedjax_het.engine.sampling.sampler import Draw, some
from fedjax_het.typing import Array, Key, PyTree, static

__all__ = ["PowerOfChoice", "power_of_choice"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PowerOfChoice:
    """See `power_of_choice`."""

    size: int = static()
    candidates: int = static()

    def init(self, num_clients: int) -> PyTree:
        """Nothing to remember: the engine keeps the losses.

        Raises:
            ValueError: more candidates than clients.
        """
        expect_fits("candidates", self.candidates, num_clients)
        return ()

    def draw(
        self, state: PyTree, key: Key, round_: Array, sizes: Array, last_loss: Array
    ) -> tuple[Draw, PyTree]:
        """See `Sampler`. One pass over the N clients."""
        num_clients = sizes.shape[0]
        self.init(num_clients)
        asked = race(key, sizes, self.candidates)
        loss = last_loss.at[asked].get(mode="fill", fill_value=-jnp.inf)
        # of equal losses the candidate drawn first: top_k keeps the order
        worst, place = jax.lax.top_k(loss, self.size)
        ids = jnp.where(worst > -jnp.inf, asked[place], num_clients)
        return some(ids, num_clients), state


def power_of_choice(size: int, *, candidates: int) -> PowerOfChoice:
    """`size` of `candidates` clients: those with the largest loss in their last report.

    A of d candidates is drawn without replacement, client k in proportion to n_k; the m of A with the largest
    losses take part. A client that never reported goes before all that did, and among such ones the candidate
    drawn first; an empty client is no candidate. With d = m the losses do not matter; with d = N it is greedy.
    The paper averages such a cohort uniformly (`weighting.uniform()`). It is biased by design, and as losses
    are the method's own, two methods see different cohorts under one key.

    Args:
        size: m, clients of a cohort.
        candidates: d, from m to N.

    Raises:
        TypeError: not whole numbers.
        ValueError: `size` below 1, `candidates` below `size`, or (when a run starts) above N.

    Reference: Cho, Wang, Joshi, "Towards Understanding Biased Client Selection in Federated Learning", AISTATS
    2022 ("Client Selection in Federated Learning: Convergence Analysis and Power-of-Choice Selection
    Strategies", 2020), variant rpow-d.

    Departures: the authors' code draws the first round uniformly; here, as in the paper, by its rule.
    """
    size = positive_int("size", size, remedy="a cohort has at least one client")
    remedy = "ask at least as many as take part"
    return PowerOfChoice(size, positive_int("candidates", candidates, least=size, remedy=remedy))
