"""Stragglers without work: the shipped ones, with work 0 for what they would have done."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

import fedjax_het as fh
from fedjax_het.engine.sampling import Draw
from fedjax_het.typing import Array, Key, PyTree

__all__ = ["Idle", "idle"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Idle:
    """See `idle`."""

    inner: Any

    def init(self, num_clients: int) -> PyTree:
        """The inner sampler's."""
        return self.inner.init(num_clients)

    def draw(
        self, state: PyTree, key: Key, round_: Array, sizes: Array, last_loss: Array
    ) -> tuple[Draw, PyTree]:
        """The inner cohort, unchanged in who was drawn."""
        drawn, state = self.inner.draw(state, key, round_, sizes, last_loss)
        return drawn._replace(work=jnp.where(drawn.work < 1, 0, drawn.work)), state


def idle(inner: Any, fraction: Any) -> Idle:
    """A fraction of the cohort is late and has done nothing: work 0, in a slot that names the client."""
    return Idle(fh.sampling.stragglers(inner, fraction, epochs=2))
