"""Everyone, or a cohort drawn uniformly without replacement."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from fedjax_het import keys
from fedjax_het.check import positive_int, require
from fedjax_het.engine.sampling.sampler import Draw, full
from fedjax_het.permutation import permute
from fedjax_het.typing import Array, Key, PyTree, static

__all__ = ["Everyone", "Uniform", "everyone", "uniform"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Everyone:
    """All N clients, every round."""

    def init(self, num_clients: int) -> PyTree:
        """Nothing to remember."""
        return ()

    def draw(
        self, state: PyTree, key: Key, round_: Array, sizes: Array, last_loss: Array
    ) -> tuple[Draw, PyTree]:
        """See `Sampler`."""
        return full(jnp.arange(sizes.shape[0], dtype=jnp.int32)), state


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Uniform:
    """`size` of the N clients, uniformly without replacement."""

    size: int = static()

    def init(self, num_clients: int) -> PyTree:
        """Nothing to remember.

        Raises:
            ValueError: more cohort than clients.
        """
        require(
            self.size <= num_clients,
            f"cohort size must be <= the number of clients, got {self.size} of {num_clients}: "
            "draw fewer, or use sampling.everyone()",
        )
        return ()

    def draw(
        self, state: PyTree, key: Key, round_: Array, sizes: Array, last_loss: Array
    ) -> tuple[Draw, PyTree]:
        """See `Sampler`. The first C entries of a random permutation: the cost does not grow with N."""
        num_clients = sizes.shape[0]
        self.init(num_clients)
        slots = jnp.arange(self.size, dtype=jnp.int32)
        return full(jnp.sort(permute(slots, jnp.asarray(num_clients), keys.seed(key)))), state


def everyone() -> Everyone:
    """Full participation."""
    return Everyone()


def uniform(size: int) -> Uniform:
    """`size` clients a round, uniformly without replacement.

    Raises:
        TypeError, ValueError: `size` is not a whole number of at least 1.
    """
    return Uniform(positive_int("size", size, remedy="a cohort has at least one client"))
