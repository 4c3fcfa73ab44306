"""A script of cohorts whose clients do a part of their work."""

import dataclasses

import jax
import jax.numpy as jnp

from fedjax_het.engine.sampling import Draw


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Late:
    """Cohorts `ids` int32 [rounds, C], ascending; fractions of work `work` float [rounds, C]; repeats."""

    ids: jax.Array
    work: jax.Array

    def init(self, num_clients):
        return ()

    def draw(self, state, key, round_, sizes, last_loss):
        row = round_ % self.ids.shape[0]
        work = self.work[row]
        return Draw(self.ids[row], jnp.ones_like(work), work), state


def late(ids, work):
    """A `Late` from nested lists."""
    return Late(jnp.asarray(ids, jnp.int32), jnp.asarray(work, jnp.result_type(float)))
