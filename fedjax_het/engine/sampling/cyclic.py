"""Groups of clients that take their turns."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from fedjax_het import keys
from fedjax_het.check import positive_int, require
from fedjax_het.engine.sampling.fits import expect_fits
from fedjax_het.engine.sampling.sampler import Draw, some
from fedjax_het.permutation import permute
from fedjax_het.typing import Array, Key, PyTree, static

__all__ = ["Cyclic", "cyclic"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cyclic:
    """See `cyclic`."""

    size: int = static()
    groups: int | None = static()
    shuffle: bool = static()

    def init(self, num_clients: int) -> PyTree:
        """The seed of the groups, uint32 [2], set in round 0; () if they follow the client numbers.

        Raises:
            ValueError: more cohort than a group has clients.
        """
        expect_fits("size", self.size, num_clients)
        if self.groups is not None:
            require(
                self.size * self.groups <= num_clients,
                f"size must be <= the clients of a group, got {self.size} of {num_clients // self.groups} in "
                f"{self.groups} groups of {num_clients} clients: ask for fewer clients or groups",
            )
        return jnp.zeros((2,), jnp.uint32) if self.shuffle else ()

    def draw(
        self, state: PyTree, key: Key, round_: Array, sizes: Array, last_loss: Array
    ) -> tuple[Draw, PyTree]:
        """See `Sampler`. Entries of random permutations: the cost does not grow with N."""
        num_clients = sizes.shape[0]
        self.init(num_clients)
        groups = -(-num_clients // self.size) if self.groups is None else self.groups
        least, more = divmod(num_clients, groups)
        turn = round_ % groups
        begin, members = turn * least + jnp.minimum(turn, more), least + (turn < more).astype(jnp.int32)
        slots = jnp.arange(self.size, dtype=jnp.int32)
        place = begin + permute(slots, members, keys.seed(keys.stream(key, "drawn")))
        if self.shuffle:
            state = jnp.where(round_ == 0, keys.seed(keys.stream(key, "groups")), state)
            place = permute(place, jnp.asarray(num_clients), state)
        return some(jnp.where(slots < members, place, num_clients), num_clients), state


def cyclic(size: int, *, groups: int | None = None, shuffle: bool = True) -> Cyclic:
    """Clients in groups; round t draws `size` of group t mod G, uniformly without replacement.

    Args:
        size: clients of a cohort.
        groups: G; sizes of groups differ by one at most. None for as many as it takes for whole groups to take
            part, so that every client does so exactly once in a cycle; where N is no multiple of `size`, some
            cohorts then have an absent slot.
        shuffle: groups are drawn once a run, from its key; else they follow the client numbers.

    Raises:
        TypeError: not whole numbers.
        ValueError: `size` or `groups` below 1; when a run starts, `size` above N or above a group.

    Reference: Cho et al., "On the Convergence of Federated Averaging with Cyclic Client Participation", ICML
    2023, Algorithm 1; Eichner et al., "Semi-Cyclic Stochastic Gradient Descent", ICML 2019.
    """
    size = positive_int("size", size, remedy="a cohort has at least one client")
    if groups is not None:
        groups = positive_int("groups", groups, remedy="use None for whole groups")
    return Cyclic(size, groups, bool(shuffle))
