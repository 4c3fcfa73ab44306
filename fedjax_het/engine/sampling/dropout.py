"""Drawn clients that never answer."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het.check import number
from fedjax_het.engine.sampling.fits import each, expect_each
from fedjax_het.engine.sampling.nesting import client_words
from fedjax_het.engine.sampling.race import below
from fedjax_het.engine.sampling.sampler import Draw, Sampler, without
from fedjax_het.typing import Array, Key, PyTree

__all__ = ["Dropout", "dropout"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Dropout:
    """See `dropout`; `chance` is a scalar or float [N]."""

    inner: Sampler
    chance: Array

    def init(self, num_clients: int) -> PyTree:
        """The inner sampler's.

        Raises:
            ValueError: not one chance a client; what the inner sampler raises.
        """
        expect_each("chance", self.chance, num_clients)
        return self.inner.init(num_clients)

    def draw(
        self, state: PyTree, key: Key, round_: Array, sizes: Array, last_loss: Array
    ) -> tuple[Draw, PyTree]:
        """See `Sampler`. Draws as the inner sampler does, then flips the coins of those drawn."""
        drawn, state = self.inner.draw(state, key, round_, sizes, last_loss)
        num_clients = sizes.shape[0]
        chance = each(self.chance, num_clients).at[drawn.id].get(mode="clip").astype(jnp.float32)
        gone = below(client_words(self, key, drawn.id)[:, 0]) < chance
        return without(drawn, gone, num_clients), state


def dropout(inner: Sampler, chance: Any) -> Dropout:
    """Around any sampler: each client drawn never answers with this probability, and its slot is absent.

    Weights are over those who answer, as if the others had not been drawn: `per_draw` is to be told `draws` if
    a draw that was lost shall count.

    Coins belong to (run key, round, client): they do not depend on the method, nor on who else was drawn.

    Args:
        inner: who is drawn.
        chance: in [0, 1]; a number, or one for each client, [N]. A leaf.

    Raises:
        TypeError: not numbers.
        ValueError: chances outside [0, 1].
    """
    return Dropout(inner, number("chance", chance, least=0, most=1, remedy="it is a probability"))
