"""A sampler that looks at losses and remembers: of some candidates, those that did worst when last seen."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from fedjax_het.check import positive_int, require
from fedjax_het.engine.sampling import Draw, full
from fedjax_het.typing import Array, Key, static

__all__ = ["PowerOfChoice", "power_of_choice"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PowerOfChoice:
    """See `power_of_choice`."""

    size: int = static()
    candidates: int = static()

    def init(self, num_clients: int) -> Array:
        """How often each was drawn, int32 [N]."""
        require(
            self.candidates <= num_clients,
            f"candidates must be <= the number of clients, got {self.candidates} of {num_clients}: ask fewer",
        )
        return jnp.zeros((num_clients,), jnp.int32)

    def draw(self, state: Array, key: Key, round_: Array, sizes: Array, last_loss: Array) -> tuple[Draw, Array]:
        """Candidates by a Gumbel draw in proportion to sizes; then the largest loss, then the fewest draws."""
        chances = jnp.log(sizes.astype(last_loss.dtype)) + jax.random.gumbel(key, sizes.shape, last_loss.dtype)
        asked = jax.lax.top_k(chances, self.candidates)[1]
        worst = jnp.lexsort((state[asked], -last_loss[asked], (sizes[asked] == 0).astype(jnp.int32)))
        ids = jnp.sort(asked[worst[: self.size]]).astype(jnp.int32)
        return full(ids), state.at[ids].add(1)


def power_of_choice(size: int, *, candidates: int | None = None) -> PowerOfChoice:
    """`size` of `candidates` clients (default one more), a client never seen before all others."""
    size = positive_int("size", size)
    return PowerOfChoice(size, positive_int("candidates", candidates or size + 1, least=size))
