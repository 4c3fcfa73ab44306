"""Everyone, or a cohort drawn uniformly, without replacement or with it."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from fedjax_het import keys
from fedjax_het.check import positive_int, require
from fedjax_het.engine.sampling.sampler import Draw, counted, full
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
    """See `uniform`."""

    size: int = static()
    replacement: bool = static()

    def init(self, num_clients: int) -> PyTree:
        """Nothing to remember.

        Raises:
            ValueError: more cohort than clients, without replacement.
        """
        require(
            self.replacement or self.size <= num_clients,
            f"cohort size must be <= the number of clients, got {self.size} of {num_clients}: "
            "draw fewer, use sampling.everyone(), or replacement=True",
        )
        return ()

    def draw(
        self, state: PyTree, key: Key, round_: Array, sizes: Array, last_loss: Array
    ) -> tuple[Draw, PyTree]:
        """See `Sampler`. Entries of a random permutation, or numbers below N: the cost does not grow with N."""
        num_clients = sizes.shape[0]
        self.init(num_clients)
        if self.replacement:
            ids = jax.random.randint(key, (self.size,), 0, num_clients, jnp.int32)
            return counted(ids, num_clients), state
        slots = jnp.arange(self.size, dtype=jnp.int32)
        return full(jnp.sort(permute(slots, jnp.asarray(num_clients), keys.seed(key)))), state


def everyone() -> Everyone:
    """Full participation."""
    return Everyone()


def uniform(size: int, *, replacement: bool = False) -> Uniform:
    """`size` clients a round, uniformly: each of the N registered clients alike, the empty ones included.

    Without replacement this is the sampling of scheme II: with weights (N/m) p_k the expected step is that of
    full participation; with weights that are scaled to sum to 1 over the cohort it is not.

    Args:
        size: m, clients of a cohort, or draws with replacement.
        replacement: m independent draws; a client drawn twice holds one slot and counts twice.

    Raises:
        TypeError, ValueError: `size` is not a whole number of at least 1.

    Reference: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data",
    AISTATS 2017, Algorithm 1; scheme II: Li et al., "On the Convergence of FedAvg on Non-IID Data", ICLR 2020,
    section 3.3.
    """
    return Uniform(positive_int("size", size, remedy="a cohort has at least one client"), bool(replacement))
