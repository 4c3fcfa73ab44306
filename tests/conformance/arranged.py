"""Any sampler's cohort in another order of slots, with absent slots, with some clients sent home."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het.engine.sampling import Draw
from fedjax_het.typing import Array, Key, PyTree

__all__ = ["Arranged"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Arranged:
    """Slot i takes the client in slot order[i] of `inner`, and is absent where order[i] is past the last one.

    The order is a leaf, so all arrangements of one number of slots are one program. Ids need not ascend.

    Attributes:
        inner: the sampler.
        order: int32 [C].
    """

    inner: Any
    order: Array

    def init(self, num_clients: int) -> PyTree:
        """The inner sampler's."""
        return self.inner.init(num_clients)

    def draw(
        self, state: PyTree, key: Key, round_: Array, sizes: Array, last_loss: Array
    ) -> tuple[Draw, PyTree]:
        """The inner draw, rearranged."""
        draw, state = self.inner.draw(state, key, round_, sizes, last_loss)
        slots = draw.id.shape[0]
        picked = jnp.minimum(self.order, slots - 1)
        ids = jnp.where(self.order < slots, draw.id[picked], sizes.shape[0])
        return Draw(ids.astype(jnp.int32), draw.multiplicity[picked], draw.work[picked]), state
