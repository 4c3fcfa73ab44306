"""Rounds as compiled functions: the round is an argument, so one program serves all that differ in numbers."""

from __future__ import annotations

import jax

import fedjax_het as fh
from fedjax_het.engine.blocks import block

__all__ = ["begin", "many_rounds", "one_client", "one_round"]

one_round = jax.jit(lambda round_fn, algorithm, state, federation: round_fn(algorithm, state, federation))
many_rounds = jax.jit(block, static_argnames="rounds")
one_client = jax.jit(fh.replay)
_initial = jax.jit(
    lambda round_fn, algorithm, federation, key: fh.initial_state(
        algorithm, federation, key=key, round_fn=round_fn
    )
)


def begin(
    round_fn: fh.engine.Round, algorithm: object, federation: fh.Federation, *, seed: int = 0
) -> fh.State:
    """The state before round 0."""
    return _initial(round_fn, algorithm, federation, jax.random.key(seed))
