"""Blocks: several rounds as one pure function."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het.check import positive_int
from fedjax_het.engine.rounds import Round
from fedjax_het.engine.state import State
from fedjax_het.federation import Federation
from fedjax_het.typing import Array

__all__ = ["block", "make_block", "up_to"]


def block(
    round_fn: Round, algorithm: Any, state: State, federation: Federation, *, rounds: int
) -> tuple[State, dict[str, Any]]:
    """`rounds` rounds under one scan; pure. Logs gain a leading axis of rounds."""

    def step(state: State, _: None) -> tuple[State, dict[str, Any]]:
        return round_fn(algorithm, state, federation)

    return jax.lax.scan(step, state, None, length=rounds)


def up_to(
    round_fn: Round, algorithm: Any, state: State, federation: Federation, count: Array, *, most: int
) -> tuple[State, dict[str, Any]]:
    """`count` rounds, int32 scalar, at most `most`: one program for every count, and the same bits.

    A loop of a known single round is unrolled and compiled to other bits, so a run cut elsewhere would not
    equal the whole one. Logs have a leading axis of `most`, of which the first `count` are filled.
    """
    _, shapes = jax.eval_shape(lambda *given: round_fn(*given), algorithm, state, federation)
    logs = jax.tree.map(lambda leaf: jnp.zeros((most, *leaf.shape), leaf.dtype), shapes)

    def step(i: Array, carry: tuple[State, dict[str, Any]]) -> tuple[State, dict[str, Any]]:
        state, logs = carry
        state, log = round_fn(algorithm, state, federation)
        return state, jax.tree.map(lambda all_, one: all_.at[i].set(one), logs, log)

    return jax.lax.fori_loop(0, count, step, (state, logs))


def make_block(round_fn: Round, rounds: int) -> Any:
    """`rounds` rounds as one pure function (algorithm, state, federation) -> (state, logs).

    Jit it, vmap it over seeds (`state`) or over an algorithm's leaves, shard it, differentiate it. It is a
    pytree callable whose leaves are the sampler's and the measures' numbers.

    Raises:
        TypeError, ValueError: not a round, or not a whole number of at least one round.
    """
    if not isinstance(round_fn, Round):
        raise TypeError(f"round_fn must be a Round, got {type(round_fn).__name__}: make one with fh.make_round")
    rounds = positive_int("rounds", rounds, remedy="a block has at least one")
    return jax.tree_util.Partial(_Block(rounds), round_fn)


@dataclasses.dataclass(frozen=True)
class _Block:
    """`block` with its static length fixed, equal to another of the same length."""

    rounds: int

    def __call__(self, round_fn: Round, algorithm: Any, state: State, federation: Federation) -> Any:
        return block(round_fn, algorithm, state, federation, rounds=self.rounds)
