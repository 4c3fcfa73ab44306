"""Stragglers: around any sampler, a keyed fraction of the cohort does part of its work, or none."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import keys
from fedjax_het.check import known, number
from fedjax_het.engine.sampling import Draw
from fedjax_het.typing import Array, Key, PyTree, static

__all__ = ["Stragglers", "stragglers"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Stragglers:
    """See `stragglers`."""

    inner: Any
    fraction: Array
    policy: str = static()

    def init(self, num_clients: int) -> PyTree:
        """The inner sampler's."""
        return self.inner.init(num_clients)

    def draw(
        self, state: PyTree, key: Key, round_: Array, sizes: Array, last_loss: Array
    ) -> tuple[Draw, PyTree]:
        """The inner cohort, unchanged in who was drawn; coins depend on (round, client) alone."""
        drawn, state = self.inner.draw(state, key, round_, sizes, last_loss)
        coins = jax.vmap(keys.client, (None, 0))(keys.stream(key, "stragglers"), drawn.id)
        late, share = jax.vmap(lambda coin: jax.random.uniform(coin, (2,), drawn.work.dtype), out_axes=1)(coins)
        late = late < self.fraction
        if self.policy == "keep":
            return drawn._replace(work=jnp.where(late, share * drawn.work, drawn.work)), state
        if self.policy == "idle":
            return drawn._replace(work=jnp.where(late, 0, drawn.work)), state
        ids = jnp.where(late, sizes.shape[0], drawn.id)
        order = jnp.argsort(ids, stable=True)
        return Draw(ids[order], drawn.multiplicity[order], drawn.work[order]), state


def stragglers(inner: Any, *, fraction: Any = 0.3, policy: str = "keep") -> Stragglers:
    """A fraction of the cohort is late.

    Args:
        inner: who is drawn.
        fraction: probability that a client is late, in [0, 1]; a leaf.
        policy: "keep" (work uniform in (0, 1): what FedProx aggregates), "idle" (work 0) or
            "drop" (an absent slot); with either, the mean is over those left.
    """
    known("policy", policy, ("keep", "idle", "drop"))
    return Stragglers(inner, number("fraction", fraction, least=0, most=1), policy)
